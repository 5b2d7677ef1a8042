"""What a whole Airflow shows as the log of a task."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_torchx.core.engine import labels
from airflow_torchx.core.engine.containers import LogQuery
from tests.airflow.processes import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_torchx.docker_engine import DockerEngine
    from tests.airflow.stack import Task

pytestmark = [pytest.mark.docker, pytest.mark.timeout(240)]


def test_every_line_once(launch: Callable[[str], Task]) -> None:
    """Every line of each replica is there once, in its order, under its name."""
    task = launch("chatty")
    task.wait_for("success")

    events = [event for event in task.logs() if event.get("logger", "").startswith("torchx.")]
    for replica in range(2):
        own = [event for event in events if event.get("replica") == replica]
        lines = [line for event in own for line in event["event"].split("\n")]
        texts = task.lines("worker", replica)
        numbers = [text for text in texts if text.startswith("line ")]

        assert {"worker"} == {event["role"] for event in own}
        assert {f"torchx.worker.{replica}"} == {event["logger"] for event in own}
        assert all(line.startswith(f"worker/{replica} ") for line in lines)
        assert [f"line {number}" for number in range(1, 5001)] == numbers
        assert 1 == texts.count("x" * 20_000)
        # Without its marker, which would fold the log in Airflow's UI.
        assert 1 == texts.count("folded")
        assert 1 == texts.count("no newline")
        assert 1 == texts.count("not \ufffd UTF-8")


@pytest.mark.parametrize(
    ("dag_id", "state"), [("restarted", "running"), ("restarted_deferrable", "deferred")]
)
def test_the_log_says_why_an_app_is_restarted(
    launch: Callable[[str], Task], docker_engine: DockerEngine, dag_id: str, state: str
) -> None:
    """A line of the try's log says what failed and what follows, once, in both modes."""
    task = launch(dag_id)
    task.wait_for(state)

    def ready() -> list[str]:
        rows = docker_engine.rows({labels.DAG_ID: dag_id, labels.RUN_ID: task.run_id})
        running = [row.id for row in rows if row.state == "running"]
        return [one for one in running if b"up" in b"".join(docker_engine.logs(one, LogQuery()))]

    docker_engine.signal(until(ready, "a replica that runs")[0], "SIGUSR1")

    assert "success" == task.wait_for("success", "failed")
    told = [one["event"] for one in task.logs() if "restarting" in one["event"]]
    (line,) = told
    assert line.endswith("failed: exit code 7; restarting the app, restart 1 of 2")
