"""What the Engine API answers, as frozen values; pure but for one look at this host's GPUs."""

from __future__ import annotations

import re
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from airflow_torchx.core.engine.containers import (
    ContainerDetail,
    ContainerRow,
    EngineInfo,
    NetworkRow,
)
from airflow_torchx.core.engine.images import ImageDetail, ImageRow

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Json = Mapping[str, Any]

_LIVE: Final = ("running", "paused")
#: Docker's way to write "never".
_ZERO_TIME: Final = "0001-01-01T00:00:00Z"
#: Docker's way to write "no name".
_NO_TAG: Final = "<none>:<none>"
_CDI_GPU: Final = "nvidia.com/gpu="
_NVIDIA_GPUS: Final = Path("/proc/driver/nvidia/gpus")


def container_row(answer: Json) -> ContainerRow:
    """Return one line of ``GET /containers/json``."""
    # A link from another container adds a name with two slashes; a dying one has none.
    names = [name[1:] for name in answer.get("Names") or () if "/" not in name[1:]]
    return ContainerRow(
        id=answer["Id"],
        name=names[0] if names else "",
        image=answer.get("Image") or "",
        state=answer.get("State") or "",
        status=answer.get("Status") or "",
        labels=answer.get("Labels") or {},
        created_at=datetime.fromtimestamp(answer.get("Created") or 0, UTC),
    )


def container_detail(answer: Json) -> ContainerDetail:
    """Return what ``GET /containers/{id}/json`` tells."""
    state = answer["State"]
    started_at = parse_time(state.get("StartedAt"))
    has_ended = started_at is not None and state["Status"] not in _LIVE
    return ContainerDetail(
        id=answer["Id"],
        state=state["Status"],
        exit_code=state.get("ExitCode") if has_ended else None,
        oom_killed=bool(state.get("OOMKilled")),
        error=state.get("Error") or "",
        restarts=answer.get("RestartCount") or 0,
        started_at=started_at,
        finished_at=parse_time(state.get("FinishedAt")) if has_ended else None,
    )


def image_row(answer: Json) -> ImageRow:
    """Return one line of ``GET /images/json``."""
    return ImageRow(
        id=answer["Id"],
        tags=tuple(tag for tag in answer.get("RepoTags") or () if tag != _NO_TAG),
        labels=answer.get("Labels") or {},
        created_s=float(answer.get("Created") or 0),
    )


def image_detail(answer: Json) -> ImageDetail:
    """Return what ``GET /images/{name}/json`` tells."""
    config = answer.get("Config") or {}
    return ImageDetail(
        id=answer["Id"],
        user=config.get("User") or "",
        working_dir=config.get("WorkingDir") or "",
        volumes=tuple(sorted(config.get("Volumes") or ())),
        on_build=tuple(config.get("OnBuild") or ()),
    )


def network_row(answer: Json) -> NetworkRow:
    """Return one line of ``GET /networks``."""
    created_at = parse_time(answer.get("Created")) or datetime.fromtimestamp(0, UTC)
    return NetworkRow(id=answer["Id"], name=answer["Name"], created_at=created_at)


def engine_info(answer: Json, *, url: str, api_version: str) -> EngineInfo:
    """Return what ``GET /info`` tells about the daemon at ``url``."""
    is_local = "unix://" in url and answer.get("Name") == socket.gethostname()
    return EngineInfo(
        id=answer.get("ID") or "",
        url=url,
        is_local=is_local,
        version=answer.get("ServerVersion") or "",
        api_version=api_version,
        os=answer.get("OperatingSystem") or answer.get("OSType") or "",
        cpus=answer.get("NCPU") or 0,
        memory_bytes=answer.get("MemTotal") or 0,
        gpu_ids=gpu_ids(answer, local_gpus=_NVIDIA_GPUS if is_local else None),
        runtimes=tuple(sorted(answer.get("Runtimes") or ())),
    )


def gpu_ids(info: Json, *, local_gpus: Path | None) -> tuple[str, ...]:
    """Return the GPU ids of a daemon, from the first source that tells any.

    Args:
        info: the answer of ``GET /info``.
        local_gpus: folder in which NVIDIA's driver lists the GPUs; None for another host.
    """
    return tuple(_cdi_gpus(info)) or tuple(_resource_gpus(info)) or _driver_gpus(info, local_gpus)


def _cdi_gpus(info: Json) -> Iterator[str]:
    """Yield the numbers of devices that Docker itself has discovered, since 28.2."""
    for device in info.get("DiscoveredDevices") or ():
        name = device.get("ID") or ""
        # The same GPU is there again by its UUID, and all of them as "all".
        if name.startswith(_CDI_GPU) and name.removeprefix(_CDI_GPU).isdigit():
            yield name.removeprefix(_CDI_GPU)


def _resource_gpus(info: Json) -> Iterator[str]:
    """Yield the ids that the daemon's administrator has listed as ``node-generic-resources``."""
    for resource in info.get("GenericResources") or ():
        named = resource.get("NamedResourceSpec") or {}
        if "GPU" in (named.get("Kind") or "").upper() and named.get("Value"):
            yield named["Value"]


def _driver_gpus(info: Json, local_gpus: Path | None) -> tuple[str, ...]:
    if local_gpus is None or "nvidia" not in (info.get("Runtimes") or {}):
        return ()
    count = sum(1 for _ in local_gpus.glob("*/information"))
    return tuple(str(index) for index in range(count))


def short_id(container_id: str) -> str:
    """Return an id as `docker ps` shows it; a name stays whole."""
    return container_id[:12] if re.fullmatch("[0-9a-f]{64}", container_id) else container_id


def parse_time(text: str | None) -> datetime | None:
    """Return a time of the Engine API, cut to microseconds; None for Docker's zero time."""
    if not text or text == _ZERO_TIME:
        return None
    return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text))
