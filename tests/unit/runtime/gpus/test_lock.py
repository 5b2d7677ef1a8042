"""The lock, which one client at a time has."""

from __future__ import annotations

import itertools

import pytest

from airflow_torchx.concurrency.parallel import StopRequested
from airflow_torchx.runtime.gpus.lock import GpuLock
from airflow_torchx.testing import FakeEngine, ManualClock
from tests.unit.runtime.gpus.clients import daemon, demand

NAME = "airflow-torchx-gpu-lock"


@pytest.fixture
def engine() -> FakeEngine:
    """Return a daemon with GPUs."""
    return daemon()[0]


def lock(engine: FakeEngine, clock: ManualClock) -> GpuLock:
    """Return the lock for one client, whose pauses take time on its clock."""
    return GpuLock(engine, demand("a"), lambda: False, clock, clock.sleep)


def holder(engine: FakeEngine) -> str:
    """Return the container of the client that is inside, and a word for none."""
    return next((row.id for row in engine.rows({}) if row.name == NAME), "none")


def test_a_client_enters_and_leaves(engine: FakeEngine) -> None:
    """A container that never starts has the name meanwhile."""
    with lock(engine, ManualClock()) as entered:
        assert entered.is_held
        assert ["created"] == [row.state for row in engine.rows({}) if row.name == NAME]

    assert "none" == holder(engine)
    assert not entered.is_held


def test_a_client_that_fails_leaves(engine: FakeEngine) -> None:
    """An error inside does not keep other clients out."""
    with pytest.raises(KeyboardInterrupt), lock(engine, ManualClock()):
        raise KeyboardInterrupt

    assert "none" == holder(engine)


def test_a_client_waits_until_another_leaves(engine: FakeEngine) -> None:
    """A client enters once the one before has left, and does not break its lock."""
    first = lock(engine, ManualClock())
    clock, looks = ManualClock(), 0
    first.__enter__()

    def leave(seconds: float) -> None:
        nonlocal looks
        looks += 1
        assert first.is_held
        clock.advance(seconds)
        if looks == 5:
            first.__exit__()

    with GpuLock(engine, demand("b"), lambda: False, clock, leave) as second:
        assert second.is_held
        assert 5 == looks


def test_the_section_of_a_dead_client_is_broken(engine: FakeEngine) -> None:
    """A client that sees the same holder for more than 3 s of its own clock removes it."""
    dead, clock = lock(engine, ManualClock()), ManualClock()
    dead.__enter__()
    began_s, seen = clock(), {holder(engine)}

    def sleep(seconds: float) -> None:
        seen.add(holder(engine))
        clock.advance(seconds)

    with GpuLock(engine, demand("b"), lambda: False, clock, sleep) as second:
        assert 1 == len(seen)
        assert 3 < clock() - began_s < 3.1
        assert second.is_held
        assert not dead.is_held
        dead.__exit__()
        assert second.is_held


def test_a_section_that_changes_hands_is_not_broken(engine: FakeEngine) -> None:
    """The 3 s begin again with each other holder."""
    clock, looks = ManualClock(), itertools.count(1)
    others = [lock(engine, ManualClock()) for _ in range(4)]
    others[0].__enter__()

    def pass_on(_: float) -> None:
        clock.advance(1.4)
        assert others[0].is_held
        if next(looks) % 3:
            return
        others.pop(0).__exit__()
        if others:
            others[0].__enter__()

    with GpuLock(engine, demand("b"), lambda: False, clock, pass_on) as last:
        assert last.is_held
        assert [] == others


def test_a_client_that_is_stopped_does_not_enter(engine: FakeEngine) -> None:
    """It stops waiting, and leaves the lock of the other client alone."""
    with lock(engine, ManualClock()) as other:
        clock, stops = ManualClock(), iter([False, False, True])
        waiting = GpuLock(engine, demand("b"), lambda: next(stops), clock, clock.sleep)

        with pytest.raises(StopRequested):
            waiting.__enter__()

        assert other.is_held
