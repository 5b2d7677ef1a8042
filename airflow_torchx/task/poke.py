"""What a sensor sees of an app, and the errors by which its task fails."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowException, AirflowFailException

from airflow_torchx.errors import AirflowTorchXError, EngineError
from airflow_torchx.hooks import TorchXDockerHook

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_torchx.core.state.app_ref import AppRef
    from airflow_torchx.specs import DescribeAppResponse


class StateUnreachableError(AirflowTorchXError, AirflowFailException):
    """The app came into a failed state, or ended without a target state; not tried again."""


class AppGoneError(AirflowTorchXError, AirflowFailException):
    """Nothing of the app is on the daemon, or no longer; not tried again."""


class AppStateUnknownError(AirflowTorchXError, AirflowException):
    """The daemon does not answer, or refuses to: nobody knows how the app is doing."""


def describe(ref: AppRef, outage_s: float | None = None) -> DescribeAppResponse | None:
    """Return how an app is doing, None if it is not there.

    Args:
        ref: the app.
        outage_s: seconds without an answer of the daemon to sit out; None for a minute.

    Raises:
        AppStateUnknownError: the daemon has not answered for so long, or refuses to.
    """
    from airflow_torchx.runtime.waiting import OUTAGE_S, Backoff, OutageTolerance

    tolerance, backoff = OutageTolerance(OUTAGE_S if outage_s is None else outage_s), Backoff()
    try:
        while True:
            with tolerance, TorchXDockerHook(ref.torchx_conn_id).get_conn() as scheduler:
                return scheduler.describe(ref.app_id)
            time.sleep(backoff.next())
    except EngineError as why:
        raise AppStateUnknownError(why.what, fix=why.fix) from why


def gone_error(ref: AppRef) -> AppGoneError:
    """Return the error for an app of which nothing is on the daemon."""
    what = f"no app {ref.app_id!r} on this daemon."
    fix = (
        "It runs on another daemon, or its containers have been removed: launch it with"
        ' wait_for_completion=False or on_finish="keep". wait_for_launch=True waits for an app'
        " that is not there yet."
    )
    return AppGoneError(what, fix=fix)


def unreachable_error(message: str) -> StateUnreachableError:
    """Return the error for an app that will not come as far as it should."""
    fix = "The log of the task that launched it tells more, or `docker logs` of its containers."
    return StateUnreachableError(message, fix=fix)


def describe_for_xcom(app: DescribeAppResponse, handle: str) -> dict[str, Any]:
    """Return what the task returns of an app that is there."""
    from airflow_torchx.core.state.describe import replicas_of

    replicas = [
        {"role": r.role, "id": r.id, "state": r.state.name, "exit_code": r.exit_code}
        for r in replicas_of(app)
    ]
    return description(handle, app.app_id, app.state.name, replicas)


def description(
    handle: str, app_id: str, state: str | None, replicas: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    """Return what the task returns; without replicas where nobody knows them any more."""
    return {"app_handle": handle, "app_id": app_id, "state": state, "replicas": list(replicas)}
