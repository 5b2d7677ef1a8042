"""What a task that is told to end does with its app: pure.

Airflow sends the same SIGTERM when a user ends a task and when a worker is shut down. Which of the
two it was, the state of the task instance tells: it is still ``running`` only in the second case
(seen on Airflow 3.3.2).
"""

from __future__ import annotations

from enum import StrEnum

from airflow_torchx.core.task_arguments import OnWorkerShutdown


class Leave(StrEnum):
    """What the task does with its app before it ends."""

    HAND_OVER = "hand over"
    KEEP = "keep"
    STOP = "stop"


#: The state of a task instance when it could not be looked up in time.
UNKNOWN = "unknown"
_RUNNING = "running"
#: Another process has the task instance by now, or will have it soon: the app is its business.
_TAKEN = frozenset({"queued", "scheduled", "deferred", "up_for_retry", "up_for_reschedule"})


def leave(state: str | None, wish: OnWorkerShutdown, *, retry_left: bool) -> Leave:
    """Return what a task that got SIGTERM does with its app.

    Args:
        state: of the task instance, `UNKNOWN` if nobody could say; None when it has none.
        wish: what the user wants when a worker is shut down.
        retry_left: another try of the task would come.
    """
    if state in _TAKEN:
        return Leave.KEEP
    if state == UNKNOWN:
        return Leave.KEEP if retry_left else Leave.STOP
    if state != _RUNNING or wish is OnWorkerShutdown.STOP:
        return Leave.STOP
    if wish is OnWorkerShutdown.KEEP:
        return Leave.KEEP if retry_left else Leave.STOP
    return Leave.HAND_OVER
