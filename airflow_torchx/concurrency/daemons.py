"""Calls in daemon threads, which neither a caller nor the end of the process waits for."""

from __future__ import annotations

import contextvars
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_Item = TypeVar("_Item")


def call_each(
    call: Callable[[_Item], object],
    items: Iterable[_Item],
    *,
    threads: int,
    timeout_s: float | None = None,
) -> None:
    """Call ``call``, which must not raise, for each item in at most ``threads`` threads.

    It returns after ``timeout_s`` seconds at the latest. No call begins after that, and those that
    run are left to themselves.
    """
    waiting = deque(items)
    is_over = threading.Event()

    def work() -> None:
        while waiting and not is_over.is_set():
            try:
                item = waiting.popleft()
            except IndexError:
                return
            call(item)

    running = [in_daemon(work, "torchx-calls") for _ in range(min(threads, len(waiting)))]
    until_s = None if timeout_s is None else time.monotonic() + timeout_s
    for thread in running:
        thread.join(None if until_s is None else max(0.0, until_s - time.monotonic()))
    is_over.set()


def in_daemon(call: Callable[[], object], name: str) -> threading.Thread:
    """Start a daemon thread with the caller's context, and return it."""
    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(call,), name=name, daemon=True)
    thread.start()
    return thread
