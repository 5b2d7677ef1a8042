"""DAGs in a whole Airflow, through its REST API: they succeed, and no line is lost or twice."""

from __future__ import annotations

import os
from collections import Counter
from contextlib import closing, suppress
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pytest

from airflow_torchx.core.connection.endpoint import Endpoint
from airflow_torchx.core.engine import labels
from airflow_torchx.docker_engine.connection import open_client, resolve
from airflow_torchx.schedulers.docker_scheduler import DockerScheduler
from tests.airflow.apps import shell
from tests.airflow.processes import until
from tests.airflow.stack import EXAMPLES, Task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_torchx.docker_engine import DockerEngine
    from tests.airflow.remains import Remains
    from tests.airflow.stack import Stack

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]

# Training on two cores, several tasks one after the other.
_PATIENCE_S: Final = 500.0


@pytest.mark.parametrize("dag_id", ["numbered_sync", "numbered_deferrable"])
def test_every_line_of_four_replicas(launch: Callable[[str], Task], dag_id: str) -> None:
    """The log has each line of each replica once, in its order, in both modes.

    Airflow sorts by the time at which a line was written, so before the process that copied it.
    """
    task = launch(dag_id)

    assert "success" == task.wait_for("success", "failed")
    for replica in range(4):
        assert [f"line {number}" for number in range(1, 2001)] == task.lines("worker", replica)
    log = task.log(task.now().try_number)
    _, *resumed = (i for i, event in enumerate(log) if event["event"] == "::group::Pre Execute")
    lines = [i for i, event in enumerate(log) if event.get("role") == "worker"]
    assert all(max(lines) < process for process in resumed[-1:])


def test_an_app_that_ends_updates_an_asset(
    stack: Stack, docker_engine: DockerEngine, app_id: str
) -> None:
    """The end of an app of any launcher updates an asset and triggers the DAG on it."""
    scheduler = DockerScheduler("test", docker_engine)
    app = replace(shell("true"), name="nightly")
    app_ids = (f"{app_id}-{number}" for number in count())
    launched: list[str] = []

    def launch_and_look() -> list[dict[str, Any]]:
        # What ends before a watcher has looked for the first time is no news to it.
        info = scheduler.submit_dryrun(app, context=scheduler.new_context(next(app_ids)))
        launched.append(scheduler.schedule(info))
        events = stack.get("assets/events")["asset_events"]
        return [event for event in events if event["extra"].get("from_trigger")]

    event, *_ = until(launch_and_look, "an event of the asset", patience_s=120, tick_s=5)

    assert event["extra"]["payload"]["app_id"] in launched
    assert "SUCCEEDED" == event["extra"]["payload"]["state"]
    assert stack.get("dags/asset_from_app/assets/queuedEvents")["queued_events"]


@pytest.fixture
def volume(app_id: str) -> Iterator[str]:
    """Return the name of a volume that is gone at the end."""
    from docker.errors import NotFound

    yield app_id

    with closing(open_client(resolve(Endpoint(), os.environ))) as client, suppress(NotFound):
        client.remove_volume(app_id)


def test_every_example_is_run() -> None:
    """Each example DAG has a test in this file, or is run by another file."""
    files = {file.stem for file in EXAMPLES.glob("*.py") if "airflow" in file.read_text()}

    tested = {name.removeprefix("test_") for name in globals()}
    assert files <= tested | {"asset_from_app", "prune", "quickstart"}


