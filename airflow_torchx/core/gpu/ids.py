"""GPU ids: where they come from, and which of them mean the same GPU."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from airflow_torchx.core.engine import labels
from airflow_torchx.core.engine.gpu_forms import form_of, index_of, is_part

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_torchx.core.engine.containers import GpuRequest

#: In place of ids where none are known: all GPUs of the daemon, for one replica at a time.
ALL: Final = "all"
#: Lines of ``nvidia-smi -L``; a MIG device is indented below its GPU.
_LINE: Final = re.compile(
    r"^(?:GPU \d+: (?P<model>.*?)| *(?P<part>MIG \S+).*?) *\(UUID: (?P<id>[^)]+)\)", re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class GpuIds:
    """The ids of a daemon's GPUs.

    Args:
        ids: the ids, each of another GPU.
        is_indexed: these are all GPUs, in the order of their indices.
    """

    ids: tuple[str, ...]
    is_indexed: bool = False

    def find(self, given: str) -> str | None:
        """Return the id of the same GPU; None if it is not among these.

        NVIDIA's runtime accepts an id, an index, and the beginning of a UUID.
        """
        if given in self.ids:
            return given
        if given.isdecimal():
            index = labels.number(given)
            if index is None or index >= len(self.ids) or not self.is_indexed:
                return None
            return self.ids[index]
        if index_of(given):
            return None
        found = [one for one in self.ids if one.startswith(given) or given.startswith(one)]
        return found[0] if given and len(found) == 1 else None

    def held(self, given: Iterable[str]) -> tuple[str, ...]:
        """Return which of these GPUs a container with the given ids holds.

        An id that cannot be compared with these may mean any of them, so it holds every GPU.
        """
        given = tuple(given)
        found = {one: self.find(one) for one in given}
        is_any = any(found[one] is None and not self._is_another(one) for one in given)
        if given and (ALL in given or ALL in self.ids or is_any):
            return self.ids
        return tuple(one for one in found.values() if one is not None)

    def requested(self, requests: Iterable[GpuRequest]) -> tuple[str, ...]:
        """Return which of these GPUs a container with these device requests holds.

        A request by count holds the first GPUs of the host, as Docker's driver assigns them. A
        request for all GPUs holds none, because a notebook that may use all would block the host.
        """
        held: list[str] = []
        for request in requests:
            if ALL not in request.device_ids and request.count >= 0:
                first = tuple(str(index) for index in range(request.count))
                held += self.held(request.device_ids or first)
        return tuple(dict.fromkeys(held))

    def is_comparable(self, given: str) -> bool:
        """Return whether these ids have the form of another one."""
        return form_of(given) in {form_of(one) for one in self.ids}

    def _is_another(self, given: str) -> bool:
        """Return whether an id that is not among these certainly means another GPU."""
        if not is_part(given) and any(map(is_part, self.ids)):
            return False  # the GPU of which one of these may be a part
        return self.is_comparable(given) or (given.isdecimal() and self.is_indexed)


def used_ids(given: Iterable[str], reported: GpuIds) -> tuple[str, ...]:
    """Return the GPUs to use: those given, with the daemon's ids, or else all that it reports."""
    used = tuple(reported.find(one) or one for one in given)
    return tuple(dict.fromkeys(used)) or reported.ids


def unlisted(given: Iterable[str], reported: GpuIds) -> tuple[str, ...]:
    """Return those of the given GPUs that a daemon, which reports some, does not have."""
    return tuple(one for one in given if reported.ids and reported.find(one) is None)


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
