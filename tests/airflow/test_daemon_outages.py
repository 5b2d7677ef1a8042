"""A task that the daemon or Airflow fails neither loses its app nor leaves it behind."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any, Final

import pytest
from airflow.sdk.exceptions import AirflowNotFoundException
from structlog.testing import capture_logs

from airflow_torchx.errors import EngineError, EngineUnreachableError
from airflow_torchx.task.context import IMAGES_KEY
from airflow_torchx.testing import Program
from tests.airflow.fake_daemon import REPLICAS, Hook, Stage
from tests.airflow.supervisor import Answer, Point

if TYPE_CHECKING:
    from airflow_torchx.schedulers.docker_scheduler import DockerScheduler
    from airflow_torchx.testing import FakeEngine

LOST: Final = EngineUnreachableError("connection refused")
RUNNING: Final = Program(runs_for_s=60.0, files={"/result.json": b"[7]"})


class KilledHook(Hook):
    """Sends SIGTERM to the task when it connects."""

    def get_conn(self) -> DockerScheduler:
        """Connect, and ask the task to end."""
        os.kill(os.getpid(), signal.SIGTERM)
        return super().get_conn()


def after_a_failed_try(**arguments: Any) -> Stage:  # noqa: ANN401 - those of `Stage`
    """Return a task whose first try failed and kept its running app."""
    stage = Stage(RUNNING, **{"deferrable": True, **arguments})
    stage.supervisor.fail(Point("SetXCom", key=IMAGES_KEY), Answer.SERVER_ERROR)
    stage.supervisor.run()
    return stage


def fail_reads_and_kill(engine: FakeEngine) -> None:
    """Let no result be read any more, and ask the task to end at the first attempt."""
    engine.fail_next("read_file", LOST, times=9)

    def kill(verb: str, name: str) -> None:
        del name
        if verb == "read_file":
            engine.before = lambda *_: None
            os.kill(os.getpid(), signal.SIGTERM)

    engine.before = kill


@pytest.mark.parametrize("verb", ["find_image", "read_file"])
def test_one_failed_request_of_a_task_that_waits(verb: Any) -> None:  # noqa: ANN401 - a literal
    """The task succeeds with the app that it launched."""
    stage = Stage(max_tries=0)
    stage.engine.fail_next(verb, LOST)

    assert "SucceedTask" == stage.run().report
    assert REPLICAS == stage.created


@pytest.mark.parametrize("verb", ["rows", "inspect", "find_image", "read_file"])
def test_one_failed_request_of_a_task_that_resumes(verb: Any) -> None:  # noqa: ANN401 - a literal
    """The task returns the result of the app that ended while it was deferred."""
    stage = Stage(max_tries=0, deferrable=True)
    deferred = stage.supervisor.run()
    stage.engine.fail_next(verb, LOST)

    assert "SucceedTask" == stage.resume(deferred).report
    assert REPLICAS == stage.created


@pytest.mark.parametrize("verb", ["rows", "find_image"])
def test_one_failed_request_of_a_task_that_reattaches(verb: Any) -> None:  # noqa: ANN401 - a literal
    """The last try finds the app of the first one, and waits for it."""
    stage = after_a_failed_try()
    stage.engine.fail_next(verb, LOST)

    assert "SucceedTask" == stage.run(2).report
    assert REPLICAS == stage.created


def test_a_deferral_does_not_end_in_an_outage() -> None:
    """A task that finds its app running after the trigger fired defers again."""
    stage = Stage(RUNNING, deferrable=True, max_tries=0)
    deferred = stage.supervisor.run()
    stage.engine.fail_next("rows", LOST)

    assert "DeferTask" == stage.supervisor.run(1, deferred).report
    assert 1 == len(stage.apps)


@pytest.mark.parametrize(
    ("state", "max_tries", "kept"), [("running", 1, 1), ("running", 0, 0), ("failed", 1, 0)]
)
def test_a_task_that_is_killed_in_an_outage(state: str, max_tries: int, kept: int) -> None:
    """It stops waiting for the daemon, and keeps its app if another try follows."""
    stage = Stage(max_tries=max_tries)
    fail_reads_and_kill(stage.engine)
    stage.supervisor.state = state

    ended = stage.run()

    assert isinstance(ended.error, EngineUnreachableError)
    assert 1 == stage.engine.calls.count("read_file")
    assert kept == len(stage.apps)


@pytest.mark.parametrize(("max_tries", "kept"), [(1, 1), (0, 0)])
@pytest.mark.parametrize("deferrable", [False, True])
def test_an_app_that_has_succeeded_is_kept(max_tries: int, kept: int, *, deferrable: bool) -> None:
    """If its result cannot be read, only the last try removes it."""
    stage = Stage(max_tries=max_tries, deferrable=deferrable)
    stage.engine.fail_next("read_file", EngineError("disk error", status=500))

    assert isinstance(stage.run().error, EngineError)

    assert kept == len(stage.apps)


def test_an_app_that_has_succeeded_is_not_run_again() -> None:
    """The next try returns the result that could not be read before."""
    stage = Stage()
    stage.engine.fail_next("read_file", EngineError("disk error", status=500))
    stage.run()

    assert "SucceedTask" == stage.run(2).report
    assert REPLICAS == stage.created


def break_record(stage: Stage) -> None:
    """Let the API server fail when the task reads its record."""
    stage.supervisor.fail(Point("GetTaskStateStore"), Answer.SERVER_ERROR)


def break_workspace(stage: Stage) -> None:
    """Name a workspace that does not exist."""
    stage.task.workspace = "/nonexistent/folder"


def break_environment(stage: Stage) -> None:
    """Name a connection that does not exist."""
    stage.task.env_conn_ids = ("nope",)


@pytest.mark.parametrize(("max_tries", "kept"), [(1, 0), (2, 1)])
@pytest.mark.parametrize("fail", [break_record, break_workspace, break_environment])
def test_a_try_that_fails_before_its_app(fail: Any, max_tries: int, kept: int) -> None:  # noqa: ANN401
    """The app of the first try is kept for the next try, or stopped if none follows."""
    stage = after_a_failed_try(max_tries=max_tries)
    fail(stage)

    assert stage.supervisor.run(2).error is not None

    assert kept == len(stage.apps)


def test_a_user_ends_a_try_that_has_no_app_yet() -> None:
    """The app of an earlier try is stopped, although tries are left."""
    stage = after_a_failed_try(max_tries=3)
    break_workspace(stage)
    stage.task.fake_hook = KilledHook(stage.engine)
    stage.supervisor.state = "failed"

    stage.supervisor.run(2)

    assert REPLICAS == stage.created
    assert [] == stage.apps


@pytest.mark.parametrize("is_listed", [True, False], ids=["no connection", "no list"])
@pytest.mark.parametrize(("first", "told"), [(1, 0), (2, 1)])
def test_leftovers_of_a_daemon_that_does_not_answer(is_listed: bool, first: int, told: int) -> None:
    """The log of the last try has the command that removes all apps of the task."""
    stage = after_a_failed_try(max_tries=first - 1)
    break_workspace(stage)
    if is_listed:
        stage.hook.error = AirflowNotFoundException("no connection")
    else:
        stage.engine.fail_next("rows", LOST, times=9)

    with capture_logs() as logs:
        stage.supervisor.run(first)

    commands = [log["event"] for log in logs if "docker rm -f" in log["event"]]
    assert told == len(commands)
    assert all("--filter label=airflow-torchx/task-id=gang" in command for command in commands)
