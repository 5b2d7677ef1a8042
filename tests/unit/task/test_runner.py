"""Requests that an attempt of a task makes to the daemon, on the fake engine."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest
from airflow.sdk.exceptions import AirflowFailException
from structlog.testing import capture_logs

from airflow_torchx.core.engine import labels
from airflow_torchx.core.plan.progress import PROGRESS_PATH
from airflow_torchx.errors import (
    AppCancelledError,
    AppFailedError,
    EngineUnreachableError,
    ImagePullError,
    InvalidAppError,
    WorkerShutdownError,
)
from airflow_torchx.runtime import lifecycle
from airflow_torchx.schedulers.docker_scheduler import ensure_network
from airflow_torchx.testing import FakeEngine, Program
from tests.unit.task.worker import Worker

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_torchx.core.engine.containers import ContainerSpec
    from airflow_torchx.testing import Verb


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a workspace."""
    (tmp_path / "train.py").write_text("1")
    return tmp_path


@pytest.fixture
def engine() -> FakeEngine:
    """Return a daemon with the base image; apps run until they are stopped."""
    engine = FakeEngine(images=["base"], programs=Program(runs_for_s=None))
    ensure_network(engine)
    engine.calls.clear()
    return engine


def test_a_launch_lists_the_apps_of_the_task_and_its_own(engine: FakeEngine, folder: Path) -> None:
    """An attempt lists the earlier apps of its task once, and once the app that it launched."""
    Worker(engine, folder).run(1)

    assert 2 == engine.calls.count("rows")
    assert 1 == engine.calls.count("info")
    # The base, and the workspace image: before the launch, under the lock, and before its commit.
    assert 1 + 3 == engine.calls.count("image_inspect")


