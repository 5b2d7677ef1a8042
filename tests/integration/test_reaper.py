"""What removes an app when the process that was at it is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airflow_torchx.core.engine import labels
from airflow_torchx.runtime.replica_log import ReplicaLog
from tests.airflow.gate import Gate, Hold, Kind, Side, daemon_socket
from tests.airflow.processes import is_alive, until
from tests.conftest import BUSYBOX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_torchx.core.engine.containers import ContainerRow
    from airflow_torchx.docker_engine import DockerEngine

    Start = Callable[[str], subprocess.Popen[str]]
    Run = Callable[[Gate, Path, str], subprocess.Popen[bytes]]

pytestmark = pytest.mark.docker

CODE = """
import sys
from airflow_torchx.core.engine import labels
from airflow_torchx.core.gpu.demand import GpuDemand
from airflow_torchx.core.plan.identity import TaskAttempt
from airflow_torchx.docker_engine import DockerEngine
from airflow_torchx.runtime import lifecycle
from airflow_torchx.runtime.reaper import Order, Reaper
from airflow_torchx.schedulers.docker_scheduler import DockerScheduler
from airflow_torchx.specs import AppDef, Role

app_id, image, keep = sys.argv[1:]
waiting = None
script = "trap 'echo stopping; sleep 2; exit 0' TERM; echo up; while true; do sleep 0.1; done"
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
    reaper = Reaper(engine.endpoint, app_id, launch_id)
    reaper.order(Order(grace_s=30.0, keep=keep == "keep", waiting=waiting))
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

    def have_written(*lines: str) -> bool:
        logs = [[line.text for line in ReplicaLog(docker_engine, row.id)] for row in rows]
        return logs == [[*lines]] * 3

    # Before its handler is set, process 1 ignores SIGTERM.
    until(lambda: have_written("up"), "replicas that are up")
    tell(process, "stop")

    until(lambda: have_written("up", "stopping"), "replicas that have SIGTERM")
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


def run_command(gate: Gate, folder: Path, app_id: str) -> subprocess.Popen[bytes]:
    """Start to launch three replicas by the command line, behind a gate, with a label."""
    cfg = f"labels=of-test:{app_id}"
    script = "trap 'exit 0' TERM; sleep 600 & wait"
    component = ("utils.sh", "--image", BUSYBOX, "--num_replicas", "3", "sh", "-c", script)
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "airflow_torchx.cli",
            "run",
            "-cfg",
            cfg,
            "--workspace",
            "",
            *component,
        ],
        cwd=folder,
        env=os.environ | {"DOCKER_HOST": f"unix://{gate.path}"},
        # A shell kills the whole group of a job.
        process_group=0,
    )


#: A program that launches three replicas, and then waits.
PROGRAM = """
import sys
from airflow_torchx.schedulers.docker_scheduler import create_scheduler
from airflow_torchx.specs import AppDef, Role

app_id, image = sys.argv[1:]
script = "trap 'exit 0' TERM; sleep 600 & wait"
role = Role("sh", image, entrypoint="sh", args=["-c", script], num_replicas=3)
with create_scheduler("test") as scheduler:
    app = scheduler.submit(AppDef("app", [role]), {"labels": {"of-test": app_id}})
    list(scheduler.log_iter(app, "sh", should_tail=True))
"""


def run_program(gate: Gate, folder: Path, app_id: str) -> subprocess.Popen[bytes]:
    """Start to launch three replicas by the Python API, behind a gate, with a label."""
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, app_id, BUSYBOX],
        cwd=folder,
        env=os.environ | {"DOCKER_HOST": f"unix://{gate.path}"},
        process_group=0,
    )


both_ways = pytest.mark.parametrize("run", [run_command, run_program])


def in_group(group: int) -> list[int]:
    """Return the processes that live in a process group or in a session of its members' own."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if str(group) in stat.read_text().rpartition(")")[2].split()[1:4]:
                found.append(int(stat.parent.name))
    return found


@pytest.mark.parametrize(
    ("hold", "left"),
    [
        (Hold(Kind.CREATE, side=Side.AFTER), 0),
        (Hold(Kind.CREATE, nth=3), 0),
        (Hold(Kind.START, nth=3), 0),
        (Hold(Kind.LIST, after={Kind.START: 3}), 3),
    ],
    ids=["first-created", "two-created", "two-started", "complete"],
)
@both_ways
def test_a_client_that_is_killed_while_it_launches(
    run: Run, hold: Hold, left: int, tmp_path: Path, docker_engine: DockerEngine, app_id: str
) -> None:
    """SIGKILL for the whole process group in the middle of a launch leaves no container.

    A launch that is complete is left alone.
    """

    def rows() -> tuple[ContainerRow, ...]:
        return docker_engine.rows({"of-test": app_id})

    # The path of a socket must be short.
    with tempfile.TemporaryDirectory() as folder, Gate(Path(folder) / "d", daemon_socket()) as gate:
        held = gate.hold(replace(hold))
        process = run(gate, tmp_path, app_id)
        held.wait()
        reapers = [pid for pid in in_group(process.pid) if pid != process.pid]
        assert reapers

        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        held.release()

        until(lambda: not any(is_alive(pid) for pid in reapers), "the end of the reaper")
        try:
            assert left == len(rows())
        finally:
            for row in rows():
                docker_engine.remove(row.id)


@both_ways
def test_a_client_that_has_launched_has_no_child(
    run: Run, app_id: str, tmp_path: Path, docker_engine: DockerEngine
) -> None:
    """The reaper of a launch has ended, and was waited for, before the app is followed."""
    with tempfile.TemporaryDirectory() as folder, Gate(Path(folder) / "d", daemon_socket()) as gate:
        held = gate.hold(Hold(Kind.LOGS))
        process = run(gate, tmp_path, app_id)
        held.wait()
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
        process.kill()
        process.wait()
        held.release()
        rows = docker_engine.rows({"of-test": app_id})
        for row in rows:
            docker_engine.remove(row.id)

    assert 3 == len(rows)
    assert "" == children
