"""How many nodes run an app and how many processes each, as ``-j`` says it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from airflow_torchx.errors import ComponentError
from airflow_torchx.specs import resource

_FORM: Final = re.compile(r"(?:(?:([0-9]+):)?([0-9]+)x)?([0-9]+)")


@dataclass(frozen=True, slots=True)
class Topology:
    """Numbers of nodes and of processes on each; ``text`` is what torchrun calls the nodes."""

    least: int
    most: int
    processes: int
    text: str


def topology(j: str) -> Topology:
    """Return what ``2x4``, ``1:2x4`` or ``4`` says; a number alone is the processes of one node.

    Raises:
        ComponentError: it has another form.
    """
    match = _FORM.fullmatch(j)
    if match is None:
        raise _malformed(j, "2x4, 1:2x4 or 4")
    least, most, processes = match.groups()
    most = most or "1"
    text = f"{least}:{most}" if least else most
    return Topology(int(least or most), int(most), int(processes), text)


def on_host(h: str, j: str) -> str:
    """Return ``nodes x processes`` for a named resource; its GPUs count where ``j`` has only nodes.

    Raises:
        ComponentError: ``j`` has another form, or only nodes for a resource without GPUs; there is
            no such resource.
    """
    gpus = resource(h=h).gpu
    try:
        nodes, *processes = (int(number) for number in j.split("x"))
    except ValueError:
        raise _malformed(j, "2x4 or 2") from None
    if len(processes) > 1:
        raise _malformed(j, "2x4 or 2")
    if processes:
        return f"{nodes}x{processes[0]}"
    if gpus < 1:
        what = f"j={j!r} leaves the number of processes to the GPUs of {h!r}, which has none."
        raise ComponentError(what, fix=f"Write it as nodes, x, and processes, like {nodes}x2.")
    return f"{nodes}x{gpus}"


def _malformed(j: str, forms: str) -> ComponentError:
    what = f"expected j like {forms}, got {j!r}."
    return ComponentError(what, fix="Write it as nodes, x, and processes on each node.")
