"""What happens to an app when its task must end before it, or its trigger is taken away: pure.

Airflow sends the same SIGTERM when a user ends a task and when a worker is shut down. The state of
the task instance tells them apart: only in the second case it is still ``running`` (seen on Airflow
3.3.2). Airflow also calls a trigger's ``on_kill`` when another triggerer has taken the trigger
over, against its own promise (apache/airflow PR #73454). There, too, the state decides.

An error of Airflow is not an error of the app. If a request to Airflow fails, the next attempt
reattaches to the app, unless the state shows that a user ended or cleared the task.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from airflow_torchx.core.task.arguments import OnWorkerShutdown


class ExitAction(StrEnum):
    """What the task does with its app before it ends."""

    HAND_OVER = "hand over"
    KEEP = "keep"
    STOP = "stop"


#: The state of a task instance when it could not be looked up in time.
UNKNOWN = "unknown"
_RUNNING = "running"
#: Another process has the task instance by now, or will have it soon: the app is its business.
_TAKEN = frozenset({"queued", "scheduled", "deferred", "up_for_retry", "up_for_reschedule"})


def exit_action(state: str | None, policy: OnWorkerShutdown, *, retry_left: bool) -> ExitAction:
    """Return what a task that got SIGTERM does with its app.

    Args:
        state: of the task instance, `UNKNOWN` if nobody could say; None when it has none.
        policy: what the user wants when a worker is shut down.
        retry_left: another try of the task would come.
    """
    if state in _TAKEN:
        return ExitAction.KEEP
    if state == UNKNOWN:
        return ExitAction.KEEP if retry_left else ExitAction.STOP
    if state != _RUNNING or policy is OnWorkerShutdown.STOP:
        return ExitAction.STOP
    if policy is OnWorkerShutdown.KEEP:
        return ExitAction.KEEP if retry_left else ExitAction.STOP
    return ExitAction.HAND_OVER


def before_deferral(state: str | None) -> ExitAction:
    """Return what a task does with its app when it is about to defer.

    A state that could not be looked up does not prevent the deferral: Airflow refuses it if the
    task may not defer any more.

    Args:
        state: of the task instance, as for `exit_action`.
    """
    if state in _TAKEN:
        return ExitAction.KEEP
    return ExitAction.HAND_OVER if state in {_RUNNING, UNKNOWN} else ExitAction.STOP


def after_airflow_error(
    state: str | None, *, retry_left: bool, is_durable: bool, is_replaced: bool
) -> ExitAction:
    """Return what a task does with its app after a request to Airflow failed: keep or stop it.

    A clear needs no case of its own: if the next attempt is on its way, that one stops the app,
    because a clear raises ``max_tries``, which is the app's epoch. A retry does not raise it.

    Args:
        state: of the task instance, as for `exit_action`.
        retry_left: another attempt follows if this one fails.
        is_durable: the next attempt may reattach to the app.
        is_replaced: Airflow does not know this attempt any more. It forgets an attempt only when
            another one follows.
    """
    if not is_durable:
        return ExitAction.STOP
    if state in {_RUNNING, UNKNOWN}:
        return ExitAction.KEEP if retry_left or is_replaced else ExitAction.STOP
    return ExitAction.KEEP if state in _TAKEN else ExitAction.STOP


# In these nobody will come back for the app of the try that waited on it.
_OVER: Final = frozenset(
    {"failed", "success", "skipped", "removed", "upstream_failed", "restarting", None}
)


def may_stop(app_id: str, *, state: str | None, current_app_id: str | None) -> bool:
    """Tell whether nobody needs an app any more.

    Args:
        app_id: the app that the trigger waits for.
        state: state of its task instance; None after a clear.
        current_app_id: the app that the task instance itself names, in XCom: every try does so,
            also one that adopts an app; None where it names none.
    """
    return state in _OVER or current_app_id not in (None, app_id)
