"""Tests of prune in a whole Airflow, on a daemon of the tests' own."""

from __future__ import annotations

import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airflow_torchx.core.connection.endpoint import Endpoint
from airflow_torchx.core.engine import labels
from airflow_torchx.core.plan.identity import TaskAttempt
from airflow_torchx.docker_engine import DockerEngine
from airflow_torchx.docker_engine.connection import open_client
from airflow_torchx.runtime import reaper
from airflow_torchx.schedulers.docker_scheduler import DockerScheduler
from airflow_torchx.specs import AppDef, Role
from tests import pages
from tests.airflow.apps import up
from tests.airflow.gate import Gate, Hold, Kind
from tests.airflow.processes import kill, parent_of, until
from tests.conftest import BUSYBOX
from tests.integration.second_daemon import running_with_gpus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.airflow.stack import Stack, Task

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def engine() -> Iterator[DockerEngine]:
    """Return a daemon that has no containers of other tests."""
    with running_with_gpus(()) as daemon, DockerEngine.connect(daemon.endpoint) as connected:
        yield connected


@pytest.fixture
def conn_id(stack: Stack, engine: DockerEngine, app_id: str) -> str:
    """Return an Airflow connection to the daemon."""
    host = engine.info().url
    stack.post("connections", {"connection_id": app_id, "conn_type": "torchx_docker", "host": host})
    return app_id


@pytest.fixture
def task(stack: Stack, engine: DockerEngine, conn_id: str) -> Task:
    """Return a task between two tries, whose app runs: its process was killed."""
    task = stack.trigger("slow_retry", conn_id, {"conn_id": conn_id})
    until(lambda: len(engine.rows({labels.RUN_ID: conn_id})) == 2, "two containers")
    until(lambda: "has started" in str(task.log()), "the end of the launch")
    pid = task.now().pid
    assert pid
    kill(pid)
    # Not `wait_for`: the end of a killed process looks like Airflow's race.
    until(lambda: task.state() == "up_for_retry", "the time between two tries")
    assert 2 == len(engine.rows({labels.RUN_ID: conn_id}))
    return task


def prune(stack: Stack, conn_id: str, number: int, **params: object) -> list[str]:
    """Run dags/prune.py once; return the names of what it removed."""
    done = stack.trigger("prune", f"{conn_id}-{number}", {"conn_id": conn_id, **params})
    of_prune = type(done)(stack, done.dag_id, done.run_id, "remove")
    until(lambda: stack.run_states("prune").get(done.run_id) in {"success", "failed"}, "prune")
    assert "success" == of_prune.state(), of_prune.record()
    return [one["name"] for one in of_prune.xcom()["removed"]]


def test_an_app_between_two_tries(
    stack: Stack, engine: DockerEngine, task: Task, conn_id: str
) -> None:
    """Prune leaves an app that the next try reattaches to, and removes it once its task is over.

    No process of Airflow has the app when a user marks such a task.
    """
    rows = engine.rows({labels.RUN_ID: conn_id})
    assert [] == prune(stack, conn_id, 1)
    assert {row.id: row.state for row in rows} == {
        row.id: row.state for row in engine.rows({labels.RUN_ID: conn_id})
    }

    task.mark("failed")
    _, *of_the_page = pages.block_with("airflow torchx prune").split()
    stack.run(*of_the_page, "--conn", conn_id)
    assert 2 == len(engine.rows({labels.RUN_ID: conn_id}))

    assert {row.labels[labels.APP_ID] for row in rows} == set(prune(stack, conn_id, 2))
    assert () == engine.rows({labels.RUN_ID: conn_id})


def test_an_app_of_a_deleted_run(stack: Stack, engine: DockerEngine, conn_id: str) -> None:
    """The param gone of dags/prune.py removes apps of DAG runs that Airflow does not have."""
    attempt = TaskAttempt(
        dag_id="slow_retry", run_id=conn_id, task_id="run", map_index=-1, max_tries=0, try_number=1
    )
    scheduler = DockerScheduler("test", engine)
    own = {**attempt.labels, labels.ON_FINISH: "delete"}
    context = scheduler.new_context(attempt.app_id, labels=own)
    made = AppDef("deleted", [Role("r", BUSYBOX, entrypoint="sleep", args=["600"])])
    scheduler.launch(scheduler.prepare(made, {"stop_grace_s": 0}, context))

    assert [] == prune(stack, conn_id, 1)
    assert [attempt.app_id] == prune(stack, conn_id, 2, gone=True)

    assert () == engine.rows({labels.RUN_ID: conn_id})


def test_the_command(stack: Stack, engine: DockerEngine, task: Task, conn_id: str) -> None:
    """The command of Airflow's command line reads the states of tasks from its database."""
    stack.run("torchx", "prune", "--conn", conn_id)
    assert 2 == len(engine.rows({labels.RUN_ID: conn_id}))

    task.mark("success")
    stack.run("torchx", "prune", "--conn", conn_id)

    assert () == engine.rows({labels.RUN_ID: conn_id})


@pytest.fixture
def gate(engine: DockerEngine) -> Iterator[Gate]:
    """Return what holds requests to the daemon."""
    with tempfile.TemporaryDirectory() as folder:
        daemon = str(engine.info().url).removeprefix("unix://")
        with Gate(Path(folder) / "gate", daemon) as opened:
            yield opened


def reapers_of(pid: int) -> list[int]:
    """Return the reapers that a process has started."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            is_reaper = reaper.__name__ in path.joinpath("cmdline").read_text()
            if is_reaper and parent_of(int(path.name)) == pid:
                found.append(int(path.name))
        except OSError:
            continue
    return found


def test_a_kill_between_two_rounds_without_another_try(
    stack: Stack, engine: DockerEngine, gate: Gate, app_id: str
) -> None:
    """Prune leaves an app that its task restarts; it removes both rounds after a SIGKILL.

    The reaper of the task is killed, too, as by an end of the worker's container.
    """
    host = f"unix://{gate.path}"
    # A request is held while prune runs.
    connection = {"conn_type": "torchx_docker", "host": host, "extra": '{"request_timeout_s": 600}'}
    stack.post("connections", {"connection_id": app_id, **connection})
    task = stack.trigger("last_round", app_id, {"conn_id": app_id})
    wanted: dict[str, str | None] = {labels.RUN_ID: app_id}
    until(lambda: up(engine, wanted) == [True, True], "two programs")
    until(lambda: "has started" in str(task.log()), "the end of the launch")
    first = engine.rows(wanted)
    hold = gate.hold(Hold(Kind.START))
    with closing(open_client(Endpoint(url=engine.info().url))) as client:
        client.kill(first[0].id, "USR1")
    owner = hold.wait()
    between = {row.id: row.state for row in engine.rows(wanted)}
    assert ["created", "created", "exited", "exited"] == sorted(between.values())

    assert [] == prune(stack, app_id, 1)
    assert between == {row.id: row.state for row in engine.rows(wanted)}

    for one in [*reapers_of(owner), owner]:
        kill(one)
    hold.release()
    until(lambda: task.state() == "failed", "the failure")
    assert between == {row.id: row.state for row in engine.rows(wanted)}

    assert [first[0].labels[labels.APP_ID]] == prune(stack, app_id, 2)
    assert () == engine.rows(wanted)
