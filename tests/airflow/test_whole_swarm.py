"""Tasks of a whole Airflow whose apps run on a Docker Swarm."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import pytest

from airflow_torchx.core.engine import labels
from tests.airflow.processes import kill, until
from tests.airflow.stack import lines_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_torchx.core.engine.containers import ContainerRow
    from airflow_torchx.swarm_engine import SwarmEngine
    from tests.airflow.stack import Stack, Task
    from tests.swarm.hosts import Hosts

    Launch = Callable[[str], Task]
    Rows = Callable[[], list[ContainerRow]]

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

LINES = [f"line {number}" for number in range(1, 1001)]
#: A file of a replica is on another node than the manager.
ON_WORKERS: Final = {"constraints": ["node.role==worker"], "options": {"stop_grace_s": 1}}


@contextmanager
def connected(stack: Stack, conn_id: str, hosts: Hosts, **extra: Any) -> Iterator[None]:  # noqa: ANN401 - any JSON
    """Give Airflow a connection of the swarm."""
    endpoint = hosts.endpoint()
    assert endpoint.swarm is not None
    extra |= {"scheduler": "docker_swarm", "node_url": endpoint.swarm.node_url}
    url = str(endpoint.url)
    with connection(stack, conn_id, conn_type="torchx_docker", host=url, extra=extra):
        yield


@contextmanager
def connection(stack: Stack, conn_id: str, extra: Any = None, **fields: str) -> Iterator[None]:  # noqa: ANN401 - any JSON
    """Give Airflow a connection."""
    stack.post(
        "connections", {"connection_id": conn_id, "extra": json.dumps(extra or {}), **fields}
    )
    yield
    stack.delete(f"connections/{conn_id}")


@pytest.fixture
def launch_there(stack: Stack, hosts: Hosts, rows: Rows, app_id: str) -> Iterator[Launch]:
    """Return what runs a DAG of one task on the swarm, once its three replicas run."""
    with connected(stack, app_id, hosts, **ON_WORKERS):
        yield lambda dag_id: launched(stack, dag_id, rows, app_id)


def launched(stack: Stack, dag_id: str, rows: Rows, app_id: str) -> Task:
    """Run a DAG of one task, and return it once three replicas run."""
    task = stack.trigger(dag_id, app_id, {"conn_id": app_id})
    until(lambda: is_running(rows()), "three replicas")
    return task


@pytest.fixture
def rows(swarm_engine: SwarmEngine, app_id: str) -> Iterator[Rows]:
    """Return what lists the containers of the DAG run; at the end they are removed."""

    def listed() -> list[ContainerRow]:
        return list(swarm_engine.rows({labels.RUN_ID: app_id}))

    yield listed
    for row in listed():
        swarm_engine.remove(row.id)


def is_running(rows: list[ContainerRow]) -> bool:
    """Return whether three replicas run."""
    return ["running"] * 3 == [row.state for row in rows]


def test_a_worker_process_that_is_killed(
    launch_there: Launch, rows: Rows, swarm_engine: SwarmEngine
) -> None:
    """The next try adopts the app, logs each line once, and returns the result of replica 0."""
    task = launch_there("elsewhere")
    app_ids = {row.labels[labels.APP_ID] for row in rows()}
    until(lambda: "line 500" in task.lines("worker", 2), "lines in the log")
    pid = task.now().pid
    assert pid is not None

    kill(pid)

    until(lambda: task.now()[:2] == ("running", 2), "the next try")
    for row in rows():
        swarm_engine.signal(row.id, "SIGUSR1")
    assert "success" == task.wait_for("success", "failed")
    for replica in range(3):
        assert LINES == lines_of(task.log(2), "worker", replica)
    assert {"replica": 0} == task.xcom()
    assert {task.xcom("app_id")} == app_ids
    assert f"docker_swarm://{task.run_id}/{task.xcom('app_id')}" == task.xcom("app_handle")
    assert [] == rows()


def test_a_deferred_task_that_is_cleared(
    launch_there: Launch, rows: Rows, swarm_engine: SwarmEngine
) -> None:
    """Its app is stopped and removed before another one runs, which then succeeds."""
    task = launch_there("elsewhere_deferrable")
    task.wait_for("deferred")
    before = {row.id for row in rows()}

    task.clear()

    until(lambda: is_running(rows()) and before.isdisjoint(row.id for row in rows()), "an app")
    task.wait_for("deferred")
    for row in rows():
        swarm_engine.signal(row.id, "SIGUSR1")
    assert "success" == task.wait_for("success", "failed")
    for replica in range(3):
        assert LINES == lines_of(task.log(task.now().try_number), "worker", replica)
    assert {"replica": 0} == task.xcom()
    assert [] == rows()
