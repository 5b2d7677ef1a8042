"""Tasks on a Docker Swarm in a whole Airflow: kills, users, and real PyTorch. A campaign."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_torchx.core.engine import labels
from tests.airflow.processes import kill, until
from tests.airflow.stack import lines_of
from tests.airflow.test_whole_swarm import (
    LINES,
    ON_WORKERS,
    connected,
    connection,
    is_running,
    launched,
    rows,
)
from tests.integration.uv_project import BASE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_torchx.swarm_engine import SwarmEngine
    from tests.airflow.killable import KillableAirflow
    from tests.airflow.stack import Stack, Task
    from tests.airflow.test_whole_swarm import Launch, Rows
    from tests.integration.registry import Registry
    from tests.swarm.hosts import Hosts

__all__ = ["rows"]

pytestmark = [pytest.mark.docker, pytest.mark.campaign, pytest.mark.timeout(900)]

both_modes = pytest.mark.parametrize("mode", ["", "_deferrable"], ids=["waits", "defers"])


@pytest.fixture
def launch(killable: KillableAirflow, hosts: Hosts, rows: Rows, app_id: str) -> Iterator[Launch]:
    """Return what launches on the swarm, from an Airflow that notices a kill within seconds."""
    stack = killable.started()
    with connected(stack, app_id, hosts, **ON_WORKERS):

        def launch(dag_id: str) -> Task:
            task = launched(stack, dag_id, rows, app_id)
            task.wait_for("deferred" if dag_id.endswith("_deferrable") else "running")
            return task

        yield launch


def _end_well(task: Task, rows: Rows, engine: SwarmEngine) -> None:
    """Let the replicas end, and assert what their task has of them."""
    for row in rows():
        engine.signal(row.id, "SIGUSR1")
    assert "success" == task.wait_for("success", "failed"), task.record()
    for replica in range(3):
        assert LINES == lines_of(task.log(task.now().try_number), "worker", replica)
    assert {"replica": 0} == task.xcom()
    assert [] == rows()


@both_modes
@pytest.mark.parametrize("act", ["failed", "success", "cleared"])
def test_a_task_that_a_user_ends(
    act: str, mode: str, launch: Launch, rows: Rows, swarm_engine: SwarmEngine
) -> None:
    """Its app is removed; a task that is cleared launches another one after that."""
    task = launch(f"elsewhere{mode}")
    before = {row.id for row in rows()}

    if act != "cleared":
        task.mark(act)
        until(lambda: not rows(), "the end of the app")
        assert act == task.state()
        return

    task.clear()
    until(lambda: is_running(rows()) and before.isdisjoint(row.id for row in rows()), "an app")
    task.wait_for("deferred" if mode else "running")
    _end_well(task, rows, swarm_engine)


@pytest.mark.parametrize(
    ("struck", "mode"),
    [
        ("scheduler", ""),
        ("scheduler", "_deferrable"),
        ("triggerer", "_deferrable"),
        ("worker", ""),
    ],
)
def test_a_process_of_airflow_that_is_killed(
    struck: str,
    mode: str,
    launch: Launch,
    rows: Rows,
    swarm_engine: SwarmEngine,
) -> None:
    """The task goes on with the same app, and no line is lost or comes twice."""
    task = launch(f"elsewhere{mode}")
    app_ids = {row.labels[labels.APP_ID] for row in rows()}

    if struck == "worker":
        pid = task.now().pid
        assert pid is not None
        kill(pid)
        until(lambda: task.now()[:2] == ("running", 2), "the next try")
    else:
        stack = task.stack
        component = stack.scheduler if struck == "scheduler" else stack.triggerers[0]
        component.kill()
        component.start()

    _end_well(task, rows, swarm_engine)
    assert app_ids == {task.xcom("app_id")}


@pytest.fixture
def trainer(
    killable: KillableAirflow, hosts: Hosts, swarm_registry: Registry, app_id: str
) -> Iterator[Stack]:
    """Return an Airflow with a connection to a swarm whose manager alone has PyTorch."""
    hosts.bring_image(BASE, 1)
    stack, login = killable.started(), swarm_registry.login
    user = {"conn_type": "docker", "host": login.registry, "login": login.username}
    options = {
        "image_repo": f"{swarm_registry.host}/team/{app_id}",
        "max_replicas_per_node": 1,
        "placement": "spread",
    }
    with (
        connection(stack, "swarm_registry", **user, password=login.password),
        connected(stack, app_id, hosts, options=options, registries=["swarm_registry"]),
    ):
        yield stack


@both_modes
def test_training_over_three_nodes(
    mode: str,
    trainer: Stack,
    rows: Rows,
    record_property: Callable[[str, object], None],
    app_id: str,
) -> None:
    """The manager builds an image with a workspace, each node pulls it, and the loss falls."""
    task = trainer.trigger(f"torchrun{mode}", app_id, {"conn_id": app_id})
    until(lambda: is_running(rows()), "three replicas")
    nodes = [row.node for row in rows()]
    assert "success" == task.wait_for("success", "failed"), task.record()

    assert ["box1", "box2", "box3"] == sorted(nodes)
    found = task.xcom()
    record_property("outcome", f"loss {found['first_loss']:.3f} -> {found['final_loss']:.3f}")
    assert (10, 3) == (found["epochs"], found["world_size"])
    assert found["final_loss"] < found["first_loss"] / 2
    assert [] == rows()
