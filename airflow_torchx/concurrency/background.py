"""Calls that are made later, one after another, in a daemon thread."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Final

from airflow_torchx.concurrency.daemons import in_daemon

if TYPE_CHECKING:
    from collections.abc import Callable

_MOST: Final = 1000


class BackgroundCalls:
    """Makes calls in a thread of its own, which ends when none waits. The calls must not raise.

    Args:
        name: name of the thread.
        most: how many calls may wait; further ones are dropped.
    """

    def __init__(self, name: str, most: int = _MOST) -> None:
        self._name = name
        self._most = most
        self._waiting: deque[Callable[[], object]] = deque()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def submit(self, call: Callable[[], object]) -> None:
        """Make a call soon; return at once."""
        with self._lock:
            if len(self._waiting) < self._most:
                self._waiting.append(call)
            if self._thread is None:
                self._thread = in_daemon(self._work, self._name)

    def close(self, timeout_s: float) -> None:
        """Wait up to ``timeout_s`` seconds for the calls that wait."""
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join(timeout_s)

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._thread = None
                    return
                call = self._waiting.popleft()
            call()
