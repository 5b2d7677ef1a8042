"""GPUs in requests and responses of the Engine API; pure, except that local GPUs are listed.

A GPU has a name in CDI, the Container Device Interface: its kind and an id, like
``nvidia.com/gpu=GPU-45cbf7b``.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from airflow_torchx.core.engine.containers import NVIDIA_GPU, GpuRequest
from airflow_torchx.core.engine.gpu_forms import index_of, is_only_cdi, is_part

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    Json = Mapping[str, Any]

#: Where NVIDIA's driver lists the GPUs of this host.
NVIDIA_GPUS: Final = Path("/proc/driver/nvidia/gpus")
#: The kinds of GPUs that have a CDI specification, the preferred one first.
_KINDS: Final = (NVIDIA_GPU, "amd.com/gpu")
#: The id that stands for all GPUs.
_ALL: Final = "all"
#: What a request can ask of NVIDIA's driver. Each of these words gets GPUs; TorchX's is "compute".
#: https://github.com/moby/moby/blob/v20.10.24/daemon/nvidia_linux.go
_CAPABILITIES: Final = frozenset(
    {"gpu", "nvidia", "compute", "compat32", "graphics", "utility", "video", "display"}
)
_DRIVERS: Final = ("nvidia", "amd")


class ReportedGpus(NamedTuple):
    """The GPUs that a daemon reports.

    Args:
        kind: their kind in CDI; empty if it is unknown.
        is_indexed: these are all its GPUs, in the order of their indices.
    """

    ids: tuple[str, ...]
    kind: str = ""
    is_indexed: bool = False


class _LocalGpu(NamedTuple):
    id: str
    model: str


def device_request(request: GpuRequest) -> dict[str, Any]:
    """Return an entry of ``DeviceRequests``."""
    if request.driver == "cdi" or any(map(is_only_cdi, request.device_ids)):
        names = [f"{request.kind}={gpu_id}" for gpu_id in request.device_ids]
        return {"Driver": "cdi", "DeviceIDs": names}
    which = (
        {"DeviceIDs": list(request.device_ids)} if request.device_ids else {"Count": request.count}
    )
    # Every vendor's driver has this capability. With a second one, some would not match.
    return {"Driver": "", "Capabilities": [["gpu"]], **which}


def gpu_requests(device_requests: Iterable[Json] | None) -> Iterator[GpuRequest]:
    """Yield the requests for GPUs among the ``DeviceRequests`` of a container."""
    for request in device_requests or ():
        ids = tuple(request.get("DeviceIDs") or ())
        if request.get("Driver") == "cdi":
            yield from _cdi_requests(ids)
        elif request.get("Driver") in _DRIVERS or any(
            not _CAPABILITIES.isdisjoint(named) for named in request.get("Capabilities") or ()
        ):
            yield GpuRequest(count=len(ids) or request.get("Count") or 0, device_ids=ids)


def reported_gpus(info: Json, *, local_gpus: Path | None) -> ReportedGpus:
    """Return the GPUs of a daemon from the first source in its ``GET /info`` that lists any.

    NVIDIA's driver lists this host's GPUs in the folder ``local_gpus``; None for a remote daemon.
    """
    driver = _of_driver(info, local_gpus)
    sources = (_discovered(info), _resources(info), driver)
    found = next((found for found in sources if found.ids), ReportedGpus(()))
    # Docker sorts the names of CDI, so that UUIDs are not in the order of the indices.
    return driver if set(driver.ids) == set(found.ids) else found


def local_models(folder: Path = NVIDIA_GPUS) -> dict[str, str]:
    """Return the model of each of this host's GPUs, by the id that `reported_gpus` has for it."""
    return {gpu.id: gpu.model for gpu in _listed_by_driver(folder)}


def _cdi_requests(names: tuple[str, ...]) -> Iterator[GpuRequest]:
    for kind in _KINDS:
        if ids := _ids_of_kind(names, kind):
            yield GpuRequest(count=len(ids), device_ids=ids, driver="cdi", kind=kind)


def _discovered(info: Json) -> ReportedGpus:
    """Return the CDI devices that Docker discovers (28.2 and newer)."""
    names = [device.get("ID") or "" for device in info.get("DiscoveredDevices") or ()]
    for kind in _KINDS:
        if ids := _disjoint([gpu_id for gpu_id in _ids_of_kind(names, kind) if gpu_id != _ALL]):
            return ReportedGpus(tuple(ids), kind)
    return ReportedGpus(())


def _disjoint(ids: Sequence[str]) -> Sequence[str]:
    """Return the UUIDs of devices that share no hardware, or else their indices.

    Most tools list a device by both, and a GPU also if it is divided into MIG devices. A tool may
    list an index in two forms, ``0`` and ``gpu0``.
    """
    forms: dict[tuple[str, str], str] = {}
    for gpu_id in sorted(ids, key=is_only_cdi):
        if found := index_of(gpu_id):
            forms.setdefault((found.gpu, found.part), gpu_id)
    divided = {gpu for gpu, part in forms if part}
    whole = {gpu for gpu, _ in forms} - divided
    uuids = [gpu_id for gpu_id in ids if not index_of(gpu_id)]
    parts = list(filter(is_part, uuids))
    # A UUID does not show which GPU is divided.
    if uuids and not (divided and whole):
        return parts or uuids
    return [gpu_id for (gpu, part), gpu_id in forms.items() if part or gpu in whole]


def _ids_of_kind(names: Iterable[str], kind: str) -> tuple[str, ...]:
    prefix = f"{kind}="
    return tuple(name.removeprefix(prefix) for name in names if name.startswith(prefix))


def _resources(info: Json) -> ReportedGpus:
    """Return the ids in the daemon's ``node-generic-resources`` setting."""
    named = [each.get("NamedResourceSpec") or {} for each in info.get("GenericResources") or ()]
    gpus = (each.get("Value") for each in named if "GPU" in (each.get("Kind") or "").upper())
    return ReportedGpus(tuple(filter(None, gpus)), is_indexed=True)


def _of_driver(info: Json, local_gpus: Path | None) -> ReportedGpus:
    if local_gpus is None or "nvidia" not in (info.get("Runtimes") or {}):
        return ReportedGpus(())
    ids = tuple(gpu.id for gpu in _listed_by_driver(local_gpus))
    return ReportedGpus(ids, NVIDIA_GPU, is_indexed=True)


def _listed_by_driver(folder: Path) -> Iterator[_LocalGpu]:
    """Yield the GPUs of this host in the order of their indices.

    The ids are UUIDs, as other clients of the daemon may know no index. If the driver has not read
    one yet, its file has question marks: then all ids are indices.
    """
    files = [_fields(path) for path in sorted(folder.glob("*/information"))]
    uuids = [fields.get("GPU UUID", "") for fields in files]
    are_known = all(uuid.startswith("GPU-") and "?" not in uuid for uuid in uuids)
    for index, fields in enumerate(files):
        yield _LocalGpu(uuids[index] if are_known else str(index), fields.get("Model", ""))


def _fields(path: Path) -> dict[str, str]:
    text = ""
    with contextlib.suppress(OSError):
        text = path.read_text(errors="replace")
    lines = (line.partition(":") for line in text.splitlines())
    return {name.strip(): value.strip() for name, _, value in lines}
