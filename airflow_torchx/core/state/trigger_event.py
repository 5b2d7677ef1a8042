"""Decides which event a trigger fires for the state of its app."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - a TypedDict resolves its annotations
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, NotRequired, TypeAlias, TypedDict

from airflow_torchx.core.state.describe import (
    Fail,
    Finish,
    Place,
    StopAuxiliary,
    Wait,
    first_failure,
    next_step,
)
from airflow_torchx.core.state.evaluate import Met, Pending, Unreachable, evaluate
from airflow_torchx.core.state.report import cause, replica_name
from airflow_torchx.core.state.restarts import Restart
from airflow_torchx.core.state.stall import stalled_after

if TYPE_CHECKING:
    from airflow_torchx.core.state.condition import Condition
    from airflow_torchx.specs import DescribeAppResponse

#: Path of the trigger's class, under which Airflow stores a trigger. Importing the class would cost
#: every DAG file that has a sensor a second.
TRIGGER_CLASS: Final = "airflow_torchx.triggers.TorchXDockerTrigger"
#: Of the arguments that Airflow stores of a trigger; raised when a known one changes its meaning.
FORMAT_VERSION: Final = 1

#: ``reached``: the condition holds. ``failed``: it can no longer hold. ``gone``: the app is not on
#: the daemon, or the daemon refused a request of a wait for GPUs, as its image was removed.
#: ``timeout``, ``flush``: the deadline or the logging interval is over. ``unreachable``: the daemon
#: gave only errors, or no answer, for too long. ``claimed``: the task has GPUs for its app.
#: ``busy``: it waited for them too long.
Reason: TypeAlias = Literal[
    "reached", "failed", "timeout", "flush", "gone", "unreachable", "claimed", "busy"
]

#: Reasons that only a wait for GPUs has.
OF_GPUS: Final = frozenset({"claimed", "busy"})


class AppEvent(TypedDict):
    """The payload of a trigger event.

    Args:
        state: name of the app's state; None if unknown.
        message: one or two sentences for the user.
        usage: what the app has used, see `UsageHistory.to_json`; left out if it is unknown.
        snapshot: when its replicas changed, see `Timeline.to_json`; likewise.
    """

    app_id: str
    reason: Reason
    state: str | None
    message: str
    usage: NotRequired[Mapping[str, Any]]
    snapshot: NotRequired[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True, slots=True)
class WaitFor:
    """What a trigger waits for.

    Args:
        condition: the condition of a sensor; None for the end of every replica.
        wait_for_launch: wait for an app that does not exist yet.
    """

    condition: Condition | None = None
    wait_for_launch: bool = False


def trigger_event(
    app_id: str, app: DescribeAppResponse | None, wait_for: WaitFor
) -> AppEvent | Fail | StopAuxiliary | Restart | Place | None:
    """Return the event to fire, what to stop or place first, or None to keep waiting.

    ``app`` is None if the app is not on the daemon.
    """
    if app is None:
        gone = make_event(app_id, "gone", None, f"app {app_id!r} is not on the daemon.")
        return None if wait_for.wait_for_launch else gone
    if wait_for.condition is not None:
        return _condition_event(app, wait_for.condition)
    match next_step(app):
        case Finish():
            return end_event(app)
        case Fail() | StopAuxiliary() | Restart() | Place() as step:
            return step
        case Wait():
            return None


def _condition_event(app: DescribeAppResponse, condition: Condition) -> AppEvent | None:
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
    why = cause(blamed, stalled_after_s=stalled_after(app)) if blamed else ""
    reason = f": {replica_name(blamed)} failed first: {why}" if blamed else ""
    message = f"app {app.app_id!r} is {app.state.name}{reason}."
    return make_event(app.app_id, "reached", app.state.name, message)


def make_event(app_id: str, reason: Reason, state: str | None, message: str) -> AppEvent:
    """Return an event."""
    return AppEvent(app_id=app_id, reason=reason, state=state, message=message)
