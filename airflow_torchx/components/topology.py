"""Parses ``-j``: the number of nodes and of processes on each."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from airflow_torchx.errors import ComponentError
from airflow_torchx.specs import resource

_FORM: Final = re.compile(r"(?:(?:([0-9]+):)?([0-9]+)x)?([0-9]+)")

_FORM_ON_HOST: Final = re.compile(r"[0-9]+(?:x[0-9]+)?")


@dataclass(frozen=True, slots=True)
class Topology:
    """Holds the number of nodes and of processes on each."""

    min_nodes: int
    max_nodes: int
    processes: int
    #: The value of torchrun's ``--nnodes``.
    nnodes: str


def topology(j: str) -> Topology:
    """Return the topology of ``2x4``, ``1:2x4`` or ``4``, the latter being processes of one node.

    Raises:
        ComponentError: ``j`` has another form.
    """
    match = _FORM.fullmatch(j)
    if match is None:
        raise _malformed(j, "2x4, 1:2x4 or 4")
    least, most, processes = match.groups()
    most = most or "1"
    nnodes = f"{least}:{most}" if least else most
    return Topology(int(least or most), int(most), int(processes), nnodes)


def on_host(h: str, j: str) -> str:
    """Return ``j`` as ``nodes x processes``; without processes, it is one per GPU of ``h``.

    Raises:
        ComponentError: ``j`` has another form or omits the processes for a resource without GPUs,
            or the resource is unknown.
    """
    if not _FORM_ON_HOST.fullmatch(j):
        raise _malformed(j, "2x4 or 2")
    gpus = resource(h=h).gpu
    nodes, processes = map(int, (j if "x" in j else f"{j}x{gpus}").split("x"))
    if gpus < 1 and "x" not in j:
        what = f"j={j!r} starts one process per GPU, but {h!r} has no GPU"
        raise ComponentError(what, fix=f"Set the number of processes, like {nodes}x2.")
    return f"{nodes}x{processes}"


def mismatch(nodes: Topology, gpus: int) -> str | None:
    """Return a warning if a node has GPUs, but not one for each process; None if all is well."""
    if gpus < 1 or gpus == nodes.processes:
        return None
    what = f"processes and GPUs of each node differ: {nodes.processes} and {gpus}"
    return f"{what}; for one process per GPU, use {nodes.nnodes}x{gpus}"


def _malformed(j: str, forms: str) -> ComponentError:
    what = f"expected j like {forms}, got {j!r}"
    return ComponentError(what, fix="Write <nodes>x<processes on each node>.")
