"""Calls in daemon threads."""

from __future__ import annotations

import contextvars
import threading

from airflow_torchx.concurrency.daemons import call_each, in_daemon

WHO: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="none")


def test_each_item_is_called() -> None:
    """All items are called before it returns, in as many threads as it may use."""
    called, together = list[int](), threading.Barrier(3)

    def call(item: int) -> None:
        if item < 3:
            together.wait(20)
        called.append(item)

    call_each(call, range(20), threads=3)

    assert [*range(20)] == sorted(called)


def test_the_number_of_threads() -> None:
    """No more threads are started than it may use, or than there are items."""
    threads = set[int]()

    def call(_: int) -> None:
        threads.add(threading.get_ident())

    call_each(call, range(50), threads=2)
    call_each(call, [], threads=2)

    assert 1 <= len(threads) <= 2


def test_a_call_that_hangs() -> None:
    """It returns after the time, and then no other call begins."""
    release, called = threading.Event(), list[int]()
    before = set(threading.enumerate())

    def call(item: int) -> None:
        called.append(item)
        release.wait(60)

    call_each(call, range(3), threads=1, timeout_s=0.01)
    (left,) = set(threading.enumerate()) - before
    release.set()
    left.join(20)

    assert [0] == called
    assert left.daemon


def test_a_thread_has_the_context_of_its_caller() -> None:
    """Airflow routes log lines by it."""
    found = list[str]()
    WHO.set("caller")

    in_daemon(lambda: found.append(WHO.get()), "test").join(20)
    call_each(lambda _: found.append(WHO.get()), [1], threads=1)

    assert ["caller", "caller"] == found
