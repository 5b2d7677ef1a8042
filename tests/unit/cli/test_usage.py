"""What the replicas of an app use at this moment, on the fake engine."""

from __future__ import annotations

import threading

from airflow_torchx.cli.usage import with_usage
from airflow_torchx.core.plan.progress import PROGRESS_PATH
from airflow_torchx.core.state.describe import replicas_of
from airflow_torchx.core.state.report import replica_table
from airflow_torchx.runtime import attach, launching
from airflow_torchx.runtime.progress import read_once
from airflow_torchx.specs import Resource
from airflow_torchx.testing import FakeEngine, ManualClock, Program
from tests.unit.apps import app, planned


def test_running_replicas() -> None:
    """Replicas that run have what they use now, and the others are not asked."""
    engine = FakeEngine(
        images=["busybox"],
        programs={
            "trainer/0": Program(runs_for_s=None, memory_bytes=3 << 30),
            "trainer/1": Program(),
        },
    )
    needs = Resource(cpu=2, gpu=-1, memMB=4096)
    launching.launch(engine, planned(app(2, resource=needs), failure_policy="wait_all"))

    found, progress = with_usage(engine, attach.look(engine, "app-1"), limit_s=60)

    assert [1.0, None] == [
        one.usage and round(one.usage.cpus or 0, 1) for one in replicas_of(found)
    ]
    assert "3 of 4 GiB   1 of 2" in replica_table(found)
    assert 2 == engine.calls.count("usage")
    assert progress is None


def test_a_daemon_that_does_not_answer() -> None:
    """The state of an app is shown without what cannot be read in time."""
    release = threading.Event()
    engine = FakeEngine(images=["busybox"], programs=Program(runs_for_s=None))
    launching.launch(engine, planned(app(2)))
    seen = attach.look(engine, "app-1")

    def hang(verb: str, _: str) -> None:
        if verb == "usage":
            release.wait(60)

    engine.before = hang
    try:
        found, _ = with_usage(engine, seen, limit_s=0.1)
    finally:
        release.set()

    assert "memory" not in replica_table(found)


def test_a_program_that_reports_its_progress() -> None:
    """The estimate counts from the start of the container, and from the first step."""
    lines = b'{"step": 100}\n{"step": 200, "total": 500, "metrics": {"loss": 0.3125}}\n'
    clock = ManualClock()
    program = Program(runs_for_s=None, files={PROGRESS_PATH: lines})
    engine = FakeEngine(images=["busybox"], programs=program, clock=clock, sleep=clock.advance)
    launching.launch(engine, planned(app(1)))
    seen = attach.look(engine, "app-1", inspect_all=True)
    (replica,) = replicas_of(seen)
    assert replica.started_at is not None
    now_s = replica.started_at.timestamp() + 60

    progress = read_once(engine, seen, lambda: now_s)

    assert progress is not None
    assert "step 200/500, loss 0.3125, about 3 min left" == progress.text(now_s)
    found = with_usage(engine, seen, limit_s=60)[1]
    assert found is not None
    assert progress.report == found.report
