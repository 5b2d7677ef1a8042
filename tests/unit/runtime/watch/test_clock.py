"""The clock of a watch, and the manual clock of the tests."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from airflow_torchx.runtime.watch.clock import SYSTEM, Clock, wait_for
from airflow_torchx.testing import ManualClock


@pytest.mark.parametrize("clock", [SYSTEM, ManualClock()])
def test_a_time_that_has_come_is_not_waited_for(clock: Clock) -> None:
    """A wait for a time in the past returns at once."""
    condition, now = threading.Condition(), clock()

    with condition:
        clock.wait(condition, now)
        wait_for(clock, condition, lambda: False, now)

    assert now <= clock()


def test_a_time_that_comes_ends_a_wait() -> None:
    """A wait on the system clock ends at its time."""
    condition, until_s = threading.Condition(), SYSTEM() + 0.05

    with condition:
        wait_for(SYSTEM, condition, lambda: False, until_s)

    assert until_s <= SYSTEM()


def test_an_advance_ends_a_wait() -> None:
    """A wait on a manual clock ends when the clock reaches its time."""
    clock, condition = ManualClock(), threading.Condition()
    until_s = clock() + 10

    def wait() -> float:
        with condition:
            wait_for(clock, condition, lambda: False, until_s)
        return clock()

    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(wait)
        while not waiting.done():
            if clock.parked:
                clock.advance(4)

    assert until_s + 2 == waiting.result()


def test_a_condition_ends_a_wait() -> None:
    """A wait on a manual clock ends without an advance when its condition holds."""
    clock, condition = ManualClock(), threading.Condition()
    happened: list[bool] = []

    def wait() -> None:
        with condition:
            wait_for(clock, condition, lambda: happened, clock() + 10)

    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(wait)
        with condition:
            happened.append(True)
            condition.notify_all()
        waiting.result()

    assert 0 == clock.parked