class Example(NamedTuple):
    """Runs of a DAG of dags/, in a whole Airflow.

    Args:
        stack: where it runs.
        remains: the logs of its containers.
        volume: a word of the test's own.
    """

    stack: Stack
    remains: Remains
    volume: str

    def run(self, dag_id: str, number: int = 0, /, first: str = "", **how: Any) -> str:  # noqa: ANN401 - as `Stack.trigger` takes it
        """Run a DAG to its success, and return the id of the run.

        The task logs have what its replicas wrote then, each line once.

        Args:
            dag_id: the DAG.
            number: which run of the test it is.
            first: the DAG that triggers it; empty for none.
            how: see `Stack.trigger`.
        """
        run_id = f"{self.volume}-{number}"
        self.stack.trigger(first or dag_id, run_id, **how)
        ended = until(
            lambda: _ended(self.stack, {first or dag_id, dag_id}),
            dag_id,
            patience_s=_PATIENCE_S,
        )
        assert {"success"} == ended
        assert [] == self.stack.failed_tries(run_id)
        written = self.remains.of(run_id)
        assert any(written.values())
        # A task that does not wait for its app has no lines of it in its log.
        for replica, lines in () if first else written.items():
            task = Task(self.stack, *replica[:4])
            shown = task.lines(replica.role, replica.replica)
            assert Counter(lines) == Counter(shown)
        return run_id

    def task(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> Task:
        """Return a task of a run."""
        return Task(self.stack, dag_id, run_id, task_id, map_index)


@pytest.fixture
def example(stack: Stack, remains: Remains, volume: str, no_images_left: None) -> Example:
    """Return what runs the files of dags/."""
    assert no_images_left is None
    return Example(stack, remains, volume)


def test_scheduled_retraining(example: Example) -> None:
    """The first model is promoted, a worse one is not, a better one is; so the asset follows.

    The last run is one by hand: it has no date, so no interval, and trains on the last day.
    """
    seen = []
    for number, (date, epochs) in enumerate(
        (("2026-03-02T00:00:00Z", 20), ("2026-03-03T00:00:00Z", 1), (None, 60))
    ):
        conf = {"volume": example.volume, "epochs": epochs}
        run_id = example.run("scheduled_retraining", number, conf=conf, logical_date=date)
        promoted = example.task("scheduled_retraining", run_id, "promote").state()
        events = example.stack.get("assets/events", source_run_id=run_id)["asset_events"]
        losses = example.task("scheduled_retraining", run_id, "evaluate").xcom()
        seen.append((promoted, len(events), losses))
    first, worse, better = seen

    assert ("success", 1) == first[:2]
    assert first[2]["promoted"] is None
    assert ("skipped", 0) == worse[:2]
    assert worse[2]["promoted"] < worse[2]["candidate"]
    assert ("success", 1) == better[:2]
    assert better[2]["candidate"] < better[2]["promoted"]


def test_resumable_training(example: Example) -> None:
    """The training saves in a volume; a second run does not continue with the first one."""
    for number in range(2):
        conf = {"volume": example.volume, "steps": 30}
        run_id = example.run("resumable_training", number, conf=conf)
        train = example.task("resumable_training", run_id, "train")
        assert 30 == train.xcom()["step"]
        assert "rank 0 starts after step 0 " in train.text()


def test_sensor_gated_pipeline(example: Example, docker_engine: DockerEngine) -> None:
    """The second DAG works with the app while it runs, sees it end, and takes it away.

    Without an app it fails, and is no success for want of a failure.
    """
    first = "sensor_gated_launch"
    run_id = example.run("sensor_gated_pipeline", first=first, conf={"epochs": 2})
    (gated,) = example.stack.get("dags/sensor_gated_pipeline/dagRuns")["dag_runs"]

    handle = example.task(first, run_id, "launch").xcom()
    runs, line, done = (
        example.task("sensor_gated_pipeline", gated["dag_run_id"], task_id).xcom()
        for task_id in ("runs", "first_line", "done")
    )
    assert (handle, handle) == (runs["app_handle"], done["app_handle"])
    assert line
    assert "SUCCEEDED" == done["state"]
    assert () == docker_engine.rows({labels.DAG_ID: first})

    conf = {"app_handle": "local_docker://torchx/nothing-here"}
    example.stack.trigger("sensor_gated_pipeline", "without", conf)
    dag_ids = {"sensor_gated_pipeline"}
    ended = until(lambda: _ended(example.stack, dag_ids), "no app")
    assert {"success", "failed"} == ended


def test_hyperparameter_sweep(example: Example) -> None:
    """Every rate is tried, and the best one is picked."""
    dag_id = "hyperparameter_sweep"
    run_id = example.run(dag_id, conf={"epochs": 1})

    names = [
        example.task(dag_id, run_id, "train", number).details()["rendered_map_index"]
        for number in range(3)
    ]
    assert ["lr=0.03", "lr=0.01", "lr=0.001"] == names
    best = example.task(dag_id, run_id, "pick_best").xcom()
    assert 0.001 < best["lr"]
    assert 1 == best["epochs"]


def test_torchx_decorator(example: Example) -> None:
    """Each slope is fitted, by all replicas together."""
    run_id = example.run("torchx_decorator")

    assert 4 == len(example.remains.of(run_id))
    assert 0.1 > example.task("torchx_decorator", run_id, "report").xcom()


def _ended(stack: Stack, dag_ids: set[str]) -> set[str]:
    """Return the states of all runs of these DAGs, nothing before each has a run that ended."""
    runs = [stack.run_states(dag_id) for dag_id in dag_ids]
    states = {state for of_dag in runs for state in of_dag.values()}
    return states if all(runs) and states <= {"success", "failed"} else set()
