"""Shares one answer among all who ask for the same within a short time."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_torchx.ui.threads import STUCK_S

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Hashable

_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class _Flight:
    task: asyncio.Task[Any]
    started_s: float


class SingleFlight:
    """Asks once at a time for each key, and keeps an answer, or an error, for ``keep_s`` seconds.

    The time counts from the question. It belongs to one event loop.

    Args:
        hangs_s: a question without an answer is asked again after this time.
        clock: returns seconds that never decrease.
    """

    def __init__(
        self,
        keep_s: float,
        clock: Callable[[], float] = time.monotonic,
        *,
        hangs_s: float = STUCK_S,
    ) -> None:
        self._keep_s = keep_s
        self._hangs_s = hangs_s
        self._clock = clock
        self._flights: dict[Hashable, _Flight] = {}

    async def get(self, key: Hashable, ask: Callable[[], Coroutine[Any, Any, _Answer]]) -> _Answer:
        """Return the answer to a question; a caller that is cancelled does not end it."""
        self._forget_old()
        if (flight := self._flights.get(key)) is None:
            task = asyncio.create_task(ask())
            # All who have asked may have left: asyncio would log an error that no one has read.
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
            flight = self._flights[key] = _Flight(task, self._clock())
        answer: _Answer = await asyncio.shield(flight.task)
        return answer

    def _forget_old(self) -> None:
        now_s = self._clock()
        self._flights = {
            key: flight
            for key, flight in self._flights.items()
            if now_s - flight.started_s < (self._keep_s if flight.task.done() else self._hangs_s)
        }
