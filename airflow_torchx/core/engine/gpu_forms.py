"""The forms of GPU ids; NVIDIA's runtime, its tools and CDI have several for one GPU."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

#: A UUID or its beginning, as `nvidia-smi -L` prints it: ``GPU-9f21c0de``, ``MIG-…``, and
#: ``MIG-GPU-…/1/0`` of drivers before 470.
UUID: Final = re.compile(r"(?:GPU-|MIG-(?:GPU-)?)[0-9A-Fa-f][0-9A-Fa-f-]{0,63}(?:/[0-9]{1,3}){0,2}")
# https://github.com/NVIDIA/nvidia-container-toolkit/blob/main/pkg/nvcdi/namer.go
_INDEX: Final = re.compile(
    r"(?P<prefix>gpu(?!.*:)|mig(?=.*:))?(?P<gpu>0|[1-9][0-9]{0,3})(?::(?P<part>0|[1-9][0-9]?))?"
)


class Index(NamedTuple):
    """The id of a GPU by its position, or of a MIG device by that of its GPU and its own.

    Args:
        gpu: the position of the GPU.
        part: that of the MIG device; empty for a GPU.
        is_cdi: it has the prefix ``gpu`` or ``mig``, which only CDI knows.
    """

    gpu: str
    part: str
    is_cdi: bool


def index_of(gpu_id: str) -> Index | None:
    """Return the parts of an index; None for an id of another form."""
    found = _INDEX.fullmatch(gpu_id)
    return Index(found["gpu"], found["part"] or "", found["prefix"] is not None) if found else None


def is_only_cdi(gpu_id: str) -> bool:
    """Return whether only CDI knows an id: NVIDIA's driver takes ``0``, but not ``gpu0``."""
    found = index_of(gpu_id)
    return found is not None and found.is_cdi


def is_part(gpu_id: str) -> bool:
    """Return whether an id has a form of a MIG device, which is a part of a GPU."""
    found = index_of(gpu_id)
    return bool(found.part) if found else gpu_id.startswith("MIG-")


def form_of(gpu_id: str) -> object:
    """Return a value that equals another id's if both have one form, and so can be compared.

    An unknown id has a form of its own.
    """
    if found := index_of(gpu_id):
        return bool(found.part), found.is_cdi
    return next((form for form in ("GPU-", "MIG-") if gpu_id.startswith(form)), gpu_id)
