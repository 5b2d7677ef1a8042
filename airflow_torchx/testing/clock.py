"""A clock that stands still until a test moves it."""

from __future__ import annotations

import threading


class ManualClock:
    """Seconds since 1970 that pass only when somebody sleeps on it or advances it.

    ``FakeEngine(clock=clock, sleep=clock.sleep)``: what blocks then takes no real time.
    """

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self._lock = threading.Lock()
        self._now = now

    def __call__(self) -> float:
        """Return the time."""
        with self._lock:
            return self._now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        with self._lock:
            self._now += seconds

    def sleep(self, seconds: float) -> None:
        """Let time pass instead of waiting for it."""
        self.advance(seconds)
