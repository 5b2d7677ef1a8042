"""GPU ids: where they come from, and which of them mean the same GPU."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from airflow_torchx.core.engine.containers import GpuRequest

#: In place of ids where none are known: all GPUs of the daemon, for one replica at a time.
ALL: Final = "all"
#: Lines of ``nvidia-smi -L``; a MIG device is indented below its GPU.
_LINE: Final = re.compile(
    r"^(?:GPU \d+: (?P<model>.*?)| *(?P<part>MIG \S+).*?) *\(UUID: (?P<id>[^)]+)\)", re.MULTILINE
)


def as_listed(given: str, listed: Sequence[str]) -> str | None:
    """Return the listed id of the same GPU; None if it is not in the list.

    NVIDIA's runtime accepts an id, an index, and the beginning of a UUID.
    """
    if given in listed:
        return given
    if given.isdecimal():
        return listed[int(given)] if int(given) < len(listed) else None
    found = [one for one in listed if given and one.startswith(given)]
    return found[0] if len(found) == 1 else None


def used_ids(given: Iterable[str], reported: Sequence[str]) -> tuple[str, ...]:
    """Return the GPUs to use: those given, with the daemon's ids, or else all that it reports."""
    used = tuple(as_listed(one, reported) or one for one in given)
    return tuple(dict.fromkeys(used)) or tuple(reported)


def unlisted(given: Iterable[str], reported: Sequence[str]) -> tuple[str, ...]:
    """Return those of the given GPUs that a daemon, which reports some, does not have."""
    return tuple(one for one in given if reported and as_listed(one, reported) is None)


def held_ids(given: Iterable[str], reported: Sequence[str]) -> tuple[str, ...]:
    """Return which of a daemon's GPUs a container with these ids holds.

    A container with ids of another form, which cannot be compared, holds every GPU. So does one
    whose ids are unknown, and any container where those of the daemon are unknown.
    """
    given = tuple(given)
    found = {one: as_listed(one, reported) for one in given}
    are_indices = all(one.isdecimal() for one in reported)
    is_other = any(are_indices and not found[one] and not one.isdecimal() for one in given)
    if given and (ALL in given or ALL in reported or is_other):
        return tuple(reported)
    return tuple(one for one in found.values() if one is not None)


def requested_ids(requests: Iterable[GpuRequest], listed: Sequence[str]) -> tuple[str, ...]:
    """Return the listed ids that the device requests of a container hold.

    A request by count holds the first GPUs of the host, as Docker's driver assigns them. A request
    for all GPUs holds none, because a notebook that may use all would block the host.
    """
    held: list[str] = []
    for request in requests:
        if ALL in request.device_ids or request.count < 0:
            continue
        wanted = request.device_ids or tuple(str(index) for index in range(request.count))
        held += held_ids(wanted, listed)
    return tuple(dict.fromkeys(held))


def are_all(requests: Iterable[GpuRequest]) -> bool:
    """Return whether a container requests all GPUs of its host."""
    return any(ALL in request.device_ids or request.count < 0 for request in requests)


def parse_nvidia_smi(text: str) -> dict[str, str]:
    """Return UUID to model of each GPU in the output of ``nvidia-smi -L``.

    A GPU that is divided into MIG devices cannot be used as a whole, so its devices replace it.
    """
    found: dict[str, str] = {}
    whole = model = ""
    for line in _LINE.finditer(text):
        if line["part"] is None:
            whole, model = line["id"], line["model"]
            found[whole] = model
        else:
            found.pop(whole, None)
            found[line["id"]] = f"{model}, {line['part']}"
    return found
