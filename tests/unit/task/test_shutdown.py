"""How a task ends before its app, on the fake engine."""

from __future__ import annotations

import threading
import time
from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowTaskTimeout, TaskDeferred
from structlog.testing import capture_logs

from airflow_torchx.airflow_compat import mask
from airflow_torchx.core.engine import labels
from airflow_torchx.core.plan.options import Opts
from airflow_torchx.core.state.describe import replicas_of
from airflow_torchx.core.state.usage import UsageHistory
from airflow_torchx.core.task.arguments import OnFinish
from airflow_torchx.core.task.record import LaunchedApp
from airflow_torchx.core.task.shutdown import UNKNOWN
from airflow_torchx.errors import (
    AirflowRequestError,
    AirflowTorchXError,
    AppCancelledError,
    EngineError,
    EngineUnreachableError,
    ResultError,
)
from airflow_torchx.runtime import attach, launching
from airflow_torchx.runtime.gang_log import Detached
from airflow_torchx.runtime.save_alarm import ask_to_save
from airflow_torchx.task.context import TaskContext
from airflow_torchx.task.keeping import state_in_time
from airflow_torchx.task.shutdown import TaskShutdown
from airflow_torchx.testing import FakeEngine, ManualClock, Program
from tests.unit.apps import app, planned
from tests.unit.task.task_options import OPTIONS

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_torchx.task.options import TaskOptions
    from airflow_torchx.testing import Verb

DEAF = Program(lines=["step 1"], runs_for_s=None, on_term="ignore")


class MarkedTask(TaskContext):
    """A task that a user has marked failed."""

    def __init__(self) -> None:
        ti = SimpleNamespace(
            dag_id="dag", run_id="run", task_id="task", map_index=-1, max_tries=0, try_number=1
        )
        context: Any = {"ti": ti}
        super().__init__(context)

    def state(self, timeout_s: float) -> str | None:  # noqa: ARG002 - the same signature
        """Return the state that the user gave it."""
        return "failed"

    @property
    def retry_left(self) -> bool:
        """No try follows."""
        return False

    @property
    def may_have_app(self) -> bool:
        """No try came before."""
        return False


class RunningTask(MarkedTask):
    """A task whose worker shuts down."""

    def state(self, timeout_s: float) -> str | None:  # noqa: ARG002 - the same signature
        """Return the state that Airflow gave it."""
        return "running"

    def deadline_s(self, execution_timeout: timedelta | None) -> float | None:  # noqa: ARG002
        """Return no limit."""
        return None


class SlowServerTask(MarkedTask):
    """A task that a user has marked, which the API server says after a time."""

    def __init__(self, answers_after_s: float) -> None:
        super().__init__()
        self._answers_after_s = answers_after_s

    def state(self, timeout_s: float) -> str | None:
        """Return the state that the user gave it, if that is waited for."""
        return "success" if timeout_s >= self._answers_after_s else UNKNOWN

    @property
    def retry_left(self) -> bool:
        """Another try may follow."""
        return True


def launched(engine: FakeEngine, grace_s: float = 30.0, replicas: int = 2) -> LaunchedApp:
    """Launch an app."""
    plan = planned(app(replicas), stop_grace_s=grace_s)
    launching.launch(engine, plan)
    return LaunchedApp(
        app_id=plan.app_id,
        handle=plan.handle,
        launch_id=plan.launch_id,
        config_hash="",
        stop_grace_s=grace_s,
    )


def ended(
    engine: FakeEngine,
    launch: LaunchedApp,
    options: TaskOptions = OPTIONS,
    killed_at: Callable[[], float | None] = time.monotonic,
) -> str:
    """Return the error of a task that a user ends while it follows its app."""
    shutdown = TaskShutdown(MarkedTask(), engine, options, killed_at)
    with pytest.raises(AppCancelledError) as caught, shutdown.guard(launch):
        raise Detached({})
    return str(caught.value)


def test_a_task_that_a_user_ends_gives_its_app_the_whole_grace_period() -> None:
    """A replica has 30 s from SIGTERM on, although Airflow kills the task after five."""
    clock = ManualClock()
    engine = FakeEngine(images=["busybox"], programs=DEAF, clock=clock, sleep=clock.sleep)
    launch = launched(engine, replicas=1)
    clock.advance(100)

    ended(engine, launch, replace(OPTIONS, on_finish=OnFinish.KEEP))

    (replica,) = replicas_of(attach.look(engine, launch.app_id, inspect_all=True))
    assert 130.0 == replica.duration_s


