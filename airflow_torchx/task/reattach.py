"""Finds and cleans up apps that earlier processes of a task left on the daemon."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

from airflow_torchx.concurrency.parallel import map_concurrently
from airflow_torchx.core.gpu.ledger import is_marker
from airflow_torchx.core.plan.identity import try_suffix
from airflow_torchx.core.state.describe import has_ended
from airflow_torchx.core.task.reconcile import observed_apps
from airflow_torchx.errors import AppNotFoundError
from airflow_torchx.runtime import lifecycle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_torchx.core.engine.containers import ContainerRow
    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.core.plan.identity import TaskAttempt
    from airflow_torchx.core.task.reconcile import CleanUp, ObservedApp
    from airflow_torchx.core.task.record import LaunchedApp

_log = logging.getLogger(__name__)


def found(
    engine: Engine, attempt: TaskAttempt
) -> tuple[list[ObservedApp], tuple[ContainerRow, ...]]:
    """Return what this task has on the daemon in this run, of any try.

    It makes one request, and one for each failed replica of an app that may be restarted.

    Returns:
        Its apps, and the containers that stand for its places in the queue for GPUs.
    """
    rows = engine.rows(attempt.task_labels)
    # An app of an image that was committed from a task's container has the task's labels, too.
    apps = [
        one
        for one in observed_apps(rows, lifecycle.details_of(engine, rows))
        if one.app.app_id.endswith(try_suffix(one.max_tries, one.try_number))
    ]
    return apps, tuple(row for row in rows if is_marker(row))


def apps_of(engine: Engine, attempt: TaskAttempt) -> list[ObservedApp]:
    """Return all apps of this task in this run, of any try, with one request."""
    return found(engine, attempt)[0]


def newest(engine: Engine, attempt: TaskAttempt) -> LaunchedApp:
    """Return the app that this task launched last since a user last cleared it.

    Raises:
        AppNotFoundError: the daemon has no such app.
    """
    apps = [one for one in apps_of(engine, attempt) if one.max_tries == attempt.max_tries]
    if not apps:
        raise lifecycle.not_found(engine, attempt.app_id)
    return max(apps, key=lambda one: one.try_number).launched_app


def clean_up(engine: Engine, apps: Sequence[CleanUp], *, keep: bool) -> None:
    """Stop and remove apps of earlier tries; ``keep`` keeps containers of superseded ones."""

    def stop(one: CleanUp) -> None:
        _log.info("cleaning up %s app %s of an earlier try", one.cause, one.app_id)
        is_kept = keep and one.cause == "superseded"
        with contextlib.suppress(AppNotFoundError):
            if is_kept:
                lifecycle.cancel(engine, one.app_id)
            else:
                # `discard_markers` decides about the claim, which this try may take over.
                lifecycle.delete(engine, one.app_id, keep_claim=True)

    map_concurrently(stop, apps)


def unneeded(engine: Engine, attempt: TaskAttempt, *, keep: bool) -> list[LaunchedApp]:
    """Return the apps to stop if no try follows: all that no later clear launched.

    With ``keep``, apps that have ended are left out.
    """
    return [
        one.launched_app
        for one in apps_of(engine, attempt)
        if one.max_tries <= attempt.max_tries and not (keep and has_ended(one.app))
    ]
