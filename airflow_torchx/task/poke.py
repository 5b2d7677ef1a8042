"""Describes an app for a sensor, and defines the sensor's errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowException, AirflowFailException

from airflow_torchx.errors import AirflowTorchXError, EngineError
from airflow_torchx.hooks import TorchXDockerHook

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_torchx.core.state.app_ref import AppRef
    from airflow_torchx.specs import DescribeAppResponse


class StateUnreachableError(AirflowTorchXError, AirflowFailException):
    """The app reached a failed state, or can no longer reach a target state; there is no retry."""


class AppGoneError(AirflowTorchXError, AirflowFailException):
    """The daemon has no container of the app; there is no retry."""


class AppStateUnknownError(AirflowTorchXError, AirflowException):
    """The state of the app is unknown: the daemon does not answer, or refuses the request."""


def describe(ref: AppRef, outage_s: float | None = None) -> DescribeAppResponse | None:
    """Return the state of an app; None if the daemon has no container of it.

    It retries for ``outage_s`` seconds, or 60, while the daemon does not answer.

    Raises:
        AppStateUnknownError: the daemon has not answered for that long, or refuses the request.
    """
    from airflow_torchx.runtime.outage import OUTAGE_S, patiently

    def look() -> DescribeAppResponse | None:
        with TorchXDockerHook(ref.torchx_conn_id).get_conn() as scheduler:
            return scheduler.describe(ref.app_id)

    try:
        return patiently(look, outage_s=OUTAGE_S if outage_s is None else outage_s)
    except EngineError as error:
        raise AppStateUnknownError(error.what, fix=error.fix) from error


def handle_of(ref: AppRef) -> str:
    """Return the handle of an app, with the scheduler of its connection."""
    settings = TorchXDockerHook(ref.torchx_conn_id).settings()
    return ref._replace(scheduler=settings.scheduler).handle


def gone_error(ref: AppRef) -> AppGoneError:
    """Return the error for an app without containers."""
    engine = TorchXDockerHook(ref.torchx_conn_id).docker_cli().engine
    what = f"no app {ref.app_id!r} on {engine}."
    fix = (
        "Check torchx_conn_id. If the task that launched it removed it, set on_finish='keep' or"
        " wait_for_completion=False there. wait_for_launch=True waits for an app that is not"
        " launched yet."
    )
    return AppGoneError(what, fix=fix)


def unreachable_error(ref: AppRef, message: str) -> StateUnreachableError:
    """Return the error for an app that cannot reach a target state.

    A second line of the message is its fix.
    """
    what, _, fix = message.partition("\n")
    command = TorchXDockerHook(ref.torchx_conn_id).docker_cli().logs
    log = f"See the log of the task that launched it, or run `{command}` on its containers."
    return StateUnreachableError(what, fix=fix or log)


def describe_for_xcom(app: DescribeAppResponse, handle: str) -> dict[str, Any]:
    """Return the XCom value that describes an app."""
    from airflow_torchx.core.state.describe import replicas_of

    replicas = [
        {"role": r.role, "id": r.id, "state": r.state.name, "exit_code": r.exit_code}
        for r in replicas_of(app)
    ]
    return description(handle, app.app_id, app.state.name, replicas)


def description(
    handle: str, app_id: str, state: str | None, replicas: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    """Return the XCom value; ``replicas`` is empty if the containers were removed."""
    return {"app_handle": handle, "app_id": app_id, "state": state, "replicas": list(replicas)}
