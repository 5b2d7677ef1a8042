"""The app of a task that another process ends, in a whole Airflow."""

from __future__ import annotations

import os
import re
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import pytest

from airflow_torchx.core.connection.endpoint import Endpoint
from airflow_torchx.core.engine import labels
from airflow_torchx.docker_engine.connection import open_client, resolve
from tests.airflow.apps import up
from tests.airflow.gate import Hold, Kind
from tests.airflow.processes import is_alive, kill, parent_of, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_torchx.docker_engine import DockerEngine
    from tests.airflow.gate import Gate
    from tests.airflow.stack import Stack, Task

pytestmark = [pytest.mark.docker, pytest.mark.timeout(240)]


@pytest.fixture
def run(
    launch: Callable[[str], Task], docker_engine: DockerEngine, app_id: str
) -> Callable[[str], Task]:
    """Return what launches the two replicas of a DAG, and waits until a signal ends them.

    A container runs before its program handles signals, and before its launch is over: a task that
    is ended then undoes the launch.
    """

    def run(dag_id: str) -> Task:
        task = launch(dag_id)
        until(lambda: up(docker_engine, {labels.RUN_ID: app_id}) == [True, True], "two programs")
        until(lambda: "has started" in str(task.log()), "the end of the launch")
        return task

    return run


def test_while_running(run: Callable[[str], Task], states: Callable[[], list[str]]) -> None:
    """An app is stopped and removed when its task is marked failed, and the log has its card."""
    task = run("forever")

    task.mark("failed")

    until(lambda: not states(), "no containers")
    # Airflow kills the process 5 s after it asked the task to end.
    until(lambda: "AppCancelledError" in task.text(), "the reason in the log")
    assert 2 == task.text().count("CANCELLED   143         SIGTERM"), task.record()


def test_while_running_with_a_long_grace_period(
    run: Callable[[str], Task],
    states: Callable[[], list[str]],
    docker_engine: DockerEngine,
    app_id: str,
) -> None:
    """Replicas may save a checkpoint for longer than Airflow lets their task live."""
    task = run("saves")

    task.mark("failed")

    until(lambda: states() == ["exited", "exited"], "the end of the replicas")
    rows = docker_engine.rows({labels.RUN_ID: app_id})
    details = [docker_engine.inspect(row.id) for row in rows]
    assert [3, 3] == [detail and detail.exit_code for detail in details]
    until(lambda: "up to 30 s (stop_grace_s) to end" in task.text(), "the reason in the log")


def test_while_running_with_a_checkpoint_signal(
    run: Callable[[str], Task],
    states: Callable[[], list[str]],
    docker_engine: DockerEngine,
    app_id: str,
) -> None:
    """Replicas that were asked to save complete it after Airflow has killed their task."""
    task = run("saves_on_signal")

    task.mark("failed")

    until(lambda: states() == ["exited", "exited"], "the end of the replicas")
    rows = docker_engine.rows({labels.RUN_ID: app_id})
    details = [docker_engine.inspect(row.id) for row in rows]
    # A replica that gets SIGTERM while it saves is killed a second later.
    assert [3, 3] == [detail and detail.exit_code for detail in details]
    text = "up to 60 s to save, then 1 s (stop_grace_s) to end"
    until(lambda: text in task.text(), "the reason in the log")


def test_while_launching(
    launch: Callable[[str], Task], states: Callable[[], list[str]], gate: Gate
) -> None:
    """A launch is undone when its task is marked failed, and nothing of it comes later."""
    hold = gate.hold(Hold(Kind.CREATE, nth=2))
    task = launch("forever")
    hold.wait()
    assert ["created"] == states()

    # Airflow kills the process 5 s after it has asked it to end, and its API may say so too late.
    logs = task.stack.home / "logs" / f"dag_id={task.dag_id}" / f"run_id={task.run_id}"
    log = logs / f"task_id={task.task_id}" / f"attempt={task.now().try_number}.log"

    task.mark("failed")

    until(lambda: "Terminating process" in log.read_text(), "Airflow's word to the task")
    hold.release()
    until(lambda: not states(), "no containers")
    until(lambda: "LaunchInterruptedError" in task.text(), "the reason in the log")
    assert [] == states()


