"""Uploads of checkpoints while a task runs its app, on the fake engine and in a folder."""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from airflow.sdk.exceptions import TaskDeferred
from structlog.testing import capture_logs

from airflow_torchx.core.engine import labels
from airflow_torchx.core.plan.checkpoint_versions import Pointer
from airflow_torchx.core.plan.checkpoints import checkpoints
from airflow_torchx.core.plan.identity import TaskAttempt
from airflow_torchx.core.plan.options import Opts
from airflow_torchx.core.task.arguments import OnFinish
from airflow_torchx.core.task.record import Deferral
from airflow_torchx.errors import AppFailedError, CheckpointError, EngineError, InvalidAppError
from airflow_torchx.hooks import object_storage
from airflow_torchx.runtime.attach import look
from airflow_torchx.schedulers.docker_scheduler import DockerScheduler, ensure_network
from airflow_torchx.specs import AppDef, Role
from airflow_torchx.task.checkpoints import CheckpointUploads
from airflow_torchx.task.context import TaskContext
from airflow_torchx.task.plan import requested
from airflow_torchx.task.runner import AppTask
from airflow_torchx.testing import FakeEngine, ManualClock, Program
from tests.unit.task.task_options import OPTIONS

if TYPE_CHECKING:
    from collections.abc import Mapping

APP: Final = AppDef("app", [Role("main", "base", entrypoint="run", num_replicas=2)])
ATTEMPT: Final = TaskAttempt(
    dag_id="dag", run_id="run", task_id="task", map_index=-1, max_tries=2, try_number=1
)


class Attempt:
    """A task instance with the attributes that a task reads."""

    dag_id, run_id, task_id, map_index, max_tries = "dag", "run", "task", -1, 2

    def __init__(self, number: int) -> None:
        self.try_number = number

    def xcom_push(self, key: str, value: object) -> None:
        """Drop an XCom."""


