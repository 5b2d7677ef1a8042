"""The lock of the one client that decides about the GPUs of a daemon."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Final, Self

from airflow_torchx.concurrency.parallel import StopRequested
from airflow_torchx.core.engine import labels
from airflow_torchx.errors import EngineConflictError

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.core.gpu.demand import GpuDemand

#: How long a client may hold the lock. It takes about 15 ms on a quiet daemon (measured).
TIMEOUT_S: Final = 3.0
_PAUSE_S: Final = 0.02
# Not random.random: its state is the whole process's, which others may have seeded.
_RANDOM: Final = random.SystemRandom()


class GpuLock:
    """A container name, which Docker gives to one client at a time.

    A client that holds it for longer than three seconds was killed, or is slow: the next one
    removes its container. So a client has to ask `is_held` after what it did. If it still has the
    name, no other client has held the lock since, and later ones see what it did.

    Args:
        seen: the container of another client, and since when this one has seen it.

    Raises:
        StopRequested: ``should_stop`` returned True before the lock was acquired.
    """

    def __init__(
        self,
        engine: Engine,
        demand: GpuDemand,
        should_stop: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        *,
        seen: tuple[str, float] = ("", 0.0),
    ) -> None:
        self._engine = engine
        self._spec = demand.spec("lock")
        self._should_stop = should_stop
        self._clock = clock
        self._sleep = sleep
        self._id = ""
        self._holder, self._since_s = seen

    def __enter__(self) -> Self:
        while not self._id:
            if self._should_stop():
                raise StopRequested
            try:
                self._id = self._engine.create(self._spec)
            except EngineConflictError:
                self._wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._engine.discard(self._id)

    @property
    def is_held(self) -> bool:
        """Whether this client still holds the lock."""
        return self._held_by() == self._id

    def _wait(self) -> None:
        holder = self._held_by()
        if holder != self._holder:
            self._holder, self._since_s = holder, self._clock()
        elif holder and self._clock() > self._since_s + TIMEOUT_S:
            self._engine.discard(holder)
            return
        self._sleep(_PAUSE_S * (0.5 + _RANDOM.random()))

    def _held_by(self) -> str:
        rows = self._engine.rows({labels.GPU_MARKER: "lock"})
        return next((row.id for row in rows if row.name == self._spec.name), "")
