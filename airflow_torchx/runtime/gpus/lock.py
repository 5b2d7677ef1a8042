"""The lock of the one client that decides about the GPUs of a daemon."""

from __future__ import annotations

import random
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Self

from airflow_torchx.concurrency.parallel import StopRequested
from airflow_torchx.core.engine import labels
from airflow_torchx.core.gpu.ledger import marker_of, timeout_s
from airflow_torchx.errors import EngineConflictError

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_torchx.core.engine.containers import ContainerRow
    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.core.gpu.demand import GpuDemand

#: How long a client may hold the lock. It takes about 15 ms on a quiet daemon (measured).
TIMEOUT_S: Final = 3.0
#: The same for a client on a slow daemon, which asks for more time whenever it has lost the lock.
_MAX_TIMEOUT_S: Final = 60.0
_PAUSE_S: Final = 0.02
# Not random.random: its state is the whole process's, which others may have seeded.
_RANDOM: Final = random.SystemRandom()


class GpuLock:
    """A container name, which Docker gives to one client at a time.

    A client that holds it for longer than its label says was killed, or is slow: the next one
    removes its container. So a client has to ask `is_held` after what it did. If it still has the
    name, no other client has held the lock since, and later ones see what it did. A client that
    was too slow asks for twice the time when it enters again, up to a minute.

    Raises:
        EngineConflictError: a container of another program has the name, or a user has started the
            container of a client.
        StopRequested: ``should_stop`` returned True while another client held the lock.
    """

    def __init__(
        self,
        engine: Engine,
        demand: GpuDemand,
        should_stop: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._engine = engine
        self._demand = demand
        self._should_stop = should_stop
        self._clock = clock
        self._sleep = sleep
        self._id = ""
        self._timeout_s = TIMEOUT_S
        #: The container of the client that holds the lock, and until when others respect it.
        self._seen = "", 0.0

    def __enter__(self) -> Self:
        spec = self._demand.spec("lock", timeout_s=self._timeout_s)
        while not self._id:
            try:
                self._id = self._engine.create(spec)
            except EngineConflictError:
                if self._should_stop():
                    raise StopRequested from None
                self._wait()
        return self

    def __exit__(self, *_: object) -> None:
        own, self._id = self._id, ""
        if not self._engine.discard(own):
            self._timeout_s = min(2 * self._timeout_s, _MAX_TIMEOUT_S)

    @property
    def is_held(self) -> bool:
        """Whether this client still holds the lock."""
        row = self._found({labels.GPU_MARKER: "lock"})
        return row is not None and row.id == self._id

    @property
    def is_respected(self) -> bool:
        """Whether a client held the lock when it was last listed, and may hold it still."""
        container_id, until_s = self._seen
        return bool(container_id) and self._clock() <= until_s

    def observe(self, lock: ContainerRow | None) -> None:
        """Note the container of the client that holds the lock; None for none."""
        if lock is None:
            self._seen = "", 0.0
        elif lock.id != self._seen[0]:
            respected_s = min(max(TIMEOUT_S, timeout_s(lock)), _MAX_TIMEOUT_S)
            self._seen = lock.id, self._clock() + respected_s

    def _wait(self) -> None:
        lock = self._found({labels.GPU_MARKER: "lock"})
        if lock is None:
            # The lock was released since, or a container without the label has its name.
            lock = self._found({})
            if lock is not None and marker_of(lock) != "lock":
                raise _foreign(lock.name)
        self.observe(lock)
        if lock is not None and not self.is_respected:
            self._engine.discard(lock.id)
            return
        self._sleep(_PAUSE_S * (0.5 + _RANDOM.random()))

    def _found(self, found: dict[str, str | None]) -> ContainerRow | None:
        name = self._demand.name("lock")
        return next((row for row in self._engine.rows(found) if row.name == name), None)


def _foreign(name: str) -> EngineConflictError:
    what = f"cannot lock the GPUs: container {name} exists, and has no label of this package."
    fix = f"Remove it (`docker rm --force {name}`), or rename it (`docker rename {name} NAME`)."
    return EngineConflictError(what, fix=fix, status=HTTPStatus.CONFLICT)
