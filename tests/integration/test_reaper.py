"""What removes an app when the process that was at it is killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airflow_torchx.core.engine import labels
from airflow_torchx.runtime.replica_log import ReplicaLog
from tests.airflow.processes import until
from tests.conftest import BUSYBOX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_torchx.docker_engine import DockerEngine

    Start = Callable[[str], subprocess.Popen[str]]

pytestmark = pytest.mark.docker

CODE = """
import sys
from airflow_torchx.core.engine import labels
from airflow_torchx.core.gpu.demand import GpuDemand
from airflow_torchx.core.plan.identity import TaskAttempt
from airflow_torchx.docker_engine import DockerEngine
from airflow_torchx.runtime import lifecycle
from airflow_torchx.task.reaper import Reaper
from airflow_torchx.schedulers.docker_scheduler import DockerScheduler
from airflow_torchx.specs import AppDef, Role

app_id, image, keep = sys.argv[1:]
waiting = None
script = "trap 'echo stopping; sleep 2; exit 0' TERM; while true; do sleep 0.1; done"
role = Role("sh", image, entrypoint="sh", args=["-c", script], num_replicas=3)
with DockerEngine.connect() as engine:
    scheduler = DockerScheduler("test", engine)
    info = scheduler.prepare(AppDef("app", [role]), context=scheduler.new_context(app_id))
    scheduler.launch(info)
    launch_id = info.request.launch_id
    if keep == "remove":
        waiting = TaskAttempt(
            dag_id=app_id, run_id="run", task_id="task", map_index=-1, max_tries=0, try_number=1
        )
        own = {**waiting.labels, labels.LAUNCH_ID: "earlier", labels.APP_ID: f"{app_id}-claim"}
        claim = GpuDemand(key=app_id, count=1, listed=("GPU-0",), image=image, labels=own)
        engine.create(claim.spec("claim", ids=["GPU-0"], timeout_s=600))
    reaper = Reaper(
        engine, app_id, launch_id, grace_s=30.0, keep=keep == "keep", waiting=waiting
    )
    print("ready", flush=True)
    if sys.stdin.readline() == "stop\\n":
        lifecycle.cancel(engine, app_id)
    reaper.dismiss()
    print("dismissed", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def states(docker_engine: DockerEngine, app_id: str) -> Callable[[], list[str]]:
    """Return what tells the states of the app's containers."""
    return lambda: [row.state for row in docker_engine.rows({labels.APP_ID: app_id})]


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


def tell(process: subprocess.Popen[str], word: str) -> None:
    """Write a line to a process."""
    assert process.stdin is not None
    process.stdin.write(f"{word}\n")
    process.stdin.flush()


def test_it_finishes_what_a_killed_process_was_at(
    start: Start, states: Callable[[], list[str]], docker_engine: DockerEngine, app_id: str
) -> None:
    """The reaper removes all containers after its maker was killed.

    It also leaves the queue for GPUs, where an earlier process of the task has made a claim.
    """
    process = start("remove")
    assert ["running"] * 3 == states()
    claim = {labels.DAG_ID: app_id, labels.GPU_MARKER: "claim"}
    assert 1 == len(docker_engine.rows(claim))

    process.kill()

    until(lambda: not states(), "no containers")
    until(lambda: not docker_engine.rows(claim), "no claim")


def test_it_waits_for_replicas_that_save_a_checkpoint(
    start: Start, states: Callable[[], list[str]], docker_engine: DockerEngine, app_id: str
) -> None:
    """The reaper waits for replicas that its maker began to stop, and keeps their containers."""
    process = start("keep")
    rows = docker_engine.rows({labels.APP_ID: app_id})
    tell(process, "stop")

    def are_stopping() -> bool:
        logs = [[line.text for line in ReplicaLog(docker_engine, row.id)] for row in rows]
        return logs == [["stopping"]] * 3

    until(are_stopping, "replicas that have SIGTERM")
    process.kill()

    until(lambda: states() == ["exited"] * 3, "stopped containers")
    details = [docker_engine.inspect(row.id) for row in rows]
    assert [0] * 3 == [detail and detail.exit_code for detail in details]


def test_one_that_is_dismissed_does_nothing(start: Start, states: Callable[[], list[str]]) -> None:
    """A dismissed reaper does nothing and has ended before its maker has."""
    process = start("remove")
    tell(process, "dismiss")
    assert process.stdout is not None
    assert "dismissed\n" == process.stdout.readline()

    assert "" == Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    assert ["running"] * 3 == states()
