"""What a running container uses, and the end of a command in it, as frozen values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

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
