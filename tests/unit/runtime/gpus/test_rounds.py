"""The GPUs of an app between two rounds."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from airflow_torchx.core.engine import labels
from airflow_torchx.core.engine.containers import GpuRequest
from airflow_torchx.core.gpu.turn import Blocked
from airflow_torchx.runtime import launching, lifecycle, waiting
from airflow_torchx.runtime.gpus.queue import GpuQueue
from airflow_torchx.specs import AppState
from airflow_torchx.testing import FakeEngine, ManualClock, Program
from tests.unit.apps import planned, states
from tests.unit.runtime.gpus.clients import demand
from tests.unit.runtime.round_clients import Client, app, own, role

if TYPE_CHECKING:
    from airflow_torchx.core.engine.containers import ContainerSpec

GPUS = ("GPU-0", "GPU-1")
APP = "app-1"


def program(spec: ContainerSpec) -> Program:
    """Return a program that runs on, of which replica 1 fails in round 0."""
    fails = spec.replica and labels.ROUND not in spec.labels
    return Program(exit_code=1) if fails else Program(runs_for_s=None)


def launched() -> tuple[FakeEngine, ManualClock]:
    """Launch an app of two replicas, each with a GPU."""
    clock = ManualClock()
    engine = FakeEngine(
        images=["busybox"], gpus=GPUS, programs=program, clock=clock, sleep=clock.sleep
    )
    plan = planned(app(role(replicas=2, retries=1), role("data", 1)))
    containers = tuple(
        replace(
            spec,
            labels={**spec.labels, labels.GPUS: GPUS[spec.replica]},
            gpus=GpuRequest(count=1, device_ids=(GPUS[spec.replica],)),
        )
        if spec.role == "trainer"
        else spec
        for spec in plan.containers
    )
    launching.launch(engine, replace(plan, containers=containers))
    return engine, clock


def takes_gpus(engine: FakeEngine, clock: ManualClock) -> bool:
    """Return whether another app gets a GPU now."""
    queue = GpuQueue(engine, demand("other"), clock=clock, sleep=clock.sleep)
    return not isinstance(queue.attempt(), Blocked)


def calls_of_the_owner() -> int:
    """Return how many requests an owner makes."""
    engine, clock = launched()
    client = Client(engine)
    own(client.as_engine, clock, looks=3)
    return client.calls


@pytest.mark.parametrize("call", range(1, calls_of_the_owner() + 1))
def test_no_other_app_gets_them(call: int) -> None:
    """At no request of the owner, another app gets one of the GPUs of a restarted app."""
    engine, clock = launched()
    client = Client(engine)
    taken: list[bool] = []
    client.at[call] = lambda: taken.append(takes_gpus(engine, clock))

    own(client.as_engine, clock, looks=3)

    assert [False] == taken
    assert ["RUNNING"] * 3 == states(engine)


def test_they_are_free_a_minute_after_the_last_replica_has_ended() -> None:
    """An app of which nothing runs, and that no process restarts, does not keep them."""
    engine, clock = launched()
    for row in engine.rows({labels.APP_ID: APP}):
        engine.stop(row.id, 0)
    clock.advance(59)
    assert not takes_gpus(engine, clock)

    clock.advance(2)

    assert takes_gpus(engine, clock)


def test_an_owner_that_comes_too_late(caplog: pytest.LogCaptureFixture) -> None:
    """It does not restart the app on GPUs that another app has been given."""
    engine, clock = launched()
    for row in engine.rows({labels.APP_ID: APP}):
        engine.stop(row.id, 0)
    clock.advance(61)
    assert takes_gpus(engine, clock)

    ended = own(engine, clock)

    assert ended is not None
    assert AppState.FAILED is ended.state
    assert 3 == len(engine.rows({labels.APP_ID: APP}))
    assert "cannot restart app app-1: its GPUs were given to other" in caplog.text


def test_a_cancelled_app_frees_them_at_once() -> None:
    """A cancel between two rounds gives them to others."""
    engine, clock = launched()
    lifecycle.cancel(engine, APP, grace_s=0)

    assert "PENDING" not in states(engine)
    assert takes_gpus(engine, clock)
    assert waiting.poll_once(engine, APP) is not None
