"""The daemons that the page's routes read from, each with a limited number of threads."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Final, TypeVar

from airflow_torchx.hooks import TorchXDockerHook
from airflow_torchx.runtime import engines
from airflow_torchx.ui.threads import Threads

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_torchx.core.connection.endpoint import Endpoint
    from airflow_torchx.core.engine.protocol import Engine

_Answer = TypeVar("_Answer")

#: Of one request to a daemon: a thread that waits for a daemon that hangs is free again after it.
REQUEST_S: Final = 5.0
# A connection that is not used, or that a user has changed, is closed after this time.
_IDLE_S: Final = 600.0
_THREADS: Final = 4
# Docker 20.10 takes a second for one reading of usage.
_READERS: Final = 16


def endpoint_of(conn_id: str | None) -> Endpoint:
    """Return how to reach the daemon of an Airflow connection, or the default one for None.

    Raises:
        InvalidAppError: the connection does not exist, has another type, or is not valid.
    """
    endpoint = TorchXDockerHook(conn_id).endpoint()
    return replace(endpoint, request_timeout_s=min(endpoint.request_timeout_s, REQUEST_S))


class Daemon:
    """One daemon, or one swarm, connected to on first use."""

    def __init__(self, connect: Callable[[], Engine], clock: Callable[[], float]) -> None:
        self._connect = connect
        self._lock = Lock()
        self._engine: Engine | None = None
        self._threads = Threads(_THREADS, "torchx-page", clock)
        #: Threads for readings that a call makes at the same time.
        self.readers = ThreadPoolExecutor(_READERS, "torchx-page-usage")
        self.used_s = 0.0

    async def call(self, work: Callable[[Engine], _Answer]) -> _Answer:
        """Return what ``work`` returns, which runs in a thread of this daemon.

        Raises:
            ThreadsStuckError: all of its threads hang.
        """
        return await self._threads.call(lambda: work(self._connected()))

    def _connected(self) -> Engine:
        with self._lock:
            if self._engine is None:
                self._engine = self._connect()
            return self._engine

    def close(self) -> None:
        """Close the connection once the calls that run have ended."""
        self.readers.shutdown(wait=False, cancel_futures=True)
        self._threads.close(wait=False)
        with self._lock:
            if self._engine is not None:
                self._engine.close()


class Daemons:
    """The daemons of Airflow's connections.

    A connection is looked up each time, so a change of it counts at once.

    Args:
        lookup: returns the endpoint of a connection, see `endpoint_of`.
        clock: returns seconds that never decrease.
    """

    def __init__(
        self,
        lookup: Callable[[str | None], Endpoint] = endpoint_of,
        connect: Callable[[Endpoint], Engine] = engines.connect,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lookup = lookup
        self._connect = connect
        self._clock = clock
        self._lookups = Threads(_THREADS, "torchx-page-connections", clock)
        self._known: dict[Endpoint, Daemon] = {}

    async def of(self, conn_id: str | None) -> Daemon:
        """Return the daemon of a connection; None is the default one.

        Raises:
            InvalidAppError: the connection does not exist, has another type, or is not valid.
            ThreadsStuckError: all threads that look up connections hang.
        """
        endpoint = await self._lookups.call(partial(self._lookup, conn_id))
        self._close_idle()
        if endpoint not in self._known:
            self._known[endpoint] = Daemon(partial(self._connect, endpoint), self._clock)
        daemon = self._known[endpoint]
        daemon.used_s = self._clock()
        return daemon

    def close(self) -> None:
        """Close all connections, and wait for the calls that run."""
        self._lookups.close(wait=True)
        for daemon in self._known.values():
            daemon.close()

    def _close_idle(self) -> None:
        oldest_s = self._clock() - _IDLE_S
        idle = [one for one, daemon in self._known.items() if daemon.used_s < oldest_s]
        for endpoint in idle:
            self._lookups.start(self._known.pop(endpoint).close)
