"""What TorchX tests of its Docker scheduler and workspace on a daemon, asked of ours."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import fsspec  # type: ignore[import-untyped]
import pytest

from airflow_torchx.components import dist
from airflow_torchx.core.state.describe import replicas_of
from airflow_torchx.schedulers.api import ListAppResponse, Stream
from airflow_torchx.schedulers.docker_scheduler import DockerScheduler
from airflow_torchx.specs import AppDef, AppState, RetryPolicy, Role
from airflow_torchx.workspace.docker_workspace import DockerWorkspaceMixin
from tests.conftest import BUSYBOX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from airflow_torchx.docker_engine import DockerEngine
    from airflow_torchx.specs import DescribeAppResponse

pytestmark = pytest.mark.docker

ROLE: Final = "image_role"


@pytest.fixture
def scheduler(docker_engine: DockerEngine) -> DockerScheduler:
    """Return a scheduler on the real daemon."""
    return DockerScheduler("test", docker_engine, terminal=False)


@pytest.fixture
def submit(scheduler: DockerScheduler, app_id: str) -> Callable[..., str]:
    """Return a function that submits a program and returns the id of its app."""

    def run(*program: str, **fields: Any) -> str:  # noqa: ANN401 - Role's fields
        entrypoint, *args = program
        role = Role(ROLE, BUSYBOX, entrypoint=entrypoint, args=args, **fields)
        # As process 1, sleep would ignore SIGTERM.
        return scheduler.submit(AppDef(app_id, [role]), {"init": True})

    return run


@pytest.fixture
def storage(app_id: str) -> Iterator[str]:
    """Return the URL of an empty folder in memory."""
    yield f"memory://{app_id}"
    fsspec.filesystem("memory").rm(f"/{app_id}", recursive=True)


def write(url: str, text: str) -> None:
    """Write a file behind a URL."""
    with fsspec.open(url, "wt") as file:
        file.write(text)


def states(app: DescribeAppResponse) -> list[list[AppState]]:
    """Return the state of each replica of each role."""
    return [[replica.state for replica in role.replicas] for role in app.roles_statuses]


def test_submit(scheduler: DockerScheduler, submit: Callable[..., str]) -> None:
    """A program that exits with 0 has succeeded, and so have its app and its only replica."""
    app = submit("echo", "foo")

    ended = scheduler.wait(app, 60)

    assert (app, AppState.SUCCEEDED) == (ended.app_id, ended.state)
    assert [ROLE] == [role.name for role in ended.roles]
    assert [[AppState.SUCCEEDED]] == states(ended)


def test_logs(scheduler: DockerScheduler, submit: Callable[..., str]) -> None:
    """Lines of a log are selected by time and by pattern, and followed to the end."""
    start = datetime.now(UTC)
    app = submit("echo", "foo\nbar")
    scheduler.wait(app, 60)
    end = datetime.now(UTC)

    def log(**query: Any) -> list[str]:  # noqa: ANN401 - log_iter's arguments
        return [*scheduler.log_iter(app, ROLE, 0, **query)]

    assert ["foo\n", "bar\n"] == log() == log(should_tail=True) == log(since=start, until=end)
    assert ["bar\n"] == log(regex="bar")
    assert [] == log(since=end) == log(until=start)


def test_streams(scheduler: DockerScheduler, submit: Callable[..., str]) -> None:
    """A log has both streams, or one of them."""
    app = submit("sh", "-c", "echo stdout; echo stderr >&2")
    scheduler.wait(app, 60)
    found = {one: {*scheduler.log_iter(app, ROLE, 0, streams=one)} for one in (None, *Stream)}

    out, err = {"stdout\n"}, {"stderr\n"}
    assert found == {
        None: out | err,
        Stream.COMBINED: out | err,
        Stream.STDOUT: out,
        Stream.STDERR: err,
    }


def test_list(scheduler: DockerScheduler, submit: Callable[..., str]) -> None:
    """An app that has ended is listed with its state."""
    app = submit("echo", "bar")
    scheduler.wait(app, 60)

    assert [(app, AppState.SUCCEEDED)] == [
        (one.app_id, one.state) for one in scheduler.list() if one.app_id == app
    ]
    assert all(isinstance(one, ListAppResponse) for one in scheduler.list())


def test_cancel(scheduler: DockerScheduler, submit: Callable[..., str]) -> None:
    """A running app that is cancelled ends; TorchX calls it FAILED, we call it CANCELLED."""
    app = submit("sleep", "10000")
    running = scheduler.describe(app)

    scheduler.cancel(app)

    assert running
    assert AppState.RUNNING is running.state
    assert AppState.CANCELLED is scheduler.wait(app, 60).state


@pytest.mark.parametrize("max_retries", [0, 1])
def test_error(scheduler: DockerScheduler, submit: Callable[..., str], max_retries: int) -> None:
    """A program that exits with 1, in every try that it has, has failed, and so has its app."""
    app = submit("sh", "-c", "exit 1", max_retries=max_retries, retry_policy=RetryPolicy.REPLICA)

    ended = scheduler.wait(app, 60)

    assert AppState.FAILED is ended.state
    assert [[AppState.FAILED]] == states(ended)
    assert [max_retries] == [replica.num_restarts for replica in replicas_of(ended)]


@pytest.mark.usefixtures("no_images_left")
def test_dist(scheduler: DockerScheduler, app_id: str, storage: str, tmp_path: Path) -> None:
    """Two nodes of dist.ddp run a script of a workspace that is behind a URL."""
    write(f"{storage}/main.py", "echo hello world")
    mounts = []
    for name, text in {"bash": 'sh "$@"', "torchrun": 'for last; do :; done; sh "$last"'}.items():
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)
        mounts += ["type=bind", f"src={program}", f"dst=/bin/{name}"]
    app = dist.ddp(script="main.py", j="2x1", name=app_id, image=BUSYBOX, mounts=mounts)

    launched = scheduler.submit(app, {}, storage)
    ended = scheduler.wait(launched, 60)

    assert AppState.SUCCEEDED is ended.state
    assert [[AppState.SUCCEEDED] * 2] == states(ended)
    (role,) = ended.roles
    assert ["hello world\n"] * 2 == [
        line for k in (0, 1) for line in scheduler.log_iter(launched, role.name, k)
    ]
    scheduler.delete(launched)


@pytest.mark.usefixtures("no_images_left")
def test_workspace(scheduler: DockerScheduler, app_id: str, storage: str) -> None:
    """A role with the image of a workspace behind a URL runs a file in a folder of it."""
    write(f"{storage}/bar/foo.sh", "exit 0")
    role = Role("ping", BUSYBOX, entrypoint="sh", args=["bar/foo.sh"])

    mixin = DockerWorkspaceMixin(scheduler.engine, terminal=False)
    built = mixin.build_workspace_and_update_role(role, storage, {"image_repo": "example/repo"})
    ended = scheduler.wait(scheduler.submit(AppDef(app_id, [built])), 60)

    assert BUSYBOX != built.image
    assert AppState.SUCCEEDED is ended.state
    scheduler.delete(ended.app_id)