def test_the_progress_of_a_program_is_an_xcom(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The last report of the program is an XCom of its task, and the end of its log."""
    file = {PROGRESS_PATH: b'{"step": 9, "total": 9, "metrics": {"loss": 0.5}}'}
    engine = FakeEngine(images=["base"], programs=Program(files=file))

    with caplog.at_level("INFO"):
        found = Worker(engine, folder, waits=True).run(1)["progress"]

    assert (9, 9, {"loss": 0.5}) == (found["step"], found["total"], found["metrics"])
    assert "step 9/9, loss 0.5" in caplog.messages


def test_a_retry_asks_for_nothing_but_its_app(engine: FakeEngine, folder: Path) -> None:
    """A retry whose app runs requests neither facts about the daemon nor the base image."""
    worker = Worker(engine, folder)
    first = worker.run(1)
    engine.calls.clear()

    second = worker.run(2)

    assert first == second
    assert {"rows", "find_image"} == set(engine.calls)


def test_a_retry_with_invalid_arguments_stops_the_earlier_app(
    engine: FakeEngine, folder: Path
) -> None:
    """No later try follows an error after which Airflow does not retry, so the app has no owner."""
    worker = Worker(engine, folder)
    app_id = worker.run(1)["app_id"]

    with pytest.raises(InvalidAppError, match="result_path") as caught:
        worker.run(2, result_path="/proc/result")

    assert isinstance(caught.value, AirflowFailException)
    assert not lifecycle.exists(engine, app_id)


def test_a_retry_needs_no_registry(engine: FakeEngine, folder: Path) -> None:
    """A retry reattaches to its running app while the registry is down."""
    worker = Worker(engine, folder)
    options = {"pull_policy": "always", "image_repo": "h:1/team"}
    engine.images.tag("base", "h:1/base:latest")
    with pytest.raises(ImagePullError):
        worker.run(1, **options)
    options["pull_policy"] = "if_possible"
    first = worker.run(1, **options)
    for verb in ("pull", "is_published", "push", "info", "image_inspect"):
        engine.fail_next(verb, EngineUnreachableError("the registry is down"), times=9)

    assert first == worker.run(2, **options)


def test_a_retry_keeps_an_app_whose_base_tag_has_moved(engine: FakeEngine, folder: Path) -> None:
    """A retry reattaches to its app although the tag of the base image has moved."""
    worker = Worker(engine, folder)
    first = worker.run(1)
    held = engine.images.prepare("base", "moved", {})
    engine.images.commit(held, "base:latest", "/elsewhere")

    assert first["app_id"] == worker.run(2)["app_id"]


@pytest.mark.parametrize("path", ["train.py", "new.py", "Dockerfile.torchx"])
def test_a_changed_workspace_supersedes_the_app(
    engine: FakeEngine, folder: Path, path: str
) -> None:
    """A retry stops its app if a file of the workspace has changed."""
    engine.builds = lambda *_: None
    worker = Worker(engine, folder)
    first = worker.run(1)
    (folder / path).write_text("FROM base")

    second = worker.run(2)

    assert first["app_id"] != second["app_id"]
    assert {second["app_id"]} == {
        spec.labels["torchx.pytorch.org/app-id"] for spec in engine.specs().values()
    }


def test_a_result_that_would_be_lost_is_refused_before_the_launch(folder: Path) -> None:
    """A task whose result is in a tmpfs makes no request to the daemon."""
    engine = FakeEngine(images=["base"], programs=Program())

    with pytest.raises(InvalidAppError, match="result_path: '/scratch/r' is in '/scratch'"):
        Worker(engine, folder).run(1, result_path="/scratch/r", tmpfs={"/scratch": ""})

    assert [] == engine.calls


def test_an_attempt_that_is_killed_while_it_stops_an_earlier_app_does_not_wait(
    engine: FakeEngine, folder: Path
) -> None:
    """Airflow kills it after five seconds, so it leaves the rest to the process that stands by."""
    worker = Worker(engine, folder)
    app_id = worker.run(1)["app_id"]
    released = threading.Event()

    def hold(verb: Verb, _: str) -> None:
        if verb == "stop":
            worker.killed_at = time.monotonic() - 60
            released.wait(30)

    engine.before = hold

    with capture_logs() as logs, pytest.raises(AppCancelledError, match="its earlier tries"):
        worker.run(3, env={"CHANGED": "1"})

    assert f"no later try will use app {app_id}" in str(logs)
    assert "no process is left to remove them" in str(logs)
    released.set()


def with_rounds(*programs: Program) -> tuple[FakeEngine, dict[str, None]]:
    """Return a daemon with a program for each round, and the apps and rounds that it created."""
    created: dict[str, None] = {}

    def program(spec: ContainerSpec) -> Program:
        number = int(spec.labels.get(labels.ROUND, "0"))
        created[f"{spec.labels[labels.APP_ID][-2:]} r{number}"] = None
        return programs[number]

    return FakeEngine(images=["base"], programs=program), created


def test_the_app_of_a_new_try_has_a_budget_of_its_own(folder: Path) -> None:
    """A try whose app has used up its restarts fails, and the next try launches another app."""
    failing = Program(exit_code=1)
    engine, created = with_rounds(failing, failing)
    worker = Worker(engine, folder, waits=True, max_retries=1)

    for number in (1, 2):
        with pytest.raises(AppFailedError):
            worker.run(number)

    assert ["t1 r0", "t1 r1", "t2 r0", "t2 r1"] == [*created]


def test_a_try_that_reattaches_has_what_is_left_of_the_budget(folder: Path) -> None:
    """A process that ends in round 1 leaves the app to the next try, which makes no new round."""
    engine, created = with_rounds(Program(exit_code=1), Program(runs_for_s=None))
    worker = Worker(engine, folder, waits=True, max_retries=1)

    def end_the_worker(verb: Verb, _: str) -> None:
        if verb == "logs" and "t1 r1" in created:
            worker.killed_at = time.monotonic()

    engine.before = end_the_worker
    with pytest.raises(WorkerShutdownError):
        worker.run(1)
    worker.killed_at, (running,) = None, (row for row in engine.rows({}) if row.state == "running")

    def end_the_app(verb: Verb, _: str) -> None:
        if verb == "logs":
            engine.before = lambda *_: None
            engine.end(running.name, 1)

    engine.before = end_the_app
    with pytest.raises(AppFailedError):
        worker.run(2)

    assert ["t1 r0", "t1 r1"] == [*created]
