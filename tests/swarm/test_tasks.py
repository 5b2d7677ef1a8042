"""Airflow tasks whose apps run on a swarm, and whose process is killed, or which a user ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from airflow_torchx.core.engine import labels
from airflow_torchx.specs import AppDef, Resource, Role
from tests.airflow.gate import Gate, Hold, Kind, Side
from tests.conftest import BUSYBOX
from tests.swarm.hosts import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from airflow_torchx.core.engine.containers import ContainerRow
    from airflow_torchx.docker_engine.request import Client
    from airflow_torchx.schedulers.swarm_scheduler import SwarmScheduler
    from airflow_torchx.swarm_engine import SwarmEngine
    from tests.swarm.hosts import Hosts

    Rows = Callable[[], tuple[ContainerRow, ...]]
    Run = Callable[..., subprocess.Popen[str]]

pytestmark = [pytest.mark.docker, pytest.mark.timeout(240)]

REPLICAS: Final = 3
#: It ends with 0 when it is asked to.
FOREVER: Final = "trap 'exit 0' TERM; while :; do sleep 0.1; done"
#: The services of the replicas, then the lock, then the starts.
STEPS: Final = {
    "first-created": Hold(Kind.SERVICE_CREATE, side=Side.AFTER),
    "two-created": Hold(Kind.SERVICE_CREATE, nth=3),
    "all-created": Hold(Kind.SERVICE_CREATE, nth=REPLICAS + 1),
    "lock-taken": Hold(Kind.SERVICE_CREATE, nth=REPLICAS + 1, side=Side.AFTER),
    "one-started": Hold(Kind.SERVICE_UPDATE, nth=2),
    "all-started": Hold(Kind.SERVICE_REMOVE),
}
#: What a user does, and what the task does meanwhile.
ENDS: Final = tuple(
    f"{act}-{mode}" for act in ("failed", "success", "cleared") for mode in ("running", "deferred")
)


@pytest.fixture
def gate(hosts: Hosts) -> Iterator[Gate]:
    """Return a gate to the manager."""
    socket = hosts[1].url.removeprefix("unix://")
    # The path of a socket must be short.
    with tempfile.TemporaryDirectory() as folder, Gate(Path(folder) / "d", socket) as made:
        yield made


@pytest.fixture
def run(gate: Gate, hosts: Hosts, app_id: str) -> Iterator[Run]:
    """Return what starts a process of the task behind the gate."""
    swarm = hosts.endpoint().swarm
    assert swarm is not None
    extra = {
        "scheduler": "docker_swarm",
        "node_url": swarm.node_url,
        # Longer than anything is held.
        "request_timeout_s": 600,
    }
    connection = {"conn_type": "torchx_docker", "host": f"unix://{gate.path}", "extra": extra}
    processes = []

    def start(script: str, try_number: int = 1, *, deferrable: bool = False, cpu: float = 0) -> Any:  # noqa: ANN401 - a Popen of text
        given = {
            "run_id": app_id,
            "try_number": try_number,
            "max_tries": 1,
            "script": script,
            "deferrable": deferrable,
            "cpu": cpu,
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.swarm.task_process", json.dumps(given)],
            env=os.environ | {"AIRFLOW_CONN_GPU_CLUSTER": json.dumps(connection)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield start

    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture
def rows(
    swarm_engine: SwarmEngine, app_id: str
) -> Iterator[Callable[[], tuple[ContainerRow, ...]]]:
    """Return what lists the containers of the task's apps; at the end all of them are removed."""

    def listed() -> tuple[ContainerRow, ...]:
        return swarm_engine.rows({labels.RUN_ID: app_id})

    yield listed

    for row in listed():
        swarm_engine.remove(row.id)


def _report(process: subprocess.Popen[str]) -> dict[str, str]:
    """Return what a process writes next about itself, among the lines of its log."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith('{"report"'):
            found: dict[str, str] = json.loads(line)
            return found
    raise AssertionError("the process has ended without a report")


def _tell(process: subprocess.Popen[str], state: str | None) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{json.dumps(state)}\n")
    process.stdin.flush()


def _lock(manager: Client) -> list[Any]:
    found: list[Any] = manager.services({"name": "airflow-torchx-placing"})
    return found


def _some(cases: Iterable[str], selected: Collection[str]) -> list[Any]:
    """Return parameters of a test, of which `make test` plays some."""
    in_campaign = {one: pytest.param(one, marks=pytest.mark.campaign) for one in cases}
    return [one if one in selected else in_campaign[one] for one in cases]


@pytest.mark.parametrize("step", _some(STEPS, {"one-started"}))
def test_a_task_that_is_killed_while_it_launches(
    step: str, gate: Gate, run: Run, rows: Rows, hosts: Hosts
) -> None:
    """A launch that was not complete is removed, and the next try launches once.

    A launch that was complete is adopted. The lock of the killed process does not stay.
    """
    hold = gate.hold(replace(STEPS[step]))
    process = run("sleep 1")
    hold.wait()

    process.kill()
    process.wait()
    hold.release()

    is_complete = step == "all-started"
    with closing(hosts[1].client) as manager:
        wait_until(lambda: len(rows()) == (REPLICAS if is_complete else 0))
        wait_until(lambda: not _lock(manager))
    before = gate.answered(Kind.SERVICE_CREATE)
    assert "SucceedTask" == _report(run("sleep 1", 2))["report"]
    created = gate.answered(Kind.SERVICE_CREATE) - before
    assert (0 if is_complete else REPLICAS + 1) == created
    assert () == rows()


@pytest.mark.parametrize("case", _some(ENDS, {"cleared-deferred"}))
def test_a_task_that_a_user_ends(case: str, run: Run, rows: Rows) -> None:
    """The app is stopped and removed, by the task or by its trigger."""
    word, _, mode = case.partition("-")
    state, deferrable = None if word == "cleared" else word, mode == "deferred"
    process = run(FOREVER, deferrable=deferrable)
    if deferrable:
        assert "DeferTask" == _report(process)["report"]
    wait_until(lambda: ["running"] * REPLICAS == [row.state for row in rows()])

    _tell(process, state)

    expected = "killed" if deferrable else "RetryTask"
    assert expected == _report(process)["report"]
    wait_until(lambda: not rows())


@pytest.mark.campaign
def test_a_task_that_is_killed_while_its_app_waits(
    run: Run, rows: Rows, scheduler: SwarmScheduler, app_id: str
) -> None:
    """Nothing of the app starts without a task; the next try gets the room, and runs once."""
    holder = Role(
        "holder",
        BUSYBOX,
        num_replicas=REPLICAS,
        entrypoint="sleep",
        args=["600"],
        resource=Resource(cpu=os.cpu_count() or 1, gpu=0, memMB=16),
    )
    held = scheduler.submit(AppDef(f"{app_id}-holder", [holder]), {"stop_grace_s": 1})
    process = run("sleep 1", cpu=1)
    wait_until(lambda: ["pending"] * REPLICAS == [row.state for row in rows()])

    process.kill()
    process.wait()
    after = run("sleep 1", 2, cpu=1)
    wait_until(lambda: len(rows()) == REPLICAS)
    scheduler.delete(held)

    assert "SucceedTask" == _report(after)["report"]
    assert () == rows()
