"""Defines what a replica uses, as samples show it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaUsage:
    """Describes what a replica uses, or has used until its last sample.

    A peak is the highest sample, over all restarts; a shorter one may be missed.

    Args:
        sampled_at: time of the last sample, on the daemon's clock.
        cpus: how many CPUs it kept busy between the last two samples; None if unknown.
        cpus_limit: how many it may use; None for no limit.
        cpu_s: CPU time since its container was started, in seconds.
        memory_bytes: without the part of the page cache that can be dropped.
        memory_limit_bytes: how much it may use; None for no limit.
        received_bytes: over the network, since its container was started.
        sent_bytes: likewise.
        gpu_percent: how busy its GPUs are, on average; None without GPUs, or if unknown.
        gpu_memory_bytes: of all its GPUs.
        gpu_memory_limit_bytes: likewise.
    """

    sampled_at: datetime
    cpus: float | None = None
    cpus_peak: float | None = None
    cpus_limit: float | None = None
    cpu_s: float = 0.0
    memory_bytes: int = 0
    memory_peak_bytes: int = 0
    memory_limit_bytes: int | None = None
    received_bytes: int = 0
    sent_bytes: int = 0
    gpu_percent: float | None = None
    gpu_peak_percent: float | None = None
    gpu_memory_bytes: int | None = None
    gpu_memory_peak_bytes: int | None = None
    gpu_memory_limit_bytes: int | None = None
