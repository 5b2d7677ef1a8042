"""Calls of a fake daemon: each is recorded, takes the lock, and may fail as planned."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import threading
from typing import TYPE_CHECKING

from airflow_torchx.errors import EngineUnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_torchx.testing.container import FakeContainer
    from airflow_torchx.testing.containers import FakeContainers
    from airflow_torchx.testing.faults import Fault, Verb


class Calls:
    """The lock, the planned faults and the record of calls of a fake daemon."""

    def __init__(
        self,
        containers: FakeContainers,
        log: list[Verb],
        before: Callable[[Verb, str], object],
        now_ns: Callable[[], int],
    ) -> None:
        self.lock = threading.RLock()
        self.now_ns = now_ns
        #: How often the daemon went down.
        self.outages = 0
        self._containers = containers
        self._log = log
        self._before = before
        self._faults: list[Fault] = []
        self._numbers = itertools.count(1)
        self._down = False

    @property
    def down(self) -> bool:
        """Whether the daemon is unreachable; can be set."""
        return self._down

    @down.setter
    def down(self, value: bool) -> None:
        with self.lock:
            self.outages += value
            self._down = value

    def plan(self, fault: Fault) -> None:
        """Make a future call fail."""
        with self.lock:
            self._faults.append(fault)

    @contextlib.contextmanager
    def verb(self, verb: Verb, *names: str) -> Iterator[None]:
        """Record a call, raise its planned fault, and hold the lock during the block."""
        self._log.append(verb)
        self._before(verb, names[0] if names else "")
        with self.lock:
            if self._down:
                raise unreachable()
            self._containers.settle(self.now_ns())
            fault = next((one for one in self._faults if one.hits(verb, names)), None)
            if fault is not None:
                fault.times -= 1
                if not fault.after:
                    raise fault.error
            yield
            if fault is not None:
                raise fault.error

    @contextlib.contextmanager
    def on(self, verb: Verb, container_id: str) -> Iterator[FakeContainer | None]:
        """Record a call on a container, which may not exist."""
        with self.lock:
            known = self._containers.find(container_id)
        names = (container_id,) if known is None else (known.name, known.role_replica, known.id)
        with self.verb(verb, *names):
            yield self._containers.find(container_id)

    @contextlib.contextmanager
    def unlocked(self) -> Iterator[None]:
        """Release the lock while a call runs code of its caller."""
        self.lock.release()
        try:
            yield
        finally:
            self.lock.acquire()

    def new_id(self, kind: str) -> str:
        """Return an unused id."""
        return hashlib.sha256(f"{kind} {next(self._numbers)}".encode()).hexdigest()


def unreachable() -> EngineUnreachableError:
    """Return the error of a daemon that is down."""
    return EngineUnreachableError("no Docker daemon: the fake engine is down.", fix="Wait.")
