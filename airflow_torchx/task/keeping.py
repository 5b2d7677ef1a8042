"""Decides whether the apps of a task that fails are kept for its next try."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from airflow.sdk.exceptions import AirflowFailException, TaskDeferralTimeout

from airflow_torchx.core.task.shutdown import ExitAction, after_error
from airflow_torchx.errors import AirflowRequestError

if TYPE_CHECKING:
    from airflow_torchx.task.context import TaskContext

#: The part of the five seconds of a killed task that one request to a slow API server may take.
STATE_S: Final = 1.2
#: The same for a task that was not killed.
LEISURE_STATE_S: Final = 10.0


def is_kept(
    task: TaskContext, error: BaseException, *, is_durable: bool, is_killed: bool
) -> tuple[bool, str | None]:
    """Return whether apps of the task are kept after an error, and the state of the task."""
    state = task.state(STATE_S if is_killed else LEISURE_STATE_S)
    action = after_error(
        state,
        # Airflow does not retry a task after such an error.
        retry_left=task.retry_left and not isinstance(error, AirflowFailException),
        is_durable=is_durable,
        is_replaced=isinstance(error, AirflowRequestError) and error.is_replaced,
    )
    return action is ExitAction.KEEP and not isinstance(error, TaskDeferralTimeout), state
