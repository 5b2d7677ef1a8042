"""The lock, which one client at a time has."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from airflow_torchx.concurrency.parallel import StopRequested
from airflow_torchx.errors import EngineConflictError
from airflow_torchx.runtime.gpus.lock import GpuLock
from airflow_torchx.testing import FakeEngine, ManualClock
from tests.unit.runtime.gpus.clients import daemon, demand

if TYPE_CHECKING:
    from airflow_torchx.testing import Verb

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


def test_a_slow_client_gets_more_time(engine: FakeEngine) -> None:
    """A client that lost the lock has twice the time when it enters again, up to a minute."""
    slow = lock(engine, ManualClock())

    def is_lost(after_s: float) -> bool:
        """Return whether another client takes the lock from the slow one, and after how long."""
        with slow:
            clock = ManualClock()
            began_s = clock()
            with lock(engine, clock):
                assert after_s < clock() - began_s < after_s + 0.1
            return not slow.is_held

    assert all(is_lost(after_s) for after_s in (3, 6, 12, 24, 48, 60, 60))
    with slow:
        assert slow.is_held


def test_a_lock_that_asks_for_too_much_time(engine: FakeEngine) -> None:
    """Any client can write a label; a lock is respected for a minute at most."""
    clock = ManualClock()
    began_s = clock()
    engine.create(demand("a").spec("lock", timeout_s=31_000_000))

    with lock(engine, clock) as entered:
        assert entered.is_held
        assert 60 < clock() - began_s < 60.1


def test_a_container_of_another_program_has_the_name(engine: FakeEngine) -> None:
    """The error names the container, and how to remove or rename it."""
    engine.create(replace(demand("a").spec("lock"), labels={}))

    with pytest.raises(
        EngineConflictError,
        match=f"container {NAME} exists, and has no label(.|\n)*docker rm --force {NAME}",
    ):
        lock(engine, ManualClock()).__enter__()


def test_a_lock_that_is_released_before_it_is_seen(engine: FakeEngine) -> None:
    """A client whose name is taken at the create, and free at the list, tries again."""
    other = engine.create(demand("a").spec("lock"))

    def release(verb: Verb, _: str) -> None:
        if verb == "rows":
            engine.before = None
            engine.discard(other)

    engine.before = release

    with lock(engine, ManualClock()) as entered:
        assert entered.is_held


def test_a_lock_that_is_taken_between_two_lists(engine: FakeEngine) -> None:
    """A lock that only the second list shows is not taken for one of another program."""
    other = engine.create(demand("a").spec("lock"))
    looks = 0

    def change(verb: Verb, _: str) -> None:
        nonlocal looks, other
        if verb == "rows" and (looks := looks + 1) < 3:
            before, engine.before = engine.before, None
            if looks == 1:
                engine.discard(other)
            else:
                other = engine.create(demand("b").spec("lock"))
            engine.before = before

    engine.before = change

    with lock(engine, ManualClock()) as entered:
        assert entered.is_held


def test_a_lock_that_a_user_has_started(engine: FakeEngine) -> None:
    """The error names the container, and how to remove it."""
    engine.start(engine.create(demand("a").spec("lock")))

    with pytest.raises(
        EngineConflictError, match=f"container {NAME}: it is running(.|\n)*rm --force {NAME}"
    ):
        lock(engine, ManualClock()).__enter__()
