"""Requests through an outage of the daemon, and the pauses between them."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final, Self, TypeVar

from airflow_torchx.errors import EngineUnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

# A look is one call of a few milliseconds, so a failure is seen within a second.
_FIRST_LOOK_S: Final = 0.1
_LAST_LOOK_S: Final = 1.0
# A daemon that restarts is back within this time.
OUTAGE_S: Final = 60.0


class Backoff:
    """Seconds between two looks: short at first, because short apps are common."""

    def __init__(self, first_s: float = _FIRST_LOOK_S) -> None:
        self._next = first_s

    def next(self) -> float:
        """Return the next pause, each longer than the one before, up to a second."""
        pause, self._next = self._next, min(self._next * 1.5, _LAST_LOOK_S)
        return pause


class OutageTolerance:
    """Suppresses EngineUnreachableError for up to a minute, until ``should_stop`` returns True."""

    def __init__(
        self, outage_s: float = OUTAGE_S, should_stop: Callable[[], bool] = lambda: False
    ) -> None:
        self._outage_s = outage_s
        self._should_stop = should_stop
        self._lost_at: float | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: object
    ) -> bool:
        if not isinstance(exc, EngineUnreachableError):
            self._lost_at = None
            return False
        if self._lost_at is None:
            self._lost_at = time.monotonic()
            _log.warning("the Docker Engine does not answer, retrying: %s", exc.what)
        return time.monotonic() - self._lost_at < self._outage_s and not self._should_stop()


def patiently(
    call: Callable[[], _T],
    should_stop: Callable[[], bool] = lambda: False,
    outage_s: float = OUTAGE_S,
) -> _T:
    """Return what a request returns, and repeat it through an outage of the daemon.

    Raises:
        EngineUnreachableError: the outage is longer, or ``should_stop`` returned True.
    """
    tolerance, backoff = OutageTolerance(outage_s, should_stop), Backoff()
    while True:
        with tolerance:
            return call()
        time.sleep(backoff.next())
