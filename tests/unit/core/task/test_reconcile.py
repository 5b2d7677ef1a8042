"""What an attempt of a task does with its places in the queue for GPUs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import pytest

from airflow_torchx.core.engine import labels
from airflow_torchx.core.engine.containers import ContainerRow
from airflow_torchx.core.plan.identity import TaskAttempt
from airflow_torchx.core.task.reconcile import unneeded_markers

RETRY: Final = TaskAttempt(
    dag_id="dag", run_id="run", task_id="task", map_index=-1, max_tries=2, try_number=2
)


def place(
    place: str, max_tries: str, try_number: str = "2", state: str = "created"
) -> ContainerRow:
    """Return the container of a place."""
    return ContainerRow(
        id="c",
        name=f"airflow-torchx-gpu-{place}-key",
        image="busybox",
        state=state,
        status="",
        labels={
            labels.GPU_MARKER: place,
            labels.MAX_TRIES: max_tries,
            labels.TRY_NUMBER: try_number,
        },
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


@pytest.mark.parametrize(
    ("kind", "max_tries", "may_wait", "is_removed"),
    [
        ("ticket", "2", True, False),
        ("claim", "2", True, False),
        # A killed process was in the lock, or looked for the daemon's GPUs.
        ("lock", "2", True, True),
        ("probe", "2", True, True),
        # The app runs already, has succeeded, or needs no GPUs.
        ("ticket", "2", False, True),
        ("claim", "2", False, True),
        # A user has cleared the task since then.
        ("ticket", "1", True, True),
        ("claim", "1", True, True),
        # A user has cleared the task, and this attempt is the old one.
        ("ticket", "3", True, False),
        ("ticket", "3", False, False),
        ("claim", "3", False, False),
        ("lock", "3", False, False),
        ("ticket", "not a number", True, True),
    ],
)
def test_unneeded_markers(kind: str, max_tries: str, *, may_wait: bool, is_removed: bool) -> None:
    """Only an attempt that may wait keeps places, those that its tries since the clear made."""
    row = place(kind, max_tries)

    assert ((row,) if is_removed else ()) == unneeded_markers(RETRY, [row], may_wait=may_wait)


def test_places_that_are_not_for_this_attempt() -> None:
    """An attempt leaves places of a later try alone, and what the daemon is removing already."""
    first, second = place("claim", "2", "1"), place("claim", "2", "2")
    later, removed = place("claim", "2", "3"), place("claim", "2", "1", "removing")

    found = unneeded_markers(RETRY, [first, second, later, removed], may_wait=False)

    assert (first, second) == found