def test_what_takes_longer_than_airflow_waits(
    run: Callable[[str], Task], states: Callable[[], list[str]], gate: Gate
) -> None:
    """Airflow kills the process that is to remove the app, and the app is gone all the same."""
    hold = gate.hold(Hold(Kind.REMOVE))
    task = run("forever")

    task.mark("failed")

    removing = hold.wait()
    until(lambda: not is_alive(removing), "the end of the task's process")
    until(lambda: not states(), "no containers")


def test_an_attempt_that_airflow_takes_for_lost(
    stack: Stack, app_id: str, states: Callable[[], list[str]], gate: Gate
) -> None:
    """The next attempt collects an app that has succeeded meanwhile; it does not run again."""
    hold = gate.hold(Hold(Kind.ARCHIVE))
    # Not by `launch`, which excuses no failed attempt but one that raced.
    task = stack.trigger("retried", app_id)
    hold.wait()
    assert ["exited", "exited"] == states()

    with ThreadPoolExecutor(1) as pool:
        failing = pool.submit(task.fail_attempt)
        until(lambda: task.state() == "up_for_retry", "the failure")
        # From now on, Airflow asks the process to end, and kills it 5 s later.
        hold.release()
        failing.result()

    until(lambda: task.now().try_number == 2, "the second attempt")
    assert "success" == task.wait_for("success", "failed")
    assert ["failed", "success"] == [one["state"] for one in task.tries()]
    assert "AirflowRequestError" in task.text()
    assert task.xcom().endswith("-t1")
    assert [] == states()


@pytest.fixture
def no_triggerer(stack: Stack) -> Iterator[None]:
    """Let the triggerer start nothing, as if its next look at the database were far away."""
    with stack.paused(stack.triggerers[0]):
        yield


def fail_run(task: Task) -> None:
    """Mark the DAG run failed as a user does."""
    task.stack.patch(f"dags/{task.dag_id}/dagRuns/{task.run_id}", {"state": "failed"})


def delete_run(task: Task) -> None:
    """Delete the DAG run as a user does, after its end."""
    fail_run(task)
    task.stack.delete(f"dags/{task.dag_id}/dagRuns/{task.run_id}")


@contextmanager
def paused(task: Task) -> Iterator[None]:
    """Stop the process of a task with SIGSTOP."""
    pid = task.now().pid
    assert pid
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize(
    "end",
    [
        pytest.param(lambda task: task.mark("success"), id="success"),
        pytest.param(lambda task: task.mark("skipped"), id="skipped"),
        pytest.param(fail_run, id="run-failed"),
        pytest.param(delete_run, id="run-deleted"),
    ],
)
def test_a_task_that_is_ended_before_its_trigger_has_started(
    launch: Callable[[str], Task],
    states: Callable[[], list[str]],
    no_triggerer: None,
    end: Callable[[Task], None],
) -> None:
    """Airflow drops the trigger of a task that has just deferred, and its app is removed."""
    assert no_triggerer is None
    task = launch("forever_deferrable")
    until(lambda: task.now().state == "deferred", "the deferral", tick_s=0.02)
    # Its process looks for 2 s whether it was ended, and the end may take longer to be requested.
    with paused(task):
        assert ["running", "running"] == states()
        end(task)

    until(lambda: not states(), "no containers")


@pytest.fixture
def end_app(docker_engine: DockerEngine, app_id: str) -> Callable[[], None]:
    """Return what ends the program of each replica that waits for SIGUSR1."""

    def end() -> None:
        with closing(open_client(resolve(Endpoint(), os.environ))) as client:
            for row in docker_engine.rows({labels.RUN_ID: app_id}):
                client.kill(row.id, "USR1")

    return end