@pytest.mark.parametrize("error", [Detached({}), AirflowRequestError("no answer")])
@pytest.mark.parametrize(("answers_after_s", "left"), [(2.0, 0), (3.5, 2)])
def test_a_state_that_the_api_server_says_late(
    error: Exception, answers_after_s: float, left: int
) -> None:
    """Two seconds after SIGTERM it decides; later, the app is kept for the next try."""
    engine = FakeEngine(images=["busybox"], programs=DEAF)
    launch = launched(engine, grace_s=0.0)
    task = SlowServerTask(answers_after_s)
    shutdown = TaskShutdown(task, engine, OPTIONS, time.monotonic)

    with pytest.raises(AirflowTorchXError), shutdown.guard(launch):
        raise error

    assert left == len(engine.rows({labels.APP_ID: launch.app_id}))


@pytest.mark.parametrize(("killed_s_ago", "answers_after_s"), [(9.0, 1.2), (None, 10.0)])
def test_the_state_of_a_task_is_waited_for(
    killed_s_ago: float | None, answers_after_s: float
) -> None:
    """A process that noted SIGTERM late asks for the state, too; one that has time waits longer."""
    killed_at = None if killed_s_ago is None else time.monotonic() - killed_s_ago

    assert "success" == state_in_time(SlowServerTask(answers_after_s), killed_at)
    assert UNKNOWN == state_in_time(SlowServerTask(answers_after_s + 0.1), killed_at)


def test_the_error_of_a_task_that_a_user_ended_has_the_end_of_its_app() -> None:
    """The error has the table of replicas with their exit codes, and the last lines."""
    clock = ManualClock()
    engine = FakeEngine(images=["busybox"], programs=DEAF, clock=clock, sleep=clock.sleep)

    error = ended(engine, launched(engine, 1.0))

    assert error.startswith(
        "app 'app-1' CANCELLED: the task was asked to end (task state: failed)\n\n"
    )
    rows = [line.split()[:4] for line in error.splitlines() if line.startswith("trainer/")]
    assert [[f"trainer/{i}", "CANCELLED", "137", "SIGKILL"] for i in range(2)] == rows
    assert "\nlast 1 line of trainer/0:\n  step 1\nClear the task" in error
    assert {} == engine.specs()


def test_an_app_that_outlives_its_task_is_not_killed() -> None:
    """A task whose time is over leaves, and its error says how long the replicas may take."""
    engine = FakeEngine(images=["busybox"], programs=Program(runs_for_s=None))
    launch = launched(engine)
    released = threading.Event()

    def hold(verb: Verb, _: str) -> None:
        if verb == "stop":
            released.wait(30)

    engine.before = hold

    with capture_logs() as logs:
        error = ended(engine, launch, killed_at=lambda: time.monotonic() - 60)

    assert "app 'app-1' is stopping: its replicas have up to 30 s (stop_grace_s) to end" in error
    assert ["running", "running"] == [row.state for row in engine.rows({})]
    assert "docker rm -f $(docker ps -aq --filter label=torchx.pytorch.org/app-id=app-1)" in str(
        logs
    )
    released.set()


def test_an_app_that_was_asked_before_the_timeout_is_stopped_at_the_timeout() -> None:
    """Replicas had their time to save before the timeout; they get SIGTERM without another wait."""
    engine = FakeEngine(images=["busybox"], programs=Program(runs_for_s=None))
    opts = Opts(checkpoint_signal="SIGUSR1", checkpoint_before_timeout_s=10)
    plan = planned(app(2), **opts)
    launching.launch(engine, plan)
    launch = LaunchedApp.of(plan, opts, "")
    ask_to_save(engine, launch.app_id, time.time())
    engine.calls.clear()
    shutdown = TaskShutdown(
        MarkedTask(), engine, replace(OPTIONS, on_finish=OnFinish.KEEP), lambda: None
    )

    with pytest.raises(AirflowTaskTimeout), shutdown.guard(launch):
        raise AirflowTaskTimeout

    # Each look at replicas that save is a request.
    assert engine.calls[: engine.calls.index("stop")].count("rows") < 10
    assert [("SIGUSR1",)] * 2 == [*engine.signals().values()]


