"""Calls that are made later, in a daemon thread."""

from __future__ import annotations

import threading

from airflow_torchx.concurrency.background import BackgroundCalls


def test_calls_are_made_in_order() -> None:
    """All calls are made, one after another, before `close` returns."""
    made = list[int]()
    calls = BackgroundCalls("test")
    for number in range(100):
        calls.submit(lambda number=number: made.append(number))  # type: ignore[misc]

    calls.close(60)

    assert [*range(100)] == made


def test_a_call_that_hangs_holds_no_caller() -> None:
    """A submit returns while another call runs, and calls above the limit are dropped."""
    made, is_running, released = list[int](), threading.Event(), threading.Event()
    calls = BackgroundCalls("test", most=2)

    def hang() -> None:
        is_running.set()
        released.wait(60)

    calls.submit(hang)
    is_running.wait(60)
    for number in range(4):
        calls.submit(lambda number=number: made.append(number))  # type: ignore[misc]

    assert not released.is_set()
    released.set()
    calls.close(60)
    assert [0, 1] == made


def test_a_close_is_not_the_end() -> None:
    """Calls may follow a close, and a close without any call returns."""
    made = list[int]()
    calls = BackgroundCalls("test")
    for number in range(2):
        calls.close(60)
        calls.submit(lambda number=number: made.append(number))  # type: ignore[misc]

    calls.close(60)

    assert [0, 1] == made


def test_a_thread_ends_without_a_close() -> None:
    """The thread of an owner that was never closed ends with its last call."""
    threads = list[threading.Thread]()
    calls = BackgroundCalls("test")

    calls.submit(lambda: threads.append(threading.current_thread()))

    while not threads:
        calls.close(60)
    threads[0].join(60)
    assert not threads[0].is_alive()
