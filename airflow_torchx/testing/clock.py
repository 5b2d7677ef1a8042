"""A clock that stands still until a test moves it."""

from __future__ import annotations

import threading


class ManualClock:
    """Seconds since 1970 that pass only by `advance` and `sleep`.

    ``FakeEngine(clock=clock, sleep=clock.sleep)``: what blocks then takes no real time.
    """

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self._lock = threading.Lock()
        self._now = now
        self._parked: list[threading.Condition] = []

    @property
    def parked(self) -> int:
        """Return how many threads wait for a later time."""
        with self._lock:
            return len(self._parked)

    def __call__(self) -> float:
        """Return the time."""
        with self._lock:
            return self._now

    def advance(self, seconds: float) -> None:
        """Advance the time, and wake the threads that wait for it."""
        with self._lock:
            self._now += seconds
            woken, self._parked = self._parked, []
        for condition in woken:
            with condition:
                condition.notify_all()

    def sleep(self, seconds: float) -> None:
        """Advance the time instead of waiting."""
        self.advance(seconds)

    def wait(self, condition: threading.Condition, until_s: float) -> None:
        """Wait on a condition, held by the caller, until it is notified or the time has come."""
        with self._lock:
            if until_s <= self._now:
                return
            self._parked.append(condition)
        try:
            condition.wait()
        finally:
            with self._lock:
                if condition in self._parked:
                    self._parked.remove(condition)
