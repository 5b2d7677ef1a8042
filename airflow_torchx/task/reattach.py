"""Apps that earlier processes of a task left on the daemon: found, and put away."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

from airflow_torchx.concurrency.parallel import map_concurrently
from airflow_torchx.core.engine import labels
from airflow_torchx.core.task.reconcile import Decision, ObservedApp, decide, observed_apps
from airflow_torchx.errors import AppNotFoundError
from airflow_torchx.runtime import lifecycle

if TYPE_CHECKING:
    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.core.plan.identity import TaskAttempt
    from airflow_torchx.core.task.reconcile import LaunchedApp, TaskRecord

_log = logging.getLogger(__name__)


def apps_of(engine: Engine, attempt: TaskAttempt) -> list[ObservedApp]:
    """Return all apps that this task of this run has launched, in whatever try, in one call."""
    wanted = (labels.DAG_ID, labels.RUN_ID, labels.TASK_ID, labels.MAP_INDEX)
    return observed_apps(engine.rows({label: attempt.labels[label] for label in wanted}))


def newest(engine: Engine, attempt: TaskAttempt) -> LaunchedApp:
    """Return the app that this task launched last since a user cleared it.

    Raises:
        AppNotFoundError: there is none.
    """
    apps = [one for one in apps_of(engine, attempt) if one.epoch == attempt.epoch]
    if not apps:
        raise lifecycle.not_found(attempt.app_id)
    return max(apps, key=lambda one: one.try_number).launched_app


def reconcile(
    engine: Engine,
    attempt: TaskAttempt,
    config_hash: str,
    record: TaskRecord | None,
    *,
    durable: bool,
) -> Decision:
    """Decide about the apps that are there, see `core.adoption.decide`; changes nothing.

    Args:
        engine: the daemon.
        attempt: this attempt.
        config_hash: digest of what it would launch.
        record: what earlier attempts wrote down.
        durable: False takes none of them over.
    """
    # An empty digest is nobody's: whatever is there is in the way.
    return decide(attempt, config_hash if durable else "", apps_of(engine, attempt), record)


def clean_up(engine: Engine, decision: Decision, *, keep: bool) -> None:
    """Stop the apps that no longer count, and remove them unless they are to be kept.

    Of a launch that broke off nothing is kept: it tells nobody anything.
    """

    def remove(app_id: str) -> None:
        _log.info("removing app %s, whose launch broke off", app_id)
        with contextlib.suppress(AppNotFoundError):
            lifecycle.delete(engine, app_id)

    def stop(app_id: str) -> None:
        _log.info("putting away app %s of an earlier try", app_id)
        with contextlib.suppress(AppNotFoundError):
            (lifecycle.cancel if keep else lifecycle.delete)(engine, app_id)

    map_concurrently(remove, decision.incomplete)
    map_concurrently(stop, decision.superseded)


def stop_all(engine: Engine, attempt: TaskAttempt, *, keep: bool) -> None:
    """Stop every app of this task that was launched since a user last cleared it."""
    ids = tuple(one.app.app_id for one in apps_of(engine, attempt) if one.epoch == attempt.epoch)
    clean_up(engine, Decision(superseded=ids), keep=keep)
