"""Calls in daemon threads."""

from __future__ import annotations

import contextvars
import threading
from typing import TYPE_CHECKING

from airflow_torchx.concurrency import daemons
from airflow_torchx.concurrency.daemons import call_each, in_daemon

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

WHO: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="none")


def test_each_item_is_called() -> None:
    """All items are called before it returns, in as many threads as it may use."""
    called, together = list[int](), threading.Barrier(3)

    def call(item: int) -> None:
        if item < 3:
            together.wait(60)
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


def test_a_call_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """It returns after the time, and then no other call begins."""
    begun, release, called = threading.Event(), threading.Event(), list[int]()
    before = set(threading.enumerate())

    def call(item: int) -> None:
        called.append(item)
        begun.set()
        release.wait(60)

    def start(call: Callable[[], object], name: str) -> threading.Thread:
        # On a busy machine, the time would be over before the first call has begun.
        thread = in_daemon(call, name)
        begun.wait(60)
        return thread

    monkeypatch.setattr(daemons, "in_daemon", start)

    call_each(call, range(3), threads=1, timeout_s=0.01)
    (left,) = set(threading.enumerate()) - before
    release.set()
    left.join(60)

    assert [0] == called
    assert left.daemon


def test_a_thread_has_the_context_of_its_caller() -> None:
    """Airflow routes log lines by it."""
    found = list[str]()
    WHO.set("caller")

    in_daemon(lambda: found.append(WHO.get()), "test").join(60)
    call_each(lambda _: found.append(WHO.get()), [1], threads=1)

    assert ["caller", "caller"] == found
