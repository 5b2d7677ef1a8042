"""What becomes of an app whose task is ended by somebody else, in a whole Airflow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.airflow.stack import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.airflow.stack import Attempt

pytestmark = [pytest.mark.docker, pytest.mark.timeout(240)]


def end(task: Attempt, states: Callable[[], list[str]]) -> None:
    """Mark a task failed, and wait until its last container is gone.

    Airflow kills the process 5 s after it asked the task to end. A reason that the task writes into
    its log afterwards shows that it was done by then.
    """
    task.mark("failed")
    until(lambda: not states(), "no containers")


@pytest.mark.parametrize("dag_id", ["forever", "deaf"])
def test_while_running(
    launch: Callable[[str], Attempt], states: Callable[[], list[str]], dag_id: str
) -> None:
    """An app is stopped and removed when its task is marked failed, whether it listens or not."""
    task = launch(dag_id)
    until(lambda: states() == ["running", "running"], "two replicas")

    end(task, states)

    until(lambda: "AppCancelledError" in task.text(), "the reason in the log")


def test_while_launching(launch: Callable[[str], Attempt], states: Callable[[], list[str]]) -> None:
    """A launch is undone when its task is marked failed, and nothing of it comes later."""
    task = launch("many")
    until(states, "the first of many replicas")

    end(task, states)

    until(lambda: "LaunchInterruptedError" in task.text(), "the reason in the log")
    assert [] == states()


def test_out_of_time(launch: Callable[[str], Attempt], states: Callable[[], list[str]]) -> None:
    """An app is stopped and removed when its task runs into its execution_timeout."""
    task = launch("overtime")
    task.wait_for("failed")

    assert [] == states()
    assert "AirflowTaskTimeout" in task.text()