def test_the_error_of_an_app_that_saves_says_how_long_that_may_take() -> None:
    """The time for the checkpoint signal comes before the grace period."""
    engine = FakeEngine(images=["busybox"], programs=Program(runs_for_s=None))
    launch = replace(launched(engine), checkpoint_s=60.0)
    released = threading.Event()

    def hold(verb: Verb, _: str) -> None:
        if verb == "stop":
            released.wait(30)

    engine.before = hold

    error = ended(engine, launch, killed_at=lambda: time.monotonic() - 60)

    assert "its replicas have up to 60 s to save, then 30 s (stop_grace_s) to end" in error
    released.set()


def test_the_error_of_an_app_that_had_ended_says_only_why_the_task_ended() -> None:
    """An app that has ended is removed without a report."""
    engine = FakeEngine(images=["busybox"])

    error = ended(engine, launched(engine))

    assert (
        "the task was asked to end (task state: failed)\nClear the task to run it again." == error
    )
    assert {} == engine.specs()


def test_an_app_that_is_stopped_for_another_error_is_reported_in_the_log() -> None:
    """The end of an app whose task fails by an error of its own is in the log."""
    engine = FakeEngine(images=["busybox"], programs=Program(runs_for_s=None))
    launch = launched(engine)
    shutdown = TaskShutdown(MarkedTask(), engine, OPTIONS, lambda: None)

    with capture_logs() as logs, pytest.raises(ResultError), shutdown.guard(launch):
        raise ResultError("no file")

    assert "app 'app-1' CANCELLED\n\nreplica" in logs[-1]["event"]
    assert () == engine.rows({labels.APP_ID: launch.app_id})


@pytest.mark.parametrize("verb", ["stop", "rows"])
def test_an_app_whose_stop_fails_is_not_said_to_have_ended(verb: Verb) -> None:
    """The error of a task that ends says that the app may still run."""
    engine = FakeEngine(images=["busybox"], programs=Program(runs_for_s=None))
    launch = launched(engine, 0.0)
    engine.fail_next(verb, EngineError("no answer"), times=9)

    late = out_of_time(engine, launch, has_succeeded=False)
    engine.fail_next(verb, EngineError("no answer"), times=9)
    asked = ended(engine, launch)

    why = "the task has not ended within execution_timeout (0:05:00)"
    assert late.startswith(f"{why}; app 'app-1' may still run.\nRaise execution_timeout")
    why = "the task was asked to end (task state: failed)"
    assert f"{why}; app 'app-1' may still run.\nClear the task to run it again." == asked


def test_what_the_daemon_says_about_a_kept_app_is_masked() -> None:
    """A secret in the message of an error is in no line of the log."""
    engine = FakeEngine(images=["busybox"])
    launch = launched(engine)
    shutdown = TaskShutdown(MarkedTask(), engine, OPTIONS, lambda: None)
    engine.fail_next("remove", EngineError("a busy hush-hush"))
    mask(["hush-hush"])

    with capture_logs() as logs, pytest.raises(EngineUnreachableError), shutdown.guard(launch):
        raise EngineUnreachableError("no answer from hush-hush")

    assert "no answer from ***" in str(logs)
    assert "a busy ***" in str(logs)
    assert "hush-hush" not in str(logs)


def out_of_time(
    engine: FakeEngine,
    launch: LaunchedApp | None,
    *,
    has_succeeded: bool,
    is_launched: bool = True,
) -> str:
    """Return the error of a task whose execution_timeout is over before the task has ended."""
    options = replace(OPTIONS, execution_timeout=timedelta(minutes=5))
    shutdown = TaskShutdown(MarkedTask(), engine, options, lambda: None)
    shutdown.has_succeeded = has_succeeded
    shutdown.is_launched = is_launched
    guard = shutdown.guard(launch) if launch else nullcontext()
    with pytest.raises(AirflowTaskTimeout) as caught, shutdown.guard_earlier(), guard:
        raise AirflowTaskTimeout("Timeout, PID: 1")
    assert caught.value.__suppress_context__
    return str(caught.value)


def test_a_timeout_while_the_app_waits_for_gpus() -> None:
    """The error does not say that an app has ended that was not launched."""
    engine = FakeEngine(images=["busybox"])
    app = replace(launched(engine), launch_id="another")

    error = out_of_time(engine, app, has_succeeded=False, is_launched=False)

    assert error.startswith("no app was launched: the task has not ended within execution_timeout")