class Deferring(TaskContext):
    """A task that no API server knows, and that may defer."""

    def state(self, timeout_s: float) -> str | None:  # noqa: ARG002 - the same signature
        """Return the state before a deferral."""
        return "running"


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Return the URL of the checkpoints."""
    return f"file://{tmp_path}/kept"


def engine_with(exit_code: int, files: Mapping[str, bytes | str]) -> FakeEngine:
    """Return a daemon whose apps write files, or links to others, into their folder and end."""
    written = {f"{folder()}/{path}": data for path, data in files.items()}
    program = Program(exit_code=exit_code, files=written)
    engine = FakeEngine(images=["base"], programs=program)
    ensure_network(engine)
    return engine


def folder() -> str:
    """Return the folder of the task in its replicas."""
    found = checkpoints(Opts(checkpoint="models"), app_id="a", app_name="a", own=ATTEMPT.labels)
    assert found is not None
    return found.folder


def run(
    engine: FakeEngine,
    number: int,
    url: str,
    opts: Mapping[str, str] = {},
    **changed: Any,  # noqa: ANN401 - any option of the task
) -> object:
    """Run one try of the task."""
    scheduler = DockerScheduler("torchx", engine)
    context: Any = {"ti": Attempt(number)}
    options = replace(OPTIONS, durable=False, **changed)
    request = requested(scheduler, APP, {"checkpoint": url, **opts}, {}, None, lambda: False)
    one = AppTask(TaskContext(context), scheduler, options, lambda: None)
    with one.shutdown.guard_earlier():
        return one.run(request)


def stored(url: str) -> dict[str, bytes]:
    """Return the stored files."""
    (pointer,) = Path(url.removeprefix("file://")).rglob("latest")
    found = Pointer.parse(pointer.read_bytes())
    folder = pointer.parent / found.version.folder
    return {path: (folder / path).read_bytes() for path in found.files}


def test_a_failed_try_is_continued_on_another_daemon(url: str) -> None:
    """What a try that fails has saved is in the folder of the next try before it starts."""
    with pytest.raises(AppFailedError):
        run(engine_with(3, {"step": b"5"}), 1, url)
    other = engine_with(0, {"next": b"6"})

    with capture_logs() as logs:
        run(other, 2, url)

    assert any(one["event"].endswith(": 1 file") for one in logs)
    assert {"step": b"5", "next": b"6"} == stored(url)
    assert {} == other.specs()


def test_a_storage_that_cannot_be_read_before_the_start(url: str) -> None:
    """The task fails before any replica starts, and leaves nothing."""
    with pytest.raises(AppFailedError):
        run(engine_with(3, {"step": b"5"}), 1, url)
    for file in Path(url.removeprefix("file://")).rglob("step"):
        file.unlink()
    other = engine_with(0, {})

    with pytest.raises(CheckpointError, match="'step'"):
        run(other, 2, url)

    assert "start" not in other.calls
    assert {} == other.specs()


@pytest.mark.parametrize(
    ("changed", "is_left"),
    [
        ({}, False),
        ({"checkpoint_policy": "eager"}, True),
        ({"exit_code": 3}, True),
        ({"on_finish": OnFinish.KEEP}, True),
        ({"files": {"step": b"5", "best": "step"}}, True),
    ],
)
def test_the_volume_after_the_last_upload(
    url: str, changed: dict[str, Any], *, is_left: bool
) -> None:
    """A volume that no later try or run uses is removed with the app that has succeeded.

    It is left if it has a link, which is not uploaded.
    """
    exit_code = changed.pop("exit_code", 0)
    policy = changed.pop("checkpoint_policy", "fresh")
    engine = engine_with(exit_code, changed.pop("files", {"step": b"5"}))
    opts = {"checkpoint_policy": policy}

    with suppress(AppFailedError):
        run(engine, 1, url, opts, **changed)
    for row in engine.rows({}):
        engine.remove(row.id)

    assert is_left == bool(engine.unused_volumes({labels.CHECKPOINT: url}))


def test_the_order_at_the_end(url: str) -> None:
    """The volume is removed after the last upload, and after the containers that mount it."""
    engine = engine_with(0, {"step": b"5"})

    def check(verb: str, _: str) -> None:
        if verb == "remove_volume":
            assert {"step": b"5"} == stored(url)
            assert {} == engine.specs()

    engine.before = check
    run(engine, 1, url)

    assert 1 == engine.calls.count("remove_volume")


def test_a_volume_that_cannot_be_removed(url: str) -> None:
    """The task succeeds, with a warning."""
    engine = engine_with(0, {"step": b"5"})
    engine.fail_next("remove_volume", EngineError("the daemon is out of order"))

    with capture_logs() as logs:
        run(engine, 1, url)

    warnings = [one["event"] for one in logs if one["log_level"] == "warning"]
    assert ["the volume of the checkpoints is left: the daemon is out of order"] == warnings


def test_a_url_that_cannot_be_opened_or_read(tmp_path: Path) -> None:
    """The task fails before the daemon creates anything, also the volume."""
    (tmp_path / "kept").write_text("a file, where the folder has to be")

    for url in ("nosuch://conn@bucket/models", f"file://{tmp_path}/kept"):
        engine = engine_with(0, {})
        with pytest.raises(CheckpointError):
            run(engine, 1, url)

        assert "create" not in engine.calls
        assert () == engine.unused_volumes({labels.CHECKPOINT: None})


def test_an_upload_that_fails_after_a_success(tmp_path: Path) -> None:
    """The error says that the files are still in the volume of the daemon, and names it."""
    engine = engine_with(0, {"step": b"5"})

    def spoil(verb: str, _: str) -> None:
        if verb == "start":
            (tmp_path / "kept").write_text("a file, where the folder has to be")

    engine.before = spoil

    with pytest.raises(CheckpointError, match="has succeeded, but") as caught:
        run(engine, 1, f"file://{tmp_path}/kept")

    assert "still in the volume airflow-torchx-checkpoint-" in caught.value.fix


def test_an_upload_that_fails_after_a_failure(tmp_path: Path, url: str) -> None:
    """The error is that of the app; the upload is a warning."""
    engine = engine_with(3, {"step": b"5"})

    def spoil(verb: str, _: str) -> None:
        if verb == "start":
            (tmp_path / "kept").write_text("x")

    engine.before = spoil

    with capture_logs() as logs, pytest.raises(AppFailedError):
        run(engine, 1, url)

    assert "checkpoints of app" in str(logs)


def test_outside_a_task_a_url_is_refused(url: str) -> None:
    """A process that does not upload refuses the URL before it creates anything."""
    engine = engine_with(0, {})

    with pytest.raises(InvalidAppError, match=r"options\.checkpoint: only a task of Airflow"):
        DockerScheduler("torchx", engine).submit(APP, {"checkpoint": url})
    with pytest.raises(InvalidAppError, match="that waits for its app"):
        run(engine, 1, url, wait_for_completion=False)

    assert {} == engine.specs()


class Uploading:
    """An app that runs, and the uploads of its task."""

    def __init__(self, url: str) -> None:
        program = Program(runs_for_s=None, files={f"{folder()}/step": b"5"})
        self.engine = FakeEngine(images=["base"], programs=program)
        self.scheduler = DockerScheduler("torchx", self.engine)
        context = self.scheduler.new_context(ATTEMPT.app_id, labels=ATTEMPT.labels, uploads=True)
        opts = self.scheduler.options({"checkpoint": url, "checkpoint_interval_s": 60})
        info = self.scheduler.prepare(APP, opts, context=context)
        self.scheduler.launch(info)
        self.clock = ManualClock()
        self.uploads = CheckpointUploads(self.engine, object_storage, self.clock)
        self.uploads.begin(look(self.engine, ATTEMPT.app_id))

    def check(self) -> None:
        """Check, and wait for an upload that this has started."""
        self.uploads.check()
        if (running := self.uploads._running) is not None:  # noqa: SLF001
            running.exception()
            self.uploads.check()


def test_uploads_at_intervals(url: str) -> None:
    """An upload follows after each interval, and a failure is tried again after the next one."""
    app = Uploading(url)
    root = Path(url.removeprefix("file://"))
    app.check()
    assert not root.exists()

    app.clock.advance(60)
    root.write_text("in the way")
    with capture_logs() as logs:
        app.check()
    assert "warning" in str(logs)
    root.unlink()
    app.clock.advance(59)
    app.check()
    assert not root.exists()
    app.clock.advance(1)
    app.check()

    assert {"step": b"5"} == stored(url)
    shutil.rmtree(root)
    app.clock.advance(60)
    app.check()
    assert {"step": b"5"} == stored(url)


def test_a_closed_upload_ends(url: str) -> None:
    """A process that ends breaks its upload off."""
    app = Uploading(url)
    app.uploads.close()
    app.clock.advance(60)
    with capture_logs() as logs:
        app.check()

    assert "broken off" in str(logs)
    assert not list(Path(url.removeprefix("file://")).rglob("latest"))


def test_a_deferred_task_resumes_to_upload(url: str) -> None:
    """The trigger fires when an upload is due; the worker uploads, and defers again."""
    app = Uploading(url)
    context: Any = {"ti": Attempt(1)}
    options = replace(OPTIONS, deferrable=True, logging_interval_s=1e6)
    one = AppTask(Deferring(context), app.scheduler, options, lambda: None)

    with pytest.raises(TaskDeferred) as deferred:
        one.resume({"reason": "flush"}, Deferral(upload_at_s=1.0))

    assert {"step": b"5"} == stored(url)
    kwargs = deferred.value.kwargs
    assert kwargs is not None
    assert deferred.value.trigger.flush_at == kwargs["upload_at_s"]
    assert Deferral.parse(kwargs).upload_at_s == kwargs["upload_at_s"]
