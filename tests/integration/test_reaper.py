"""What removes an app when the process that was at it is killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.airflow.processes import until
from tests.conftest import BUSYBOX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_torchx.docker_engine import DockerEngine

    Start = Callable[[str], subprocess.Popen[str]]

pytestmark = pytest.mark.docker

CODE = """
import sys
from airflow_torchx.docker_engine import DockerEngine
from airflow_torchx.task.reaper import Reaper
from airflow_torchx.schedulers.docker_scheduler import DockerScheduler
from airflow_torchx.specs import AppDef, Role

app_id, image, keep = sys.argv[1:]
role = Role("sh", image, entrypoint="sleep", args=["600"], num_replicas=3)
with DockerEngine.connect() as engine:
    scheduler = DockerScheduler("test", engine)
    info = scheduler.prepare(AppDef("app", [role]), context=scheduler.new_context(app_id))
    scheduler.launch(info)
    reaper = Reaper(engine, app_id, info.request.launch_id, keep=keep == "keep")
    print("ready", flush=True)
    sys.stdin.readline()
    reaper.dismiss()
    print("dismissed", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def states(docker_engine: DockerEngine, app_id: str) -> Callable[[], list[str]]:
    """Return what tells the states of the app's containers."""
    return lambda: [row.state for row in docker_engine.rows({"torchx.pytorch.org/app-id": app_id})]


@pytest.fixture
def start(app_id: str, states: Callable[[], list[str]]) -> Iterator[Start]:
    """Return what starts a process that has launched an app and made a reaper for it."""
    assert [] == states()
    processes = []

    def started(keep: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", CODE, app_id, BUSYBOX, keep],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        assert process.stdout is not None
        assert "ready\n" == process.stdout.readline()
        return process

    yield started

    for process in processes:
        process.kill()
        process.communicate()


def test_it_finishes_what_a_killed_process_was_at(
    start: Start, states: Callable[[], list[str]]
) -> None:
    """The reaper removes all containers after its maker was killed."""
    process = start("remove")
    assert ["running"] * 3 == states()

    process.kill()

    until(lambda: not states(), "no containers")


def test_it_keeps_what_is_to_be_kept(start: Start, states: Callable[[], list[str]]) -> None:
    """The reaper stops the containers that are to be kept."""
    start("keep").kill()

    until(lambda: states() == ["exited"] * 3, "stopped containers")


def test_one_that_is_dismissed_does_nothing(start: Start, states: Callable[[], list[str]]) -> None:
    """A dismissed reaper does nothing and has ended before its maker has."""
    process = start("remove")
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    assert "dismissed\n" == process.stdout.readline()

    assert "" == Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    assert ["running"] * 3 == states()
