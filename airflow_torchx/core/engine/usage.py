"""What a running container uses, and the end of a command in it, as frozen values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class ContainerUsage:
    """What a container has used since its start, and its memory now.

    Args:
        read_at: time of the reading, on the daemon's clock.
        cpu_ns: time of all CPUs, in nanoseconds.
        memory_bytes: without the part of the page cache that can be dropped.
        memory_limit_bytes: its limit, or the host's memory; None if unknown.
    """

    read_at: datetime
    cpu_ns: int
    memory_bytes: int
    memory_limit_bytes: int | None
    received_bytes: int
    sent_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Execution:
    """A command that ran in a container.

    Args:
        exit_code: None if it still ran when its time was over.
        output: stdout and stderr, as they came.
    """

    exit_code: int | None
    output: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuUsage:
    """What is used of one GPU, by all programs; ``percent`` is None where it is not counted."""

    percent: float | None
    memory_bytes: int
    memory_limit_bytes: int


_Number = TypeVar("_Number", int, float)
_MOST_PERCENT: Final = 100
_MOST_MIB: Final = 1 << 30

#: Prints what `gpu_usages` reads.
GPU_QUERY: Final = (
    "nvidia-smi",
    "--query-gpu=utilization.gpu,memory.used,memory.total",
    "--format=csv,noheader,nounits",
)


def gpu_usages(output: bytes) -> tuple[GpuUsage, ...]:
    """Return the GPUs in the output of `GPU_QUERY`, whose memory is in MiB.

    A part of a GPU (MIG) has no percentage, and is printed as ``[N/A]``.

    Raises:
        ValueError: this is not its output. Any program of the container may have its name.
    """
    found = []
    for line in output.decode(errors="replace").splitlines():
        percent, used, total = (cell.strip() for cell in line.split(","))
        found.append(
            GpuUsage(
                percent=_within(float(percent), _MOST_PERCENT) if percent[:1].isdigit() else None,
                memory_bytes=_within(int(used), _MOST_MIB) << 20,
                memory_limit_bytes=_within(int(total), _MOST_MIB) << 20,
            )
        )
    return tuple(found)


def _within(value: _Number, most: int) -> _Number:
    if not 0 <= value <= most:
        raise ValueError(f"expected numbers from 0 to {most:,}")
    return value
