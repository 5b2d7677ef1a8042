"""DAGs in a whole Airflow, through its REST API: they succeed, and no line is lost or twice."""

from __future__ import annotations

import os
from collections import Counter
from contextlib import closing, suppress
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pytest

from airflow_torchx.core.endpoint import Endpoint
from airflow_torchx.core.plan import Origin
from airflow_torchx.docker_engine.connection import open_client, resolve
from airflow_torchx.schedulers.docker_scheduler import DockerScheduler
from tests.airflow.apps import shell
from tests.airflow.processes import until
from tests.airflow.stack import EXAMPLES, Task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from airflow_torchx.docker_engine import DockerEngine
    from tests.airflow.remains import Remains
    from tests.airflow.stack import Stack

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]

# Training on two cores, several tasks one after the other.
_PATIENCE_S: Final = 500.0
_ASKING_S: Final = 0.5


class Example(NamedTuple):
    """How a file of dags/ is run.

    Args:
        conf: what its run is told; ``{}`` in a text stands for a name that is the test's own.
        first: the DAG to trigger, where that is not named like the file.
        hands_over: the task of it does not wait for its app, so that its log has none of its lines.
    """

    conf: Mapping[str, Any] = {}
    first: str | None = None
    hands_over: bool = False


HOW: Final = {
    "quickstart": Example(),
    "hyperparameter_sweep": Example({"epochs": 1}),
    "scheduled_retraining": Example({"epochs": 5, "volume": "{}"}),
    "sensor_gated_pipeline": Example({"epochs": 2}, "sensor_gated_launch", hands_over=True),
    "torchx_decorator": Example(),
}


@pytest.mark.parametrize("dag_id", ["numbered_sync", "numbered_deferrable"])
def test_every_line_of_four_replicas(launch: Callable[[str], Task], dag_id: str) -> None:
    """The log has each line of each replica once, in its order, in both modes."""
    task = launch(dag_id)

    assert "success" == task.wait_for("success", "failed")
    for replica in range(4):
        assert [f"line {number}" for number in range(1, 2001)] == task.lines("worker", replica)


def test_an_app_that_ends_updates_an_asset(
    stack: Stack, docker_engine: DockerEngine, app_id: str
) -> None:
    """Whoever launched it; the event names it, and a DAG that the asset schedules is due."""
    scheduler = DockerScheduler("test", docker_engine)
    app = replace(shell("true"), name="nightly")
    app_ids = (f"{app_id}-{number}" for number in count())
    launched: list[str] = []

    def launch_and_look() -> list[dict[str, Any]]:
        # What ends before a watcher has looked for the first time is no news to it.
        info = scheduler.submit_dryrun(app, origin=Origin(app_id=next(app_ids)))
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
    """The one that an asset runs has a test of its own."""
    files = {file.stem for file in EXAMPLES.glob("*.py") if "airflow" in file.read_text()}

    assert {*HOW, "asset_from_app"} == files


@pytest.mark.parametrize("name", HOW)
@pytest.mark.usefixtures("no_images_left")
def test_example(stack: Stack, remains: Remains, volume: str, name: str) -> None:
    """It succeeds, and the task logs have what its replicas wrote, each line once."""
    how = HOW[name]
    conf = {
        key: value.format(volume) if isinstance(value, str) else value
        for key, value in how.conf.items()
    }
    first = how.first or name
    stack.trigger(first, volume, conf)

    ended = until(
        lambda: _ended(stack, {first, name}), name, patience_s=_PATIENCE_S, tick_s=_ASKING_S
    )
    assert {"success"} == ended
    written = remains.of(volume)
    assert any(written.values())
    for replica, lines in written.items():
        if not how.hands_over:
            task = Task(stack, *replica[:4])
            shown = task.lines(replica.role, replica.replica, try_number=replica.try_number)
            assert Counter(lines) == Counter(shown)


def _ended(stack: Stack, dag_ids: set[str]) -> set[str]:
    """Return the states of all runs of these DAGs, nothing before each has a run that ended."""
    runs = [stack.get(f"dags/{dag_id}/dagRuns")["dag_runs"] for dag_id in dag_ids]
    states = {run["state"] for of_dag in runs for run in of_dag}
    return states if all(runs) and states <= {"success", "failed"} else set()
