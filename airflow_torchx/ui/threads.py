"""A limited number of threads for calls that may hang."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

_Answer = TypeVar("_Answer")

#: A call that takes longer hangs: each of its requests has a time limit of 5 s.
STUCK_S: Final = 20.0


class ThreadsStuckError(Exception):
    """All threads of a pool have hung for a long time."""


class Threads:
    """Threads for calls. One that hangs is not replaced, since its successor may hang, too.

    Args:
        number: how many calls run at a time; others wait.
        name: what the names of the threads begin with.
        clock: returns seconds that never decrease.
    """

    def __init__(self, number: int, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._number = number
        self._clock = clock
        self._pool = ThreadPoolExecutor(number, name)
        #: When each call that runs has begun.
        self._begun: dict[object, float] = {}

    async def call(self, work: Callable[[], _Answer]) -> _Answer:
        """Return what ``work`` returns, which runs in a thread.

        Raises:
            ThreadsStuckError: each thread has run one call for longer than `STUCK_S`.
        """
        oldest_s = self._clock() - STUCK_S
        if sum(begun_s < oldest_s for begun_s in [*self._begun.values()]) >= self._number:
            raise ThreadsStuckError
        return await asyncio.wrap_future(self._pool.submit(self._run, work))

    def _run(self, work: Callable[[], _Answer]) -> _Answer:
        key = object()
        self._begun[key] = self._clock()
        try:
            return work()
        finally:
            del self._begun[key]

    def start(self, work: Callable[[], object]) -> None:
        """Run a call whose result is not needed."""
        self._pool.submit(work)

    def close(self, *, wait: bool) -> None:
        """Take no more calls; ``wait`` for all of them, or drop those that have not begun."""
        self._pool.shutdown(wait=wait, cancel_futures=not wait)
