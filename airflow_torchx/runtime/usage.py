"""Reads what the replicas of an app use."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from airflow_torchx.concurrency.daemons import call_each, in_daemon
from airflow_torchx.core.engine.usage import GPU_QUERY, gpu_usages
from airflow_torchx.core.state.describe import replicas_of
from airflow_torchx.core.state.report import replica_name
from airflow_torchx.core.state.usage import Sample, UsageHistory, pauses
from airflow_torchx.errors import AirflowTorchXError, EngineError, EngineUnreachableError
from airflow_torchx.runtime.progress import ProgressMonitor
from airflow_torchx.specs import AppState

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.core.engine.usage import ContainerUsage, GpuUsage
    from airflow_torchx.specs import DescribeAppResponse, ReplicaStatus

_log = logging.getLogger(__name__)

_COMMAND_S: Final = 10.0
_COMMAND_BYTES: Final = 65_536
# Docker cannot end a command that hangs in a container, so it does not get many.
_MOST_HUNG: Final = 3
# Exit codes of a program that a container does not have.
_MISSING: Final = frozenset({126, 127})
# Docker 20.10 takes a second for one reading, so this is 16 replicas in 4 s.
_THREADS: Final = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """What a running replica uses.

    Args:
        gpus: empty without GPUs, or if they cannot be read.
        gpu_problem: why its GPUs cannot be read; empty if they can.
    """

    usage: ContainerUsage
    gpus: tuple[GpuUsage, ...] = ()
    gpu_problem: str = ""


@dataclass(frozen=True, slots=True)
class _Limits:
    """What does not change in the life of a container."""

    cpus: float | None
    memory_bytes: int | None
    started_at: datetime | None


class UsageMonitor:
    """Reads what the replicas of one app use, and keeps peaks and lines. Thread-safe.

    Args:
        clock: returns seconds that never decrease.
        now: returns the seconds since 1970.
    """

    def __init__(
        self,
        history: UsageHistory | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._history = history or UsageHistory()
        #: Reads how far the program is.
        self.progress = ProgressMonitor(self._history.progress, now, clock)
        self._limits: dict[str, _Limits] = {}
        self._read_s: dict[str, float] = {}
        self._hung: Counter[str] = Counter()
        self._without_command: set[str] = set()

    def read(self, engine: Engine, replica: ReplicaStatus) -> Reading | None:
        """Read what a replica uses, and add it to the history; None if it does not run.

        Raises:
            EngineError: the daemon does not say what it uses.
        """
        self._read_s[replica.container_id] = self._clock()
        usage = engine.usage(replica.container_id)
        if usage is None:
            return None
        limits = self._limits_of(engine, replica.container_id)
        gpus, problem = self._gpus(engine, replica) if replica.gpus else ((), "")
        sample = Sample(
            container_id=replica.container_id,
            usage=usage,
            cpus_limit=limits.cpus,
            memory_limit_bytes=limits.memory_bytes,
            started_at=limits.started_at,
            gpus=gpus,
        )
        with self._lock:
            self._history.add(replica_name(replica), sample)
        return Reading(usage=usage, gpus=gpus, gpu_problem=problem)

    def refresh(self, engine: Engine, replica: ReplicaStatus, max_age_s: float) -> None:
        """Read what a replica uses, unless that is known for a time; skip it on an error.

        A `StallDetector` reads the same, often enough for both.
        """
        last_s = self._read_s.get(replica.container_id)
        if last_s is None or self._clock() - last_s >= max_age_s:
            with suppress(AirflowTorchXError):
                self.read(engine, replica)

    def mark(self, app: DescribeAppResponse) -> DescribeAppResponse:
        """Return an app with what each of its replicas uses, as far as known."""
        with self._lock:
            return self._history.mark(app)

    def history(self) -> UsageHistory:
        """Return a copy of what is known."""
        with self._lock:
            return replace(self._history.copy(), progress=self.progress.progress)

    def to_json(self, max_bytes: int) -> dict[str, Any]:
        """Return what `UsageHistory.to_json` returns."""
        return self.history().to_json(max_bytes)

    def _limits_of(self, engine: Engine, container_id: str) -> _Limits:
        known = self._limits.get(container_id)
        if known is None:
            detail = None
            with suppress(EngineError):
                detail = engine.inspect(container_id)
            if detail is None:
                return _Limits(None, None, None)
            cpus = None if detail.nano_cpus is None else detail.nano_cpus / 1e9
            known = _Limits(cpus, detail.memory_bytes, detail.started_at)
            self._limits[container_id] = known
        return known

    def _gpus(self, engine: Engine, replica: ReplicaStatus) -> tuple[tuple[GpuUsage, ...], str]:
        """Return the use of a replica's GPUs, or why it cannot be read."""
        container_id = replica.container_id
        if self._hung[container_id] >= _MOST_HUNG:
            return (), "nvidia-smi hangs in it"
        missing = "nvidia-smi, which would show the use of its GPUs, does not run in it."
        if container_id in self._without_command:
            return (), missing
        try:
            found = engine.execute(
                container_id, GPU_QUERY, timeout_s=_COMMAND_S, max_bytes=_COMMAND_BYTES
            )
            if found.exit_code is None:
                self._hung[container_id] += 1
            if found.exit_code in _MISSING:
                self._without_command.add(container_id)
            return (gpu_usages(found.output), "") if found.exit_code == 0 else ((), missing)
        except EngineUnreachableError:
            raise
        except (EngineError, ValueError) as why:
            return (), str(why)


class UsageSampler:
    """Has the usage of an app's replicas read in threads of its own, while others wait for the app.

    A sweep that takes longer than its time, because the daemon is slow or away, costs samples. It
    holds up neither the wait nor the end of the process. ``clock`` returns seconds that never
    decrease.
    """

    def __init__(
        self, engine: Engine, monitor: UsageMonitor, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._engine = engine
        self.monitor = monitor
        self._clock = clock
        self._sweeping: threading.Thread | None = None
        self._pauses = pauses()
        self._next_s = clock()
        self._is_closed = False

    def look(self, app: DescribeAppResponse) -> None:
        """Start to read what the running replicas use, if it is time; return at once."""
        running = running_replicas(app)
        is_busy = self._sweeping is not None and self._sweeping.is_alive()
        if self._is_closed or is_busy or not running or self._clock() < self._next_s:
            return
        pause_s = next(self._pauses)
        self._next_s = self._clock() + pause_s
        self._sweeping = in_daemon(partial(self._sweep, app, pause_s / 2), "torchx-usage")

    def close(self) -> None:
        """Start no further reading."""
        self._is_closed = True

    def _sweep(self, app: DescribeAppResponse, max_age_s: float) -> None:
        def read(replica: ReplicaStatus | None) -> None:
            if self._is_closed:
                return
            if replica is not None:
                self.monitor.refresh(self._engine, replica, max_age_s)
                return
            self.monitor.progress.read(self._engine, app)
            if line := self.monitor.progress.line():
                _log.info("%s", line)

        call_each(read, [None, *running_replicas(app)], threads=_THREADS)


def running_replicas(app: DescribeAppResponse) -> list[ReplicaStatus]:
    """Return the replicas that use something."""
    return [one for one in replicas_of(app) if one.state is AppState.RUNNING]
