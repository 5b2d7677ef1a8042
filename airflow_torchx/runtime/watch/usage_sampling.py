"""Has the usage of many apps read, at a rate that no number of apps raises."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

from airflow_torchx.core.state.usage import pauses
from airflow_torchx.errors import EngineError
from airflow_torchx.runtime.usage import running_replicas

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.runtime.usage import UsageMonitor
    from airflow_torchx.specs import DescribeAppResponse, ReplicaStatus

_log = logging.getLogger(__name__)

# Threads of its own: a stop, or the check of an app that may hang, must not wait for a reading.
_THREADS: Final = 4
# A reading takes a millisecond of this process (16 replicas: 0.2 % of a core), more with GPUs.
_READINGS_PER_S: Final = 4.0


class UsageSampling:
    """The readings of all apps that wait for one daemon.

    ``engine`` returns the connection to the daemon, or raises an EngineError.
    """

    def __init__(self, engine: Callable[[], Engine]) -> None:
        self._engine = engine
        self._pool = ThreadPoolExecutor(_THREADS, "torchx-watch-usage")
        #: Number of running replicas, by the wait for their app. Only the event loop uses it.
        self._running: dict[object, int] = {}

    async def sample(
        self, app: Callable[[], DescribeAppResponse | None], monitor: UsageMonitor
    ) -> None:
        """Read what the running replicas of an app use, again and again; ends by being cancelled.

        ``app`` returns it as it was seen last. A daemon that is slow or away costs samples.
        """
        key = object()
        try:
            for least_s in pauses():
                seen = app()
                replicas = running_replicas(seen) if seen else []
                self._running[key] = len(replicas)
                if seen is not None:
                    await self._read_progress(monitor, seen)
                # One after another: no app holds all threads.
                for replica in replicas:
                    with suppress(EngineError, RuntimeError):  # a pool that was shut down
                        await self._read(monitor, replica, least_s / 2)
                await asyncio.sleep(max(least_s, self._busy_s))
        finally:
            self._running.pop(key, None)

    @property
    def _busy_s(self) -> float:
        """How long a reading of all replicas takes at the highest rate."""
        return sum(self._running.values()) / _READINGS_PER_S

    async def _read(self, monitor: UsageMonitor, replica: ReplicaStatus, max_age_s: float) -> None:
        read = partial(self._refresh, monitor, replica, max_age_s)
        await asyncio.wrap_future(self._pool.submit(read))

    async def _read_progress(self, monitor: UsageMonitor, app: DescribeAppResponse) -> None:
        def read() -> None:
            monitor.progress.read(self._engine(), app)

        with suppress(EngineError, RuntimeError):
            await asyncio.wrap_future(self._pool.submit(read))
        # Here, not in the thread: Airflow finds the log of a trigger by the task of the event loop.
        if line := monitor.progress.line():
            _log.info("%s", line)

    def _refresh(self, monitor: UsageMonitor, replica: ReplicaStatus, max_age_s: float) -> None:
        monitor.refresh(self._engine(), replica, max_age_s)

    def close(self) -> None:
        """Read no more."""
        self._pool.shutdown(wait=False, cancel_futures=True)
