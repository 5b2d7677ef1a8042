"""A sensor in a whole Airflow, in the modes that wait outside of a worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

from airflow_torchx.core.engine import labels
from airflow_torchx.runtime import lifecycle
from airflow_torchx.schedulers.docker_scheduler import DockerScheduler
from tests.airflow.apps import OBEDIENT, shell
from tests.airflow.processes import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_torchx.docker_engine import DockerEngine
    from tests.airflow.stack import Stack, Task

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

#: In which state a task waits.
WAITS_AS: Final = {
    "reschedule": "up_for_reschedule",
    "deferrable": "deferred",
    "from_trigger": "deferred",
}
each_mode = pytest.mark.parametrize("mode", WAITS_AS)


@pytest.fixture
def handle(docker_engine: DockerEngine, app_id: str) -> str:
    """Return the handle of an app that no Airflow has launched; it succeeds when it is stopped."""
    scheduler = DockerScheduler("torchx", docker_engine)
    context = scheduler.new_context(app_id)
    scheduler.schedule(scheduler.prepare(shell(OBEDIENT), context=context))
    return f"local_docker://torchx/{app_id}"


@pytest.fixture
def wait(
    stack: Stack, docker_engine: DockerEngine, app_id: str, handle: str
) -> Iterator[Callable[..., Task]]:
    """Return what starts one of the DAGs in dags/sensors.py for the app."""
    yield lambda dag_id, **conf: stack.trigger(dag_id, app_id, {"app_handle": handle, **conf})

    assert [] == stack.failed_tries(app_id)
    for row in docker_engine.rows({labels.RUN_ID: app_id}):
        docker_engine.remove(row.id)


@pytest.fixture
def end(docker_engine: DockerEngine, app_id: str) -> Callable[[], None]:
    """Return what lets the app succeed."""

    def end() -> None:
        for row in docker_engine.rows({labels.APP_ID: app_id}):
            docker_engine.stop(row.id, 5)

    return end


def description(handle: str, state: str, exit_code: int | None) -> dict[str, Any]:
    """Return what a sensor returns of the app."""
    app_id = handle.rpartition("/")[2]
    replica = {"role": "worker", "state": state, "exit_code": exit_code}
    replicas = [{**replica, "id": 0}, {**replica, "id": 1}]
    return {"app_handle": handle, "app_id": app_id, "state": state, "replicas": replicas}


@each_mode
def test_waits(mode: str, wait: Callable[..., Task], handle: str, end: Callable[[], None]) -> None:
    """The task's state shows where it waits, and its value shows how the app ended."""
    task = wait(f"wait_{mode}_hard")
    task.wait_for(WAITS_AS[mode])

    end()

    assert "success" == task.wait_for("success", "failed")
    assert description(handle, "SUCCEEDED", 0) == task.xcom()


@each_mode
def test_misses(
    mode: str, wait: Callable[..., Task], docker_engine: DockerEngine, app_id: str
) -> None:
    """An app that is cancelled fails the task without another try, or skips it."""
    tasks = [wait(f"wait_{mode}_{softly}") for softly in ("hard", "soft_fail", "never_fail")]
    for task in tasks:
        task.wait_for(WAITS_AS[mode])

    lifecycle.cancel(docker_engine, app_id)

    ends = ("failed", "skipped", "up_for_retry", "success")
    assert ["failed", "skipped", "skipped"] == [task.wait_for(*ends) for task in tasks]


@each_mode
def test_never_fails_for_want_of_time(
    mode: str, wait: Callable[..., Task], docker_engine: DockerEngine, app_id: str
) -> None:
    """The task is skipped, and the app runs on."""
    task = wait(f"wait_{mode}_briefly")

    assert "skipped" == task.wait_for("failed", "skipped", "up_for_retry", "success")
    assert ["running", "running"] == [
        row.state for row in docker_engine.rows({labels.APP_ID: app_id})
    ]


def test_the_triggerer_renders(
    wait: Callable[..., Task], stack: Stack, docker_engine: DockerEngine, app_id: str
) -> None:
    """The triggerer renders templates where no worker does."""
    connection = {
        "connection_id": f"{app_id}-host",
        "conn_type": "torchx_docker",
        "host": docker_engine.info().url,
    }
    stack.post("connections", connection)

    task = wait("wait_for_role", torchx_conn_id=connection["connection_id"])

    assert "success" == task.wait_for("success", "failed")
    found = description(f"local_docker://{app_id}-host/{app_id}", "RUNNING", None)
    assert found == task.xcom()


def test_the_triggerer_pulls(wait: Callable[..., Task], stack: Stack, app_id: str) -> None:
    """The triggerer finds the handle that another task has returned."""
    task = wait("launch_and_wait")

    assert "success" == task.wait_for("success", "failed", "upstream_failed")
    launched = stack.get(
        f"dags/launch_and_wait/dagRuns/{app_id}/taskInstances/launch/xcomEntries/return_value"
    )
    assert (launched["value"], "SUCCEEDED") == (task.xcom()["app_handle"], task.xcom()["state"])


def test_a_mapped_one_cannot_start_there(
    wait: Callable[..., Task], stack: Stack, handle: str, app_id: str, end: Callable[[], None]
) -> None:
    """A mapped sensor defers from a worker instead of starting in the triggerer."""
    wait("wait_for_each")
    path = f"dags/wait_for_each/dagRuns/{app_id}/taskInstances/gang"

    def states() -> list[str]:
        found = stack.get(f"{path}/listMapped")["task_instances"]
        return [one["state"] for one in found]

    until(lambda: states() == ["deferred", "deferred"], "two deferred tasks")
    end()
    until(lambda: states() == ["success", "success"], "two ended tasks")

    found = stack.get(f"{path}/xcomEntries/return_value", map_index="1")["value"]
    assert description(handle, "SUCCEEDED", 0) == found
