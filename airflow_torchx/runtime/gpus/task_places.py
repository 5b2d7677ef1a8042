"""Removes what a task has in the queue for GPUs of a daemon."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from airflow_torchx.concurrency.parallel import StopRequested, map_concurrently
from airflow_torchx.core.engine import labels
from airflow_torchx.core.gpu.ledger import is_marker
from airflow_torchx.core.task.reconcile import unneeded_markers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_torchx.core.engine.containers import ContainerRow
    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.core.plan.identity import TaskAttempt

# Until another client's removal of a place is in the list.
_PAUSE_S: Final = 0.1


def leave_queue(engine: Engine, attempt: TaskAttempt) -> None:
    """Remove what this task has in the queue for GPUs, unless a later try made it."""
    discard_markers(engine, attempt, _markers(engine, attempt), may_wait=False)


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
        markers = _markers(engine, attempt)


def _markers(engine: Engine, attempt: TaskAttempt) -> list[ContainerRow]:
    return [row for row in engine.rows(attempt.task_labels) if is_marker(row)]
