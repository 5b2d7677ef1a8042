"""What happens around every call of a fake daemon: it is counted, fails as planned, or waits."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import threading
from typing import TYPE_CHECKING

from airflow_torchx.errors import EngineUnreachableError
from airflow_torchx.testing.faults import Fault, Faults, Verb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_torchx.testing.container import FakeContainer
    from airflow_torchx.testing.containers import FakeContainers


class Calls:
    """The one door to everything that a fake daemon holds.

    Args:
        containers: its containers.
        log: every verb that is called is added to it.
        before: called at the start of every call, with its verb and what it is about.
        now_ns: returns the time, in nanoseconds since 1970.
    """

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
        self._faults = Faults()
        self._numbers = itertools.count(1)
        self._down = False

    @property
    def down(self) -> bool:
        """Whether nobody answers; set it."""
        return self._down

    @down.setter
    def down(self, value: bool) -> None:
        with self.lock:
            self.outages += value
            self._down = value

    def plan(self, fault: Fault) -> None:
        """Let a call fail that is still to come."""
        with self.lock:
            self._faults.plan(fault)

    @contextlib.contextmanager
    def verb(self, verb: Verb, *names: str) -> Iterator[None]:
        """Count a call, let planned faults happen, and hold the lock meanwhile."""
        self._log.append(verb)
        self._before(verb, names[0] if names else "")
        with self.lock:
            if self._down:
                raise no_answer()
            self._containers.settle(self.now_ns())
            fault = self._faults.take(verb, names)
            if fault is not None and not fault.after:
                raise fault.error
            yield
            if fault is not None:
                raise fault.error

    @contextlib.contextmanager
    def on(self, verb: Verb, container_id: str) -> Iterator[FakeContainer | None]:
        """Begin a verb on a container; it may be gone."""
        with self.lock:
            known = self._containers.find(container_id)
        names = (container_id,) if known is None else (known.name, known.place, known.id)
        with self.verb(verb, *names):
            yield self._containers.find(container_id)

    @contextlib.contextmanager
    def elsewhere(self) -> Iterator[None]:
        """Let other calls through while, within a verb, something of the caller's runs."""
        self.lock.release()
        try:
            yield
        finally:
            self.lock.acquire()

    def new_id(self, kind: str) -> str:
        """Return an id that nothing has."""
        return hashlib.sha256(f"{kind} {next(self._numbers)}".encode()).hexdigest()


def no_answer() -> EngineUnreachableError:
    """Return the error of a daemon that is down."""
    return EngineUnreachableError("no Docker Engine answers: the fake one is down.", fix="Wait.")
