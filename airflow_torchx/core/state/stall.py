"""Whether an app has stopped to make progress: no log line, no CPU use and no GPU use.

What cannot be read counts as progress, so that no app is stopped for want of a reading.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from airflow_torchx.core.plan.option_values import seconds
from airflow_torchx.core.state.essential import essential_replicas
from airflow_torchx.specs import AppState, is_terminal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from airflow_torchx.specs import DescribeAppResponse, ReplicaStatus

#: Key of ``DescribeAppResponse.metadata``.
STALLED_AFTER: Final = "stalled_after_s"

# torchrun that waits for two idle workers keeps 0.002 CPUs busy (measured, torch 2.13).
_IDLE_CPUS: Final = 0.05
_IDLE_GPU_PERCENT: Final = 1.0
_LOOKS: Final = 10
_SHORTEST_S: Final = 0.5
_LONGEST_S: Final = 30.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Activity:
    """What one replica has done until a moment.

    Args:
        at_s: the moment, in seconds on any clock.
        cpu_ns: CPU time since its start, in nanoseconds.
        last_line: the last line of its log, with its time.
        gpu_percent: how busy its GPUs are; None if it has none.
    """

    at_s: float
    cpu_ns: int
    last_line: bytes
    gpu_percent: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """One replica as it was seen last; ``since_s`` is when it was seen to make progress."""

    activity: Activity | None
    since_s: float


def stalled_after(app: DescribeAppResponse) -> float | None:
    """Return the seconds without progress after which an app is stopped; None for never."""
    with contextlib.suppress(KeyError, ValueError):  # any client can write a label
        return seconds(app.metadata[STALLED_AFTER]) or None
    return None


def interval(after_s: float) -> float:
    """Return the seconds between two looks at an app."""
    return min(max(after_s / _LOOKS, _SHORTEST_S), _LONGEST_S)


def watched_replicas(app: DescribeAppResponse) -> list[ReplicaStatus]:
    """Return the replicas whose progress counts: the essential ones that run.

    It is none while another essential replica waits, like one that is paused or restarted.
    """
    live = [one for one in essential_replicas(app) if not is_terminal(one.state)]
    return live if all(one.state is AppState.RUNNING for one in live) else []


def delayed(seen: Mapping[str, Seen], by_s: float) -> dict[str, Seen]:
    """Return the replicas as if they had made progress so much later."""
    return {key: replace(one, since_s=one.since_s + by_s) for key, one in seen.items()}


def advance(
    seen: Mapping[str, Seen], now: Mapping[str, Activity | None], at_s: float
) -> dict[str, Seen]:
    """Return the replicas as they are seen now, by container id; None for one without a reading."""
    return {
        key: Seen(
            activity=activity,
            since_s=seen[key].since_s
            if key in seen and not _has_progress(seen[key].activity, activity)
            else at_s,
        )
        for key, activity in now.items()
    }


def is_stalled(seen: Iterable[Seen], at_s: float, after_s: float) -> bool:
    """Return whether no replica has made progress for so long; False without replicas."""
    times = [one.since_s for one in seen]
    return bool(times) and at_s - max(times) >= after_s


def _has_progress(before: Activity | None, now: Activity | None) -> bool:
    if before is None or now is None or now.last_line != before.last_line:
        return True
    if now.cpu_ns < before.cpu_ns:  # Docker has started the container again
        return True
    elapsed_ns = (now.at_s - before.at_s) * 1e9
    if elapsed_ns <= 0 or (now.cpu_ns - before.cpu_ns) / elapsed_ns >= _IDLE_CPUS:
        return True
    return now.gpu_percent is not None and now.gpu_percent >= _IDLE_GPU_PERCENT
