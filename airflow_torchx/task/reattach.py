"""Finds and cleans up apps that earlier processes of a task left on the daemon."""

from __future__ import annotations

import contextlib
import logging
import time
from typing import TYPE_CHECKING, Final

from airflow_torchx.concurrency.parallel import StopRequested, map_concurrently
from airflow_torchx.core.engine import labels
from airflow_torchx.core.gpu.ledger import is_marker
from airflow_torchx.core.plan.identity import try_suffix
from airflow_torchx.core.state.describe import has_ended
from airflow_torchx.core.task.reconcile import observed_apps, unneeded_markers
from airflow_torchx.errors import AppNotFoundError
from airflow_torchx.runtime import lifecycle

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_torchx.core.engine.containers import ContainerRow
    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.core.plan.identity import TaskAttempt
    from airflow_torchx.core.task.reconcile import CleanUp, ObservedApp
    from airflow_torchx.core.task.record import LaunchedApp

_log = logging.getLogger(__name__)

# Until another client's removal of a place is in the list.
_PAUSE_S: Final = 0.1


def found(
    engine: Engine, attempt: TaskAttempt
) -> tuple[list[ObservedApp], tuple[ContainerRow, ...]]:
    """Return what this task has on the daemon in this run, of any try.

    It makes one request, and one for each failed replica of an app that may be restarted.

    Returns:
        Its apps, and the containers that stand for its places in the queue for GPUs.
    """
    rows = engine.rows(task_labels(attempt))
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


def leave_queue(engine: Engine, attempt: TaskAttempt) -> None:
    """Remove what this task has in the queue for GPUs, unless a later try made it."""
    discard_markers(engine, attempt, found(engine, attempt)[1], may_wait=False)


def discard_markers(
    engine: Engine,
    attempt: TaskAttempt,
    markers: Sequence[ContainerRow],
    *,
    may_wait: bool,
    should_stop: Callable[[], bool] = lambda: False,
) -> None:
    """Remove the places in the queue for GPUs that no try of this task will use.

    Raises:
        StopRequested: ``should_stop`` returned True; some may be left.
    """

    def is_removed(row: ContainerRow) -> bool:
        if row.labels.get(labels.GPU_MARKER) != "probe":
            return engine.discard(row.id)
        # It may run, and it is not part of a race.
        engine.remove(row.id)
        return True

    while unneeded := unneeded_markers(attempt, markers, may_wait=may_wait):
        if all(map_concurrently(is_removed, unneeded)):
            return
        if should_stop():
            raise StopRequested
        time.sleep(_PAUSE_S)
        # A trigger that Airflow has not ended yet may have exchanged a ticket for a claim.
        markers = found(engine, attempt)[1]


def task_labels(attempt: TaskAttempt) -> dict[str, str]:
    """Return the labels that all apps of this task in this run have."""
    wanted = (labels.DAG_ID, labels.RUN_ID, labels.TASK_ID, labels.MAP_INDEX)
    return {label: attempt.labels[label] for label in wanted}


def newest(engine: Engine, attempt: TaskAttempt) -> LaunchedApp:
    """Return the app that this task launched last since a user last cleared it.

    Raises:
        AppNotFoundError: the daemon has no such app.
    """
    apps = [one for one in apps_of(engine, attempt) if one.max_tries == attempt.max_tries]
    if not apps:
        raise lifecycle.not_found(attempt.app_id)
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
