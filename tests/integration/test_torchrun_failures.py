"""Why an app failed, with PyTorch's own launcher and workers."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from airflow_torchx.components import dist
from airflow_torchx.core.state.blame import blamed_replica, lost_peer
from airflow_torchx.core.state.describe import replicas_of
from airflow_torchx.core.state.report import replica_name
from airflow_torchx.errors import OutOfMemoryError
from airflow_torchx.runtime import attach, root_cause
from airflow_torchx.schedulers.docker_scheduler import DockerScheduler
from airflow_torchx.specs import AppDef, ReplicaStatus
from tests.integration.uv_project import BASE

if TYPE_CHECKING:
    from airflow_torchx.docker_engine import DockerEngine
    from airflow_torchx.specs import Role

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]

WORKER: Final = Path(__file__).with_name("failing_worker.py")


@pytest.fixture
def scheduler(docker_engine: DockerEngine) -> DockerScheduler:
    """Return a scheduler on the real daemon."""
    return DockerScheduler("test", docker_engine)


def role(how: str, j: str) -> Role:
    """Return a role whose last rank fails."""
    app = dist.torchrun(
        how,
        script="/worker.py",
        image=BASE,
        j=j,
        cpu=1,
        memMB=600,
        mounts=["type=bind", f"src={WORKER}", "dst=/worker.py", "readonly"],
    )
    return replace(app.roles[0], name=how)


def test_the_worker_is_found_in_every_way_to_fail(scheduler: DockerScheduler, app_id: str) -> None:
    """Rank, exit code, signal, error and traceback of the worker are known, by file or by log."""
    ways = {
        "exit": (1, 85, None, ""),
        "kill": (1, 137, "SIGKILL", ""),
        "raise": (1, 1, None, "ValueError: loss is NaN"),
        "record": (1, 1, None, "ValueError: loss is NaN"),
        "oom": (1, 1, None, "RuntimeError: CUDA out of memory. Tried to allocate 20.00 GiB."),
    }
    app = AppDef(app_id, [role(how, "1x2") for how in ways])
    handle = scheduler.submit(app, {"failure_policy": "wait_all"})
    scheduler.wait(handle, timeout_s=500)

    ended = attach.look(scheduler.engine, handle, inspect_all=True)
    found = {one.role: one for one in replicas_of(root_cause.diagnosed(scheduler.engine, ended))}

    assert ways == {how: summary(found[how]) for how in ways}
    assert dict.fromkeys(ways, 1) == {how: found[how].exit_code for how in ways}
    named = {how: found[how].rule for how in ways if found[how].rule}
    assert {"oom": "cuda_out_of_memory"} == named
    for how in ("raise", "record"):
        worker = found[how].worker
        assert worker is not None
        assert "    raise ValueError(message)\n" in worker.traceback


@pytest.mark.parametrize(
    ("how", "code", "retries"), [("gloo-exit", 85, 1), ("gloo-kill", 137, 0), ("gloo-segv", 139, 0)]
)
def test_a_worker_that_lost_its_peer_is_not_blamed(
    scheduler: DockerScheduler,
    app_id: str,
    caplog: pytest.LogCaptureFixture,
    how: str,
    code: int,
    retries: int,
) -> None:
    """Of two nodes, the one whose worker failed by itself is blamed, with its exit code.

    The log and the card name it for a round that was restarted, too.
    """
    app_def = AppDef(app_id, [replace(role(how, "2x1"), max_retries=retries)])
    handle = scheduler.submit(app_def, {"stop_grace_s": 20})
    with caplog.at_level("INFO"):
        scheduler.wait(handle, timeout_s=500)

    app = attach.look(scheduler.engine, handle, inspect_all=True)
    ended = root_cause.diagnosed(scheduler.engine, app)

    blamed = blamed_replica(ended)
    assert blamed is not None
    assert blamed.worker is not None
    assert (1, code) == (blamed.worker.rank, blamed.blamed_exit_code)
    error = attach.failure(scheduler.engine, ended, frozenset())
    assert (code, replica_name(blamed)) == (error.exit_code, error.replica)
    assert f"failed first: rank 1: exit code {code}" in str(error)
    why = f"rank 1: exit code {code}"
    in_log = re.findall(rf"failed: {why}; restarting the app, restart 1 of 1", caplog.text)
    on_card = re.findall(rf"\n  round 0: {how}/\d: {why}\n", str(error))
    assert (retries, retries) == (len(in_log), len(on_card))
    for other in replicas_of(ended):
        assert other is blamed or other.worker is None or lost_peer(other.worker)


def test_a_worker_that_runs_out_of_memory(scheduler: DockerScheduler, app_id: str) -> None:
    """The kernel kills a worker, not torchrun: the error says so, and names replica and rank."""
    handle = scheduler.submit(AppDef(app_id, [role("gloo-memory", "2x1")]), {"stop_grace_s": 20})
    scheduler.wait(handle, timeout_s=500)

    app = attach.look(scheduler.engine, handle, inspect_all=True)
    error = attach.failure(
        scheduler.engine, root_cause.diagnosed(scheduler.engine, app), frozenset()
    )

    assert isinstance(error, OutOfMemoryError)
    assert (1, 137) == (error.worker.rank, error.exit_code)
    assert " failed first: rank 1: killed, out of memory (exit code 137, limit " in str(error)


def summary(replica: ReplicaStatus) -> tuple[int | None, int | None, str | None, str]:
    """Return what is known of the worker of a replica, without texts and times."""
    worker = replica.worker
    assert worker is not None
    return worker.rank, worker.exit_code, worker.signal, worker.message
