"""Calls that are made later, one after another, in a daemon thread."""

from __future__ import annotations

import threading
from contextlib import suppress
from queue import Full, Queue
from typing import TYPE_CHECKING, Final

from airflow_torchx.concurrency.daemons import in_daemon

if TYPE_CHECKING:
    from collections.abc import Callable

_MOST: Final = 1000


class BackgroundCalls:
    """Makes calls in a thread of its own. The calls must not raise.

    Args:
        name: name of the thread.
        most: how many calls may wait; further ones are dropped.
    """

    def __init__(self, name: str, most: int = _MOST) -> None:
        self._name = name
        self._waiting: Queue[Callable[[], object] | None] = Queue(most)
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def submit(self, call: Callable[[], object]) -> None:
        """Make a call soon; return at once."""
        with self._lock:
            with suppress(Full):
                self._waiting.put_nowait(call)
            if self._thread is None:
                self._thread = in_daemon(self._work, self._name)

    def close(self, timeout_s: float) -> None:
        """Wait up to ``timeout_s`` seconds for the calls that wait, and make no later ones."""
        with self._lock:
            thread, self._thread = self._thread, None
            if thread is None:
                return
            with suppress(Full):
                self._waiting.put_nowait(None)
        thread.join(timeout_s)

    def _work(self) -> None:
        while (call := self._waiting.get()) is not None:
            call()
