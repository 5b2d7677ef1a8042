"""Decides whether the apps of a task that fails are kept for its next try."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from airflow.sdk.exceptions import AirflowFailException, TaskDeferralTimeout

from airflow_torchx.core.task.shutdown import ExitAction, after_error
from airflow_torchx.errors import AirflowRequestError

if TYPE_CHECKING:
    from airflow_torchx.task.context import TaskContext

# Airflow kills a process 5 s after SIGTERM. With 20 tasks at work, 1.2 s brought no answer of the
# API server, and the app of a task that a user had marked was kept for a try that never came. The
# rest of the time is for the deferral, or for the order to the helper process.
_STATE_UNTIL_S: Final = 3.0
# A process may note SIGTERM late, as it waited for the daemon.
_LEAST_STATE_S: Final = 1.2
#: How long a task that was not asked to end waits for its state.
LEISURE_STATE_S: Final = 10.0


def state_in_time(task: TaskContext, killed_at: float | None) -> str | None:
    """Return the state of the task, or `UNKNOWN` if the API server does not answer in time.

    Args:
        task: whose state is asked for.
        killed_at: when Airflow asked the task to end, by ``time.monotonic()``; None if it did not.
    """
    if killed_at is None:
        return task.state(LEISURE_STATE_S)
    return task.state(max(killed_at + _STATE_UNTIL_S - time.monotonic(), _LEAST_STATE_S))


def is_kept(
    task: TaskContext, error: BaseException, *, is_durable: bool, killed_at: float | None
) -> tuple[bool, str | None]:
    """Return whether apps of the task are kept after an error, and the state of the task."""
    state = state_in_time(task, killed_at)
    action = after_error(
        state,
        # Airflow does not retry a task after such an error.
        retry_left=task.retry_left and not isinstance(error, AirflowFailException),
        is_durable=is_durable,
        is_replaced=isinstance(error, AirflowRequestError) and error.is_replaced,
    )
    return action is ExitAction.KEEP and not isinstance(error, TaskDeferralTimeout), state
