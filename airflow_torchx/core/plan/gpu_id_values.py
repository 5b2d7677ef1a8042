"""Accepted ids of GPUs: each names one GPU, and no two of a list may name the same one."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING, Final

from airflow_torchx.core.engine.gpu_forms import UUID, index_of
from airflow_torchx.errors import InvalidAppError, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_MAX_IDS: Final = 1024
_WRITE: Final = (
    "write a UUID, as `nvidia-smi -L` prints it, or its beginning (GPU-9f21c0de), an index (0), or"
    " that of a MIG device (0:1)"
)


def check_gpu_ids(ids: Sequence[str]) -> None:
    """Check the ids of GPUs in the field ``gpu_ids`` of a connection.

    Raises:
        InvalidAppError: an id is not one of a GPU, or two may name the same GPU.
    """
    if len(ids) > _MAX_IDS:
        fix = f"list at most {_MAX_IDS}, or leave out gpu_ids to use all"
        raise InvalidAppError([Problem("gpu_ids", f"{len(ids)} ids are too many", fix)])
    problems = [
        Problem(f"gpu_ids[{index}]", f"{one!r:.60} is not the id of a GPU", _fix(one))
        for index, one in enumerate(ids)
        if not (UUID.fullmatch(one) or index_of(one))
    ]
    if problems := problems or list(_repeated(ids)):
        raise InvalidAppError(problems)


def are_mixed(ids: Sequence[str]) -> bool:
    """Return whether some ids are UUIDs and others are indices, which may name the same GPU."""
    return len({UUID.fullmatch(one) is None for one in ids}) > 1


def _fix(given: str) -> str:
    """Return what to write instead."""
    if re.search(r"[\s,;]", given):
        return "list one id per entry, without spaces or commas"
    if given.lower() in ("all", "none", "void"):
        return "leave out gpu_ids to use all GPUs, or list some"
    if "=" in given:
        return f"write {given.rpartition('=')[2]!r:.60}, without the kind of the device"
    if (upper := given[:4].upper() + given[4:]) != given and UUID.fullmatch(upper):
        return f"write {upper!r:.80}; the case counts"
    if re.fullmatch(r"[0-9]{1,9}", given) and index_of(str(int(given))):
        return f"write {int(given)}"
    return _WRITE


def _repeated(ids: Sequence[str]) -> Iterator[Problem]:
    """Yield a problem for each id that may name the GPU of one next to it in sorted order."""
    keys = sorted((_key(one), index) for index, one in enumerate(ids))
    for (key, before), (longer, index) in itertools.pairwise(keys):
        if longer.startswith(key):
            first, second = sorted((before, index))
            what = f"{ids[second]!r} may name the same GPU as {ids[first]!r}"
            yield Problem(f"gpu_ids[{second}]", what, "list each GPU once, by its whole id")


def _key(gpu_id: str) -> str:
    """Return a text that begins another one's, or equals it, if both may name the same GPU."""
    if (found := index_of(gpu_id)) is None:
        return gpu_id.lower()
    return f"{found.gpu}:{found.part}:" if found.part else f"{found.gpu}:"
