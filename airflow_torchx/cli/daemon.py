"""Connects to what a command line is about: one daemon, or the swarm of which it is a manager."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_torchx.cli.commands import canonical
from airflow_torchx.core.connection.endpoint import Endpoint
from airflow_torchx.core.connection.settings import Settings
from airflow_torchx.core.connection.swarm import Swarm
from airflow_torchx.core.state.app_ref import AppRef, app_ref
from airflow_torchx.errors import UsageError
from airflow_torchx.runtime import engines, placing
from airflow_torchx.specs.handle import SCHEDULER, SWARM_SCHEDULER

if TYPE_CHECKING:
    from airflow_torchx.core.engine.protocol import Engine


def connect(scheduler: str | None, app: str = "") -> Engine:
    """Connect to the daemon of the docker command line, or to the swarm of that.

    Args:
        scheduler: what ``-s`` names; None without it.
        app: an app that may be a handle, whose scheduler counts then.

    Raises:
        UsageError: the handle is of another scheduler.
        ConditionError: it is of an unknown one.
        EngineUnreachableError: it does not answer, or it is not a manager of a swarm.
    """
    return engines.connect(_endpoint(scheduler_of(scheduler, app)))


def scheduler_of(scheduler: str | None, app: str = "") -> str:
    """Return the scheduler that ``-s`` or a handle names, else that of one daemon."""
    named = canonical(scheduler) if scheduler else None
    of_app = app_ref(app).scheduler if "://" in app else None
    if named and of_app and named != of_app:
        what = f"{app!r} is an app of {of_app}, not of {scheduler}"
        raise UsageError(what, fix="Leave -s out: a handle names its scheduler.")
    return named or of_app or SCHEDULER


def scheduler_on(engine: Engine) -> str:
    """Return the scheduler of the apps on an engine."""
    return SWARM_SCHEDULER if placing.has_nodes(engine) else SCHEDULER


def typed(engine: Engine, app_id: str) -> str:
    """Return how a command line names an app: by its id, and on a swarm by its handle."""
    scheduler = scheduler_on(engine)
    return app_id if scheduler == SCHEDULER else AppRef(app_id, None, scheduler).handle


def settings_of(scheduler: str | None, conn_id: str | None) -> Settings:
    """Return the settings of a connection, or of Airflow's default one if that is None.

    With ``-s`` and without a connection, they are those of the docker command line's daemon.

    Args:
        scheduler: what ``-s`` names; None without it.
        conn_id: what ``--conn`` names; None without it.

    Raises:
        UsageError: the connection is of another scheduler.
        InvalidAppError: it does not exist, or is invalid.
    """
    named = canonical(scheduler) if scheduler else None
    # Importing Airflow takes seconds, and it logs to standard output.
    with contextlib.redirect_stdout(sys.stderr):
        from airflow_torchx.airflow_compat import use_metadata_database
        from airflow_torchx.hooks import TorchXDockerHook

        use_metadata_database()
        if conn_id is None and named:
            return Settings(endpoint=_endpoint(named))
        settings = TorchXDockerHook(conn_id).settings("--conn")
    found = SWARM_SCHEDULER if settings.endpoint.swarm else SCHEDULER
    if named and named != found:
        what = f"connection {conn_id!r} is of {found}, not of {scheduler}"
        raise UsageError(what, fix="Leave -s out: a connection has its scheduler.")
    return settings


def _endpoint(scheduler: str) -> Endpoint:
    return replace(Endpoint(), swarm=Swarm() if scheduler == SWARM_SCHEDULER else None)
