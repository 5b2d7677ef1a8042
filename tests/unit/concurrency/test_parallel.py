"""Concurrent blocking calls."""

from __future__ import annotations

import contextvars
import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Collection
from threading import Event, Thread
from typing import TYPE_CHECKING

import pytest

from airflow_torchx.concurrency.parallel import StopRequested, call_until, map_concurrently

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType


class Item:
    """An item; unlike an int, it can be watched."""

    def __init__(self, number: int) -> None:
        self.number = number


class Items(Collection[Item]):
    """A hundred items, each of which exists only as long as its call is pending or running."""

    def __init__(self) -> None:
        self._dropped = threading.Event()

    def __len__(self) -> int:
        return 100

    def __contains__(self, item: object) -> bool:
        return False

    def __iter__(self) -> Iterator[Item]:
        for number in range(99):
            yield Item(number)
        last = Item(99)
        weakref.finalize(last, self._dropped.set)
        yield last

    def wait_until_dropped(self) -> None:
        """Return when the last call was dropped; where none ever is, only one caller waits long."""
        self._dropped.wait(60)
        self._dropped.set()


def test_results_are_in_order() -> None:
    """Results have the order of the items, regardless of which call ends first."""
    ended = [threading.Event() for _ in range(3)]

    def backwards(item: int) -> int:
        if item < 2:
            ended[item + 1].wait()
        ended[item].set()
        return item

    assert [0, 1, 2] == map_concurrently(backwards, range(3))


def test_no_items() -> None:
    """Without items, no thread is started."""
    assert [] == map_concurrently(pytest.fail, [])


def test_calls_overlap() -> None:
    """Up to ``threads`` calls run at the same time."""
    together = threading.Barrier(4)

    map_concurrently(lambda _: together.wait(60), range(4), threads=4)


def test_failure() -> None:
    """After a failure, running calls are awaited and pending ones are dropped."""
    begun: list[int] = []
    ended: list[int] = []

    items = Items()

    def call(item: Item) -> None:
        begun.append(item.number)
        if item.number == 0:
            raise LookupError
        items.wait_until_dropped()
        ended.append(item.number)

    with pytest.raises(LookupError):
        map_concurrently(call, items, threads=2)

    assert set(begun) - {0} == set(ended)
    assert len(begun) <= 3


def test_stop_during_calls() -> None:
    """After a stop, running calls are awaited and pending ones are dropped."""
    begun: list[int] = []
    ended: list[int] = []
    items = Items()

    def call(item: Item) -> None:
        begun.append(item.number)
        items.wait_until_dropped()
        ended.append(item.number)

    with pytest.raises(StopRequested):
        map_concurrently(call, items, threads=2, should_stop=lambda: bool(begun))

    assert set(begun) == set(ended)
    assert len(begun) <= 2


def test_interrupted_stop() -> None:
    """A signal that interrupts a stop does not let a running call outlive it."""
    stopping, interrupted = threading.Event(), threading.Event()
    ended: list[int] = []

    def stop() -> bool:
        stopping.set()
        return True

    def interrupt(*_: object) -> None:
        interrupted.set()
        raise KeyboardInterrupt

    def call(item: int) -> None:
        stopping.wait()
        time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGUSR1)
        interrupted.wait()
        time.sleep(0.05)
        ended.append(item)

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            map_concurrently(call, [1], should_stop=stop)
        assert [1] == ended
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_interrupt_while_a_thread_starts() -> None:
    """No call outlives an interrupt that comes while the caller waits for a thread to start."""
    ended: list[int] = []

    def slow(item: int) -> None:
        time.sleep(0.1)
        ended.append(item)

    def interrupt(frame: FrameType, event: str, _: object) -> None:
        codes = [one.f_code for one in (frame, frame.f_back) if one is not None]
        if event == "return" and codes == [Event.wait.__code__, Thread.start.__code__]:
            raise KeyboardInterrupt

    before = set(threading.enumerate())
    sys.setprofile(interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            map_concurrently(slow, range(3))
    finally:
        sys.setprofile(None)
    ended_at_return = list(ended)
    for thread in set(threading.enumerate()) - before:
        thread.join()

    assert ended_at_return == ended


def test_a_call_has_the_context_of_its_caller() -> None:
    """A call in a thread sees the caller's context, and its result and its error are returned."""
    who = contextvars.ContextVar("who", default="nobody")
    who.set("caller")

    assert "caller" == call_until(who.get, lambda: False)
    with pytest.raises(ZeroDivisionError):
        call_until(lambda: 1 / 0, lambda: False)


def test_a_call_that_is_left_goes_on() -> None:
    """The caller does not wait for a call that takes too long, and the call goes on."""
    released, ended = threading.Event(), threading.Event()

    def call() -> None:
        released.wait(30)
        ended.set()

    with pytest.raises(StopRequested):
        call_until(call, lambda: True)

    assert not ended.is_set()
    released.set()
    assert ended.wait(30)


def test_calls_have_the_context_of_the_caller() -> None:
    """Airflow routes the log lines of a trigger by its context."""
    app = contextvars.ContextVar("app", default="")
    app.set("app-1")

    assert ["app-1"] * 3 == map_concurrently(lambda _: app.get(), [1, 2, 3])
