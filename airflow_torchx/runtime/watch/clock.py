"""The clock of a watch: what time it is, and a wait that ends at a time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable


class Clock(Protocol):
    """A clock that never goes back, and on which threads can wait."""

    def __call__(self) -> float:
        """Return the time in seconds."""

    def wait(self, condition: threading.Condition, until_s: float) -> None:
        """Wait on a condition, which the caller holds, until it is notified or the time comes."""


class _SystemClock:
    def __call__(self) -> float:
        return time.monotonic()

    def wait(self, condition: threading.Condition, until_s: float) -> None:
        condition.wait(max(0.0, until_s - time.monotonic()))


SYSTEM: Final = _SystemClock()


def wait_for(
    clock: Clock, condition: threading.Condition, happened: Callable[[], object], until_s: float
) -> None:
    """Wait on a condition, which the caller holds, until something happened or the time comes."""
    while not happened() and clock() < until_s:
        clock.wait(condition, until_s)
