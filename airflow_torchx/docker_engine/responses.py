"""Responses of the Engine API as frozen values; pure, except that local GPUs are listed."""

from __future__ import annotations

import re
import socket
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from airflow_torchx.core.engine.containers import (
    ContainerDetail,
    ContainerRow,
    EngineInfo,
    NetworkRow,
    VolumeRow,
)
from airflow_torchx.core.engine.images import ImageDetail, ImageRow
from airflow_torchx.core.engine.labels import without_masked
from airflow_torchx.core.engine.times import parse_time
from airflow_torchx.docker_engine.gpus import NVIDIA_GPUS, gpu_requests, reported_gpus

if TYPE_CHECKING:
    from collections.abc import Mapping

    Json = Mapping[str, Any]

_LIVE: Final = ("running", "paused")
#: Docker writes "untagged" like this.
_NO_TAG: Final = "<none>:<none>"


def container_row(response: Json) -> ContainerRow:
    """Return one entry of ``GET /containers/json``."""
    # A link adds a name with two slashes; a container that is being removed has no name.
    names = [name[1:] for name in response.get("Names") or () if "/" not in name[1:]]
    return ContainerRow(
        id=response["Id"],
        name=names[0] if names else "",
        image=response.get("Image") or "",
        image_id=response.get("ImageID") or "",
        state=response.get("State") or "",
        status=response.get("Status") or "",
        labels=without_masked(response.get("Labels") or {}),
        created_at=datetime.fromtimestamp(response.get("Created") or 0, UTC),
    )


def container_detail(response: Json) -> ContainerDetail:
    """Return the response of ``GET /containers/{id}/json``."""
    state = response["State"]
    started_at = parse_time(state.get("StartedAt"))
    has_ended = started_at is not None and state["Status"] not in _LIVE
    host = response.get("HostConfig") or {}
    policy = host.get("RestartPolicy") or {}
    return ContainerDetail(
        id=response["Id"],
        state=state["Status"],
        exit_code=state.get("ExitCode") if has_ended else None,
        oom_killed=bool(state.get("OOMKilled")),
        error=state.get("Error") or "",
        restarts=response.get("RestartCount") or 0,
        started_at=started_at,
        finished_at=_finished_at(state, started_at) if has_ended and started_at else None,
        gpus=tuple(gpu_requests(host.get("DeviceRequests"))),
        restart_policy="" if policy.get("Name") in (None, "no") else policy["Name"],
        max_restarts=policy.get("MaximumRetryCount") or 0,
        created_at=parse_time(response.get("Created")),
        nano_cpus=host.get("NanoCpus") or None,
        memory_bytes=host.get("Memory") or None,
    )


def _finished_at(state: Json, started_at: datetime) -> datetime | None:
    """Return the end of the last run.

    Docker 20.10 notes the end of a short run first: 0.5 and 34 ms before its start in 2 of 5 runs
    of ``false``.
    """
    finished_at = parse_time(state.get("FinishedAt"))
    return None if finished_at is None else max(finished_at, started_at)


def volume_row(response: Json) -> VolumeRow:
    """Return one entry of ``GET /volumes``."""
    # A plugin may leave the time out.
    created_at = parse_time(response.get("CreatedAt")) or datetime.fromtimestamp(0, UTC)
    return VolumeRow(
        name=response["Name"], labels=response.get("Labels") or {}, created_at=created_at
    )


def image_row(response: Json) -> ImageRow:
    """Return one entry of ``GET /images/json``."""
    return ImageRow(
        id=response["Id"],
        tags=tuple(tag for tag in response.get("RepoTags") or () if tag != _NO_TAG),
        labels=response.get("Labels") or {},
        created_s=float(response.get("Created") or 0),
    )


def image_detail(response: Json) -> ImageDetail:
    """Return the response of ``GET /images/{name}/json``."""
    config = response.get("Config") or {}
    return ImageDetail(
        id=response["Id"],
        user=config.get("User") or "",
        working_dir=config.get("WorkingDir") or "",
        volumes=tuple(sorted(config.get("Volumes") or ())),
        on_build=tuple(config.get("OnBuild") or ()),
    )


def network_row(response: Json) -> NetworkRow:
    """Return one entry of ``GET /networks``."""
    created_at = parse_time(response.get("Created")) or datetime.fromtimestamp(0, UTC)
    return NetworkRow(id=response["Id"], name=response["Name"], created_at=created_at)


def engine_info(
    response: Json, *, url: str, api_version: str, is_visible: bool = True
) -> EngineInfo:
    """Return the response of ``GET /info`` from the daemon at ``url``.

    ``is_visible`` is False if this process cannot see the daemon's, because it is in a container.
    """
    named = "unix://" in url and response.get("Name") == socket.gethostname()
    is_local = named and is_visible
    gpus = reported_gpus(response, local_gpus=NVIDIA_GPUS if is_local else None)
    return EngineInfo(
        id=response.get("ID") or "",
        url=url,
        is_local=is_local,
        version=response.get("ServerVersion") or "",
        api_version=api_version,
        os=response.get("OperatingSystem") or response.get("OSType") or "",
        cpus=response.get("NCPU") or 0,
        memory_bytes=response.get("MemTotal") or 0,
        gpu_ids=gpus.ids,
        gpus_are_indexed=gpus.is_indexed,
        gpu_kind=gpus.kind,
        # Docker 25 and newer list the folders of CDI here, or none if it is not enabled.
        has_cdi=bool(response.get("CDISpecDirs")),
        # Docker counts them on managers only.
        swarm_nodes=int((response.get("Swarm") or {}).get("Nodes") or 0),
        runtimes=tuple(sorted(response.get("Runtimes") or ())),
        host=response.get("Name") or url,
        system_time=parse_time(response.get("SystemTime")),
        # A field that Podman adds to Docker's.
        is_podman="BuildahVersion" in response,
    )


def short_id(container_id: str) -> str:
    """Return an id as `docker ps` shows it; names are not shortened."""
    return container_id[:12] if re.fullmatch("[0-9a-f]{64}", container_id) else container_id
