"""Reads how far the program of an app is."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from airflow_torchx.core.engine.files import TooLargeError
from airflow_torchx.core.plan.progress import PROGRESS_PATH
from airflow_torchx.core.state.progress import (
    PROGRESS_PATTERN,
    merged,
    progress_replica,
    since_start,
)
from airflow_torchx.core.state.progress_report import (
    MOST_LINES,
    LineSearch,
    first_step,
    last_report,
)
from airflow_torchx.errors import AirflowTorchXError
from airflow_torchx.runtime.replica_log import ReplicaLog
from airflow_torchx.specs import AppState, is_terminal

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.core.state.progress import Progress
    from airflow_torchx.core.state.progress_report import Report
    from airflow_torchx.specs import DescribeAppResponse, ReplicaStatus

_log = logging.getLogger(__name__)

# The daemon sends a file as a whole. `tail` in the container reads the end of a larger one.
_SMALL_BYTES: Final = 65_536
_TAIL_BYTES: Final = 16_384
# Where `tail` does not run: 50,000 reports.
_LARGE_BYTES: Final = 4 << 20
_TAIL: Final = ("tail", "-c", str(_TAIL_BYTES), PROGRESS_PATH)
_HEAD_BYTES: Final = 4_096
_HEAD: Final = ("head", "-c", str(_HEAD_BYTES), PROGRESS_PATH)
_COMMAND_S: Final = 5.0
_LINE_PAUSE_S: Final = 60.0


def read_once(
    engine: Engine, app: DescribeAppResponse, now: Callable[[], float] = time.time
) -> Progress | None:
    """Return how far a program is, for a client that does not wait for it; None if it is unknown.

    The estimate counts from the start of the container. An app with a ``progress_pattern`` has
    none, since the beginning of its log is not read. This makes one request if the program reports
    nothing, else up to four.
    """
    monitor, replica = ProgressMonitor(now=now), progress_replica(app)
    monitor.read(engine, app)
    progress = monitor.progress
    if progress is None or replica is None or replica.state is not AppState.RUNNING:
        return progress
    if app.metadata.get(PROGRESS_PATTERN):
        return progress
    began = replica.started_at or replica.created_at
    first = _first_step(engine, replica.container_id)
    return since_start(progress, first, began.timestamp() if began else None)


def _first_step(engine: Engine, container_id: str) -> float | None:
    with suppress(AirflowTorchXError):
        try:
            return first_step(engine.read_file(container_id, PROGRESS_PATH, _SMALL_BYTES))
        except TooLargeError:
            found = engine.execute(
                container_id, _HEAD, timeout_s=_COMMAND_S, max_bytes=2 * _HEAD_BYTES
            )
            return first_step(found.output)
    return None


class ProgressMonitor:
    """Keeps how far the program of one app is. Thread-safe.

    It reads one file of one container, or with the app's ``progress_pattern`` the end of its log.

    Args:
        before: what an earlier process has read.
        now: returns the seconds since 1970.
        clock: returns seconds that never decrease.
    """

    def __init__(
        self,
        before: Progress | None = None,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._now = now
        self._clock = clock
        self._lock = threading.Lock()
        self._progress = before
        self._reads = itertools.count(1)
        #: Number of the read that `_progress` is of.
        self._merged = 0
        self._search: LineSearch | None = None
        self._written: float | None = None
        self._written_s: float | None = None
        #: Containers whose file is too large to be read as a whole.
        self._large: set[str] = set()
        #: Those in which `tail` does not run.
        self._without_tail: set[str] = set()

    @property
    def progress(self) -> Progress | None:
        """How far the program is; None if it does not say so."""
        with self._lock:
            return self._progress

    def read(self, engine: Engine, app: DescribeAppResponse) -> None:
        """Read how far a program is that runs, or has ended; skip it on an error."""
        replica = progress_replica(app)
        if replica is None or not replica.container_id:
            return
        if replica.state is not AppState.RUNNING and not is_terminal(replica.state):
            return
        number, report = next(self._reads), None
        with suppress(AirflowTorchXError, ValueError):
            report = self._report(engine, app, replica)
        with self._lock:
            # A daemon that is slow may answer a sweep after the end of the app was read.
            if report is not None and number > self._merged:
                self._merged = number
                self._progress = merged(self._progress, report, replica.container_id, self._now())

    def finish(self, engine: Engine, ended: DescribeAppResponse) -> None:
        """Read the last report of a program, and log it."""
        self.read(engine, ended)
        if line := self.line(at_end=True):
            _log.info("%s", line)

    def line(self, *, at_end: bool = False) -> str:
        """Return how far the program is, if that is news and a minute after the last line.

        It is empty otherwise; ``at_end`` does not wait for the minute.
        """
        with self._lock:
            progress, clock_s = self._progress, self._clock()
            if progress is None or progress.report.step == self._written:
                return ""
            due_s = clock_s if self._written_s is None else self._written_s + _LINE_PAUSE_S
            if clock_s < due_s and not at_end:
                return ""
            self._written, self._written_s = progress.report.step, clock_s
            return progress.text(self._now())

    def _report(
        self, engine: Engine, app: DescribeAppResponse, replica: ReplicaStatus
    ) -> Report | None:
        pattern = app.metadata.get(PROGRESS_PATTERN)
        if not pattern:
            return self._of_file(engine, replica)
        if self._search is None:
            self._search = LineSearch(pattern, time.thread_time)
        if self._search.is_over:
            return None
        log = ReplicaLog(engine, replica.container_id, tail=MOST_LINES)
        return self._search.last_report([line.text for line in log])

    def _of_file(self, engine: Engine, replica: ReplicaStatus) -> Report | None:
        container_id, runs = replica.container_id, replica.state is AppState.RUNNING
        if container_id not in self._large:
            try:
                return last_report(engine.read_file(container_id, PROGRESS_PATH, _SMALL_BYTES))
            except TooLargeError:
                self._large.add(container_id)
        if runs and container_id not in self._without_tail:
            found = engine.execute(
                container_id, _TAIL, timeout_s=_COMMAND_S, max_bytes=2 * _TAIL_BYTES
            )
            if found.exit_code == 0:
                return last_report(found.output, is_cut=True)
            self._without_tail.add(container_id)
        return last_report(engine.read_file(container_id, PROGRESS_PATH, _LARGE_BYTES))