def test_the_error_of_a_task_that_is_out_of_time_has_the_end_of_its_app() -> None:
    """The error says that execution_timeout stopped the app, and has the app's card and a fix."""
    engine = FakeEngine(images=["busybox"], programs=Program(lines=["step 1"], runs_for_s=None))

    error = out_of_time(engine, launched(engine, replicas=1), has_succeeded=False)

    assert error.startswith(
        "app 'app-1' CANCELLED: the task has not ended within execution_timeout (0:05:00)\n\n"
    )
    assert error.endswith(
        "\nlast 1 line of trainer/0:\n  step 1\n"
        "Raise execution_timeout, which counts from the start of the try, or leave it out."
    )
    assert {} == engine.specs()


@pytest.mark.parametrize(
    ("has_app", "has_succeeded", "what"),
    [
        (False, False, "no app was launched: the task"),
        (True, False, "app 'app-1' has ended: the task"),
        (True, True, "app 'app-1' has ended: the task"),
    ],
)
def test_a_timeout_without_a_running_app(has_app: bool, has_succeeded: bool, what: str) -> None:
    """The error names execution_timeout, too, before the launch and after the end of the app."""
    engine = FakeEngine(images=["busybox"])

    error = out_of_time(engine, launched(engine) if has_app else None, has_succeeded=has_succeeded)

    assert error.startswith(f"{what} has not ended within execution_timeout (0:05:00)\nRaise exec")


def test_what_an_app_has_used_outlives_its_process() -> None:
    """A worker that shuts down hands on what it has read, and the resumed task goes on from it."""
    engine = FakeEngine(images=["busybox"], programs=Program(runs_for_s=None, memory_bytes=9 << 20))
    launch = launched(engine, replicas=1)
    (replica,) = replicas_of(attach.look(engine, launch.app_id))
    shutdown = TaskShutdown(RunningTask(), engine, OPTIONS, time.monotonic)
    shutdown.snapshots.usage.refresh(engine, replica, 0)

    with pytest.raises(TaskDeferred) as deferred, shutdown.guard(launch):
        raise Detached({})

    (found,) = replicas_of(
        UsageHistory.parse(deferred.value.trigger.usage).mark(attach.look(engine, launch.app_id))
    )
    assert found.usage is not None
    assert 9 << 20 == found.usage.memory_peak_bytes


class RecordingTask(MarkedTask):
    """A task that a user has marked failed, and whose XComs are kept here."""

    def __init__(self) -> None:
        super().__init__()
        #: Set by the last XCom of an app that was stopped.
        self.is_shown = threading.Event()

    def push(self, key: str, value: object) -> None:
        """Keep an XCom."""
        self.pushed[key] = value
        if key.startswith("torchx_failure:"):
            self.is_shown.set()

    def store(self, key: str, value: object) -> None:
        """Drop a value."""


def test_what_an_app_has_used_when_a_user_ends_its_task() -> None:
    """The error and the last snapshot have the usage of an app that was stopped."""
    engine = FakeEngine(images=["busybox"], programs=Program(runs_for_s=None, memory_bytes=9 << 20))
    launch, task = launched(engine, replicas=1), RecordingTask()
    (replica,) = replicas_of(attach.look(engine, launch.app_id))
    shutdown = TaskShutdown(task, engine, OPTIONS, time.monotonic)
    shutdown.snapshots.usage.refresh(engine, replica, 0)

    with pytest.raises(AppCancelledError, match="9 MiB") as caught, shutdown.guard(launch):
        raise Detached({})

    assert "CANCELLED" in str(caught.value)
    snapshot: Any = task.pushed["torchx_app"]
    (shown,) = snapshot["roles"][0]["replicas"]
    assert ("CANCELLED", 9 << 20) == (shown["state"], shown["peak"]["mem"])


@pytest.mark.usefixtures("supervisor")
def test_the_page_of_an_app_that_outlives_its_task() -> None:
    """The last snapshot says CANCELLED: Airflow kills the task before its replicas have ended."""
    engine = FakeEngine(images=["busybox"], programs=Program(runs_for_s=None))
    launch, task, released = launched(engine), RecordingTask(), threading.Event()

    def hold(verb: Verb, _: str) -> None:
        if verb == "stop":
            task.is_shown.wait(60)
            released.wait(60)

    engine.before = hold
    killed_at = time.monotonic()
    shutdown = TaskShutdown(task, engine, OPTIONS, lambda: killed_at - 60 * task.is_shown.is_set())

    with pytest.raises(AppCancelledError, match="is stopping"), shutdown.guard(launch):
        raise Detached({})

    snapshot: Any = task.pushed["torchx_app"]
    assert "CANCELLED" == snapshot["state"]
    assert "torchx_failure:,cancel" in task.pushed
    released.set()
