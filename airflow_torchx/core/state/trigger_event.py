"""What a trigger makes of what it sees of its app, and the event that it fires; pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, TypedDict

from airflow_torchx.core.state.describe import Fail, Finish, Wait, first_failure, next_step
from airflow_torchx.core.state.evaluate import Met, Pending, Unreachable, evaluate
from airflow_torchx.core.state.report import cause, replica_name

if TYPE_CHECKING:
    from airflow_torchx.core.state.condition import Condition
    from airflow_torchx.specs import DescribeAppResponse

#: ``reached``: what was waited for holds. ``failed``: it cannot hold any more. ``gone``: nothing of
#: the app is on the daemon. ``timeout`` and ``flush``: a time has come. ``unreachable``: the daemon
#: was away for too long.
Reason: TypeAlias = Literal["reached", "failed", "timeout", "flush", "gone", "unreachable"]


class AppEvent(TypedDict):
    """What a trigger fires.

    Args:
        state: name of the app's state, None where it is not known.
        message: one or two sentences for people.
    """

    app_id: str
    reason: Reason
    state: str | None
    message: str


@dataclass(frozen=True, kw_only=True, slots=True)
class WaitFor:
    """What a trigger waits for.

    Args:
        condition: what a sensor waits for; None for the end of every replica.
        wait_for_launch: an app that is not there is waited for.
    """

    condition: Condition | None = None
    wait_for_launch: bool = False


def trigger_event(
    app_id: str, app: DescribeAppResponse | None, wait_for: WaitFor
) -> AppEvent | Fail | None:
    """Return what is to be fired; Fail where peers are to be stopped first; None to go on waiting.

    Args:
        app_id: the app.
        app: what was seen of it; None when nothing of it is on the daemon.
        wait_for: what is waited for.
    """
    if app is None:
        return None if wait_for.wait_for_launch else gone_event(app_id)
    if wait_for.condition is not None:
        return _gated(app, wait_for.condition)
    match next_step(app):
        case Finish():
            return end_event(app)
        case Fail() as step:
            return step
        case Wait():
            return None


def _gated(app: DescribeAppResponse, condition: Condition) -> AppEvent | None:
    match evaluate(app, condition):
        case Met(state, message):
            return make_event(app.app_id, "reached", state.name, message)
        case Unreachable(state, message):
            return make_event(app.app_id, "failed", state.name, message)
        case Pending():
            return None


def end_event(app: DescribeAppResponse) -> AppEvent:
    """Return the event of an app whose replicas have all ended."""
    blamed = first_failure(app)
    why = f": {replica_name(blamed)} failed first: {cause(blamed)}" if blamed else ""
    message = f"app {app.app_id!r} is {app.state.name}{why}."
    return make_event(app.app_id, "reached", app.state.name, message)


def gone_event(app_id: str) -> AppEvent:
    """Return the event of an app that is not there."""
    return make_event(app_id, "gone", None, f"nothing of app {app_id!r} is on the daemon.")


def make_event(app_id: str, reason: Reason, state: str | None, message: str) -> AppEvent:
    """Return an event."""
    return AppEvent(app_id=app_id, reason=reason, state=state, message=message)