@pytest.fixture
def watched(launch: Callable[[str], Task], docker_engine: DockerEngine, app_id: str) -> Task:
    """Return a deferred task whose trigger watches its app of three replicas.

    Its process has ended: until then, that removes the app of a task that a user ends.
    """
    task = launch("ends_deferrable")
    task.wait_for("deferred")
    pid = task.now().pid
    assert pid
    until(lambda: not is_alive(pid), "the end of the task's process")
    until(lambda: re.search(r"trigger \S+ .*starting", str(task.log())), "the trigger")
    wanted: dict[str, str | None] = {labels.RUN_ID: app_id}
    until(lambda: up(docker_engine, wanted) == [True] * 3, "three programs that wait for their end")
    assert "deferred" == task.state()
    return task


def test_a_deferred_task_that_is_marked_before_its_app_ends(
    watched: Task, states: Callable[[], list[str]], end_app: Callable[[], None]
) -> None:
    """Containers that end by themselves right after a mark are removed."""
    watched.mark("success")
    end_app()

    until(lambda: not states(), "no containers")
    assert "success" == watched.state()


def test_a_deferred_task_that_is_marked_after_its_app_has_ended(
    stack: Stack,
    watched: Task,
    states: Callable[[], list[str]],
    gate: Gate,
    end_app: Callable[[], None],
) -> None:
    """The containers are removed, although Airflow drops the event of the trigger."""
    hold = gate.hold(Hold(Kind.LIST, of=stack.triggerers[0].owns))
    end_app()
    until(lambda: states() == ["exited"] * 3, "the end of the app")
    hold.wait()

    watched.mark("success")
    hold.release()

    until(lambda: not states(), "no containers")
    assert "success" == watched.state()


def test_sigkill_without_another_try(
    stack: Stack, app_id: str, states: Callable[[], list[str]]
) -> None:
    """The app of a killed process is removed if no try is left that could go on with it."""
    task = stack.trigger("last_try", app_id)
    until(lambda: states() == ["running", "running"], "two replicas")
    until(lambda: "has started" in str(task.log()), "the end of the launch")

    pid = task.now().pid
    assert pid
    kill(pid)

    until(lambda: not states(), "no containers")
    assert "failed" == task.wait_for("failed")


def test_sigkill_in_the_middle_of_a_launch(
    stack: Stack, app_id: str, states: Callable[[], list[str]], gate: Gate
) -> None:
    """What a killed process has created is removed, although no try is left."""
    hold = gate.hold(Hold(Kind.START))
    task = stack.trigger("last_try", app_id)
    launching = hold.wait()
    assert ["created", "created"] == states()

    kill(launching)
    hold.release()

    until(lambda: not states(), "no containers")
    assert "failed" == task.wait_for("failed")


def test_worker_shutdown(
    launch: Callable[[str], Task],
    states: Callable[[], list[str]],
    docker_engine: DockerEngine,
    app_id: str,
) -> None:
    """The app lives on, its task moves to the triggerer, and no line is lost or twice."""
    task = launch("patient")
    until(lambda: states() == ["running", "running"], "two replicas")
    until(lambda: task.lines("worker", 1)[499:], "what it says first")
    before = [row.id for row in docker_engine.rows({labels.RUN_ID: app_id})]

    # A worker that is shut down passes the signal to the processes that it supervises.
    pid = task.now().pid
    assert pid
    os.kill(parent_of(pid), signal.SIGTERM)
    task.wait_for("deferred")

    assert ["running", "running"] == states()
    assert before == [row.id for row in docker_engine.rows({labels.RUN_ID: app_id})]
    with closing(open_client(resolve(Endpoint(), os.environ))) as client:
        for container in before:
            client.kill(container, "USR1")
    assert "success" == task.wait_for("success", "failed", "up_for_retry")
    for replica in range(2):
        assert [f"line {number}" for number in range(1, 1001)] == task.lines("worker", replica)


def test_out_of_time(launch: Callable[[str], Task], states: Callable[[], list[str]]) -> None:
    """An app is stopped and removed when its task runs into its execution_timeout."""
    task = launch("overtime")
    task.wait_for("failed")

    assert [] == states()
    assert "has not ended within execution_timeout (0:00:03)" in task.text()
