"""Decides what happens to an app when its task or trigger is stopped.

Airflow sends the same SIGTERM when a user stops a task and when a worker shuts down. Only in the
second case is the state of the task instance still ``running`` (Airflow 3.3.2). Airflow also calls
a trigger's ``on_kill`` when another triggerer has taken over the trigger, although its docs say
that it does not (apache/airflow PR #73454); the state decides there, too.

An error of Airflow, or an outage of the daemon, is not an error of the app. The next attempt
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


#: The state if the API server did not answer in time.
UNKNOWN = "unknown"
_RUNNING = "running"
#: States in which another process owns the task instance, or soon will, and its app.
_TAKEN = frozenset({"queued", "scheduled", "deferred", "up_for_retry", "up_for_reschedule"})


def exit_action(state: str | None, policy: OnWorkerShutdown, *, retry_left: bool) -> ExitAction:
    """Return what a task does with its app after SIGTERM.

    The state is that of the task instance, `UNKNOWN`, or None after a clear. The policy is for a
    worker that shuts down.
    """
    if state in _TAKEN:
        return ExitAction.KEEP
    if state == UNKNOWN or (state == _RUNNING and policy is OnWorkerShutdown.KEEP):
        return ExitAction.KEEP if retry_left else ExitAction.STOP
    if state != _RUNNING or policy is OnWorkerShutdown.STOP:
        return ExitAction.STOP
    return ExitAction.HAND_OVER


def before_deferral(state: str | None) -> ExitAction:
    """Return what a task does with its app when it is about to defer.

    An unknown state does not prevent the deferral; Airflow refuses it if the task may not defer.
    """
    if state in _TAKEN:
        return ExitAction.KEEP
    return ExitAction.HAND_OVER if state in {_RUNNING, UNKNOWN} else ExitAction.STOP


def after_deferral(state: str | None) -> ExitAction:
    """Return what a task does with its app after it has reported its deferral.

    Airflow may have refused the deferral. It also drops a trigger that no triggerer runs yet when a
    user ends the task, without a call to the trigger. A state that is still ``running`` shows that
    the report failed; Airflow may repeat it.
    """
    if state in {"deferred", _RUNNING, UNKNOWN}:
        return ExitAction.HAND_OVER
    return ExitAction.KEEP if state in _TAKEN else ExitAction.STOP


def after_error(
    state: str | None, *, retry_left: bool, is_durable: bool, is_replaced: bool
) -> ExitAction:
    """Return whether a task keeps or stops its app after an error that is not the app's.

    After a clear, the app may be kept, because the next attempt stops it: a clear raises
    ``max_tries``, and a retry does not.

    Args:
        state: state of the task instance, as for `exit_action`.
        retry_left: whether the task has another try.
        is_durable: whether the next attempt may reattach to the app.
        is_replaced: whether Airflow has moved this attempt to the history, which it does only if
            another one follows.
    """
    follows = state in _TAKEN or (state in {_RUNNING, UNKNOWN} and (retry_left or is_replaced))
    return ExitAction.KEEP if is_durable and follows else ExitAction.STOP


# An event reaches its task within seconds. A task that is deferred later has deferred again.
_DELIVERY_S: Final = 60.0


def is_resuming(state: str | None, fired_s: float) -> bool:
    """Return whether no process has the app of a task: its trigger has fired, and it waits to run.

    Args:
        state: state of the task instance; None after a clear.
        fired_s: seconds since the trigger fired.
    """
    return state in {"scheduled", "queued"} or (state == "deferred" and fired_s < _DELIVERY_S)


# States in which no process will use the app again.
_OVER: Final = frozenset(
    {"failed", "success", "skipped", "removed", "upstream_failed", "restarting", None}
)


def may_stop(app_id: str, *, state: str | None, current_app_id: str | None) -> bool:
    """Return whether a trigger may stop its app, because no process needs it any more.

    ``state`` is None after a clear. ``current_app_id`` is in the task instance's XCom, where every
    try pushes it; None without one.
    """
    return state in _OVER or current_app_id not in (None, app_id)
