"""What the replicas of an app use over time: peaks, and a line of points for each replica.

All lines of an app have one time axis of 60 intervals. When it is full, two intervals become one,
so that a line always shows the whole run: memory that grows for hours is seen to grow. A point is
the highest sample of its interval, so that merging loses no peak.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Self

from airflow_torchx.core.state.failure_rules import with_replicas
from airflow_torchx.core.state.progress import Progress
from airflow_torchx.core.state.report import replica_name
from airflow_torchx.core.state.usage_json import (
    Point,
    is_number,
    line_from_json,
    line_to_json,
    usage_from_json,
    usage_to_json,
)
from airflow_torchx.specs import ReplicaUsage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from airflow_torchx.core.engine.usage import ContainerUsage, GpuUsage
    from airflow_torchx.specs import DescribeAppResponse, ReplicaStatus

#: Seconds between two samples of a replica.
INTERVAL_S: Final = 15.0
#: Points of a line.
POINTS: Final = 60
#: What a deferral may store of the usage, and of the transitions: MySQL keeps all arguments of a
#: trigger, encrypted, in 64 KB.
MAX_STORED_BYTES: Final = 16_384
_MIB: Final = 1 << 20
# Of a container's id, as Docker shows it.
_ID_DIGITS: Final = 12
# Lines with fewer points are not worth their bytes.
_FEWEST: Final = 8


def pauses() -> Iterator[float]:
    """Return the seconds between the samples of an app: short at first, as many apps are short."""
    pause_s = 2.0
    while True:
        yield min(pause_s, INTERVAL_S)
        pause_s *= 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """What one replica uses at one time.

    Args:
        cpus_limit: how many CPUs it may use; None for no limit.
        memory_limit_bytes: None for no limit.
        started_at: when its container was started; None if unknown.
        gpus: None if they cannot be read; empty without GPUs.
    """

    container_id: str
    usage: ContainerUsage
    cpus_limit: float | None = None
    memory_limit_bytes: int | None = None
    started_at: datetime | None = None
    gpus: tuple[GpuUsage, ...] | None = ()


@dataclass
class _Replica:
    """One replica: its usage, its container at the last sample, and its points by interval."""

    usage: ReplicaUsage
    container_id: str = ""
    points: dict[int, Point] = field(default_factory=dict)

    def line(self) -> list[Point | None]:
        """Return the points up to the last one; None for an interval without one."""
        return [self.points.get(index) for index in range(max(self.points, default=-1) + 1)]

    @classmethod
    def parse(cls, stored: object) -> Self | None:
        """Return a stored replica; None if it cannot be used."""
        found = stored if isinstance(stored, Mapping) else {}
        usage = usage_from_json(found)
        if usage is None:
            return None
        line = line_from_json(found.get("line"))[:POINTS]
        points = {index: point for index, point in enumerate(line) if point is not None}
        return cls(usage, str(found.get("container", "")), points)


@dataclass
class UsageHistory:
    """What the replicas of an app have used, by name, like ``trainer/0``.

    Args:
        start_s: when the first interval began, in seconds since 1970.
        step_s: seconds of an interval.
        progress: how far the program is; None if it does not say so.
    """

    start_s: float = 0.0
    step_s: float = INTERVAL_S
    _replicas: dict[str, _Replica] = field(default_factory=dict)
    progress: Progress | None = None

    def add(self, name: str, sample: Sample) -> None:
        """Add what a replica uses."""
        at_s = sample.usage.read_at.timestamp()
        sample = replace(sample, container_id=sample.container_id[:_ID_DIGITS])
        if not self._replicas:
            self.start_s = at_s
        before = self._replicas.get(name)
        usage = _used(sample, before)
        kept = before or _Replica(usage)
        kept.usage, kept.container_id = usage, sample.container_id
        self._replicas[name] = kept
        while at_s >= self.start_s + self.step_s * POINTS:
            self.coarsen()
        index = max(0, int((at_s - self.start_s) / self.step_s))  # two hosts' clocks may differ
        percent = None if usage.gpu_percent is None else round(usage.gpu_percent)
        cpus = None if usage.cpus is None else round(usage.cpus, 2)
        point = Point(cpus, round(usage.memory_bytes / _MIB), percent)
        kept.points[index] = highest(point, kept.points.get(index))

    def coarsen(self) -> None:
        """Make one interval of two."""
        self.step_s *= 2
        for one in self._replicas.values():
            points, one.points = one.points, {}
            for index, point in points.items():
                one.points[index // 2] = highest(point, one.points.get(index // 2))

    def of(self, replica: ReplicaStatus) -> ReplicaUsage | None:
        """Return what a replica uses, or has used; None without a sample."""
        known = self._replicas.get(replica_name(replica))
        if known is None:
            return None
        usage = known.usage
        if replica.oom_killed and usage.memory_limit_bytes is not None:
            # It took the last part of it between two samples.
            usage = replace(usage, memory_peak_bytes=usage.memory_limit_bytes)
        return usage

    def line(self, replica: ReplicaStatus) -> list[Point | None]:
        """Return the points of a replica, up to its last one; None for an interval without one."""
        known = self._replicas.get(replica_name(replica))
        return known.line() if known else []

    def mark(self, app: DescribeAppResponse) -> DescribeAppResponse:
        """Return an app with what each of its replicas uses."""
        if not self._replicas:
            return app
        return with_replicas(app, lambda one: replace(one, usage=self.of(one)))

    def to_json(self, max_bytes: int) -> dict[str, Any]:
        """Return it as JSON data that needs about ``max_bytes`` at most; empty if it is empty.

        It has as many points as fit, else only the peaks, else only the progress.
        """
        known = {} if self.progress is None else {"progress": self.progress.stored()}
        return self._replicas_json(max_bytes - len(json.dumps(known))) | known

    def _replicas_json(self, max_bytes: int) -> dict[str, Any]:
        shown = UsageHistory(self.start_s, self.step_s, self._copied())
        while shown._replicas:
            data = shown._as_json()
            if len(json.dumps(data)) <= max_bytes:
                return data
            longest = max(max(one.points, default=-1) for one in shown._replicas.values())
            if longest < 0:
                break
            shown.coarsen()
            if longest < _FEWEST:
                for one in shown._replicas.values():
                    one.points = {}
        return {}

    def copy(self) -> UsageHistory:
        """Return a copy that changes independently."""
        return UsageHistory(self.start_s, self.step_s, self._copied(), self.progress)

    def _copied(self) -> dict[str, _Replica]:
        return {name: replace(one, points=dict(one.points)) for name, one in self._replicas.items()}

    def _as_json(self) -> dict[str, Any]:
        return {
            "start": round(self.start_s, 1),
            "step": self.step_s,
            "replicas": {
                name: {
                    "container": one.container_id,
                    **usage_to_json(one.usage),
                    "line": line_to_json(one.line()),
                }
                for name, one in self._replicas.items()
            },
        }

    @classmethod
    def parse(cls, stored: object) -> Self:
        """Return what `to_json` stored, perhaps of another release; empty if it cannot be used."""
        found = stored if isinstance(stored, Mapping) else {}
        progress = Progress.parse(found.get("progress"))
        start_s, step_s, data = (found.get(key) for key in ("start", "step", "replicas"))
        if not is_number(start_s) or not is_number(step_s) or not isinstance(data, Mapping):
            return cls(progress=progress)
        replicas = {str(name): _Replica.parse(one) for name, one in data.items()}
        known = {name: one for name, one in replicas.items() if one is not None}
        return cls(start_s, step_s, known, progress) if step_s >= 1 else cls(progress=progress)


def _used(sample: Sample, before: _Replica | None) -> ReplicaUsage:
    """Return the usage of a replica with a new sample."""
    now = sample.usage
    gpus = sample.gpus or ()
    known = before.usage if before else None
    cpus = _cpus(sample, before)
    percents = [one.percent for one in gpus if one.percent is not None]
    percent = sum(percents) / len(percents) if percents else None
    memory = sum(one.memory_bytes for one in gpus) if gpus else None
    return ReplicaUsage(
        sampled_at=now.read_at,
        cpus=cpus,
        cpus_peak=_highest(cpus, known and known.cpus_peak),
        cpus_limit=sample.cpus_limit,
        cpu_s=now.cpu_ns / 1e9,
        memory_bytes=now.memory_bytes,
        memory_peak_bytes=max(now.memory_bytes, known.memory_peak_bytes if known else 0),
        memory_limit_bytes=sample.memory_limit_bytes,
        received_bytes=now.received_bytes,
        sent_bytes=now.sent_bytes,
        gpu_percent=percent,
        gpu_peak_percent=_highest(percent, known and known.gpu_peak_percent),
        gpu_memory_bytes=memory,
        gpu_memory_peak_bytes=_highest(memory, known and known.gpu_memory_peak_bytes),
        gpu_memory_limit_bytes=sum(one.memory_limit_bytes for one in gpus) if gpus else None,
    )


def _cpus(sample: Sample, before: _Replica | None) -> float | None:
    """Return how many CPUs were busy since the sample before, or since the start."""
    now_s, since, cpu_s = sample.usage.cpu_ns / 1e9, sample.started_at, 0.0
    if before is not None and before.container_id == sample.container_id:
        # The time counts from 0 again if the daemon has restarted the container.
        since = before.usage.sampled_at
        cpu_s = before.usage.cpu_s if before.usage.cpu_s <= now_s else 0.0
    if since is None or sample.usage.read_at <= since:
        return None
    return (now_s - cpu_s) / (sample.usage.read_at - since).total_seconds()


def highest(point: Point, other: Point | None) -> Point:
    """Return the highest values of both points."""
    return point if other is None else Point(*map(_highest, point, other))


def _highest(one: Any, other: Any) -> Any:  # noqa: ANN401 - numbers
    return max((value for value in (one, other) if value is not None), default=None)
