"""All replicas' logs in the log of one task: live, or what was written since somebody looked."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

import structlog

from airflow_torchx.core.report import replica_name
from airflow_torchx.core.state import replicas_of
from airflow_torchx.errors import AirflowTorchXError
from airflow_torchx.parallel import Stopped
from airflow_torchx.replica_logs import ReplicaLog

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from airflow_torchx.core.log_cursor import Cursor
    from airflow_torchx.engine import Engine
    from airflow_torchx.specs import DescribeAppResponse, ReplicaStatus

    #: How far the log of each replica, like ``trainer/0``, has been written.
    Cursors = Mapping[str, Cursor]

# Readers wait when this many lines are not written yet: memory stays bounded.
_QUEUED: Final = 10_000
# One event of 200 lines costs the task log what one line costs: 600,000 lines a second instead of
# 8,000 (measured on Airflow 3.3.2).
_BURST: Final = 200
#: Lines that begin with these fold the task log in Airflow's UI, which only we may do.
_MARKERS: Final = ("::group::", "::endgroup::")


class Left(Stopped):
    """Writing was told to stop; the cursors say how far each log was written.

    Args:
        cursors: for whoever goes on.
    """

    def __init__(self, cursors: Cursors) -> None:
        super().__init__()
        self.cursors = cursors


@dataclass(frozen=True)
class _Line:
    replica: ReplicaStatus
    text: str


class TaskLog:
    """Follows every replica of an app in a thread of its own; the caller's thread writes.

    Args:
        engine: the daemon.
        app: the app.
        after: how far earlier writers came; a replica without a cursor is written from its
            beginning.
    """

    def __init__(
        self, engine: Engine, app: DescribeAppResponse, after: Cursors | None = None
    ) -> None:
        self._engine = engine
        self._after = dict(after or {})
        self._lines: queue.Queue[_Line] = queue.Queue(_QUEUED)
        self._aborted = threading.Event()
        self._closing = threading.Event()
        self._logs: dict[str, ReplicaLog] = {}
        self._threads = {
            replica_name(replica): threading.Thread(
                target=self._read, args=(replica,), name=replica.hostname, daemon=True
            )
            for replica in replicas_of(app)
        }
        # One width for all prefixes, so that the lines of all replicas begin in one column.
        self._width = max((len(name) for name in self._threads), default=0)

    def __enter__(self) -> Self:
        for thread in self._threads.values():
            thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        """Stop reading, whatever is left; `finish` comes before where nothing may be lost."""
        self._aborted.set()
        self._close()

    def write(self, timeout_s: float) -> bool:
        """Write what has arrived, waiting at most ``timeout_s`` seconds for the first line.

        Of the lines that came in one go, those of one replica become one event with a line each.

        Returns:
            Whether anything was written.
        """
        try:
            burst = [self._lines.get(timeout=timeout_s)]
        except queue.Empty:
            return False
        with contextlib.suppress(queue.Empty):
            while len(burst) < _BURST:
                burst.append(self._lines.get_nowait())
        by_replica: dict[str, list[_Line]] = {}
        for line in burst:
            by_replica.setdefault(replica_name(line.replica), []).append(line)
        for lines in by_replica.values():
            _emit(lines[0].replica, [line.text for line in lines], self._width)
        return True

    def finish(self, timeout_s: float, should_stop: Callable[[], bool]) -> None:
        """Write the rest of every log; call it when the app has ended.

        Args:
            timeout_s: seconds after which a log that does not end is given up, with a warning.
            should_stop: asked several times a second.

        Raises:
            Stopped: ``should_stop`` returned True.
        """
        deadline = time.monotonic() + timeout_s
        while self._living():
            if should_stop():
                raise Stopped
            if time.monotonic() > deadline:
                log = structlog.get_logger("torchx")
                late = " ".join(thread.name for thread in self._living())
                log.warning("the rest of these logs is left out: docker logs %s", late)
                break
            self.write(0.1)
        self._write_queued()

    def hand_over(self, timeout_s: float) -> Cursors:
        """Stop reading, write what was read, and return where another writer goes on.

        A log that is not left within ``timeout_s`` seconds is written again by whoever goes on:
        lines may come twice then, but none is lost.
        """
        deadline = time.monotonic() + timeout_s
        self._close()
        while self._living() and time.monotonic() < deadline:
            self.write(0.05)
        late = {thread.name for thread in self._living()}
        self._write_queued()
        left = {
            name: cursor
            for name, log in self._logs.items()
            if self._threads[name].name not in late and (cursor := log.cursor) is not None
        }
        return {**self._after, **left}

    def _living(self) -> list[threading.Thread]:
        return [thread for thread in self._threads.values() if thread.is_alive()]

    def _write_queued(self) -> None:
        while self.write(0):
            pass

    def _close(self) -> None:
        self._closing.set()
        for log in list(self._logs.values()):
            log.close()

    def _read(self, replica: ReplicaStatus) -> None:
        name = replica_name(replica)
        try:
            log = ReplicaLog(
                self._engine, _container(replica), follow=True, after=self._after.get(name)
            )
            self._logs[name] = log
            if self._closing.is_set():
                return
            for line in log:
                self._put(_Line(replica, line.text))
        except AirflowTorchXError as why:
            self._put(_Line(replica, f"(its log cannot be read: {why.args[0]})"))

    def _put(self, line: _Line) -> None:
        while not self._aborted.is_set():
            try:
                self._lines.put(line, timeout=0.5)
            except queue.Full:
                continue
            return


def write_rest(
    engine: Engine,
    app: DescribeAppResponse,
    after: Cursors,
    *,
    max_bytes: int,
    should_stop: Callable[[], bool],
) -> Cursors:
    """Write what each replica has written since, one replica after the other.

    Args:
        engine: the daemon.
        app: the app, running or not.
        after: how far earlier writers came.
        max_bytes: of each replica, only so much of the end is written, with a line that tells how
            much was left out.
        should_stop: asked after every few thousand lines.

    Returns:
        Where the next writer goes on.

    Raises:
        Left: ``should_stop`` returned True; the replica it was at is not counted as written.
    """
    cursors = dict(after)
    width = max((len(replica_name(replica)) for replica in replicas_of(app)), default=0)
    for replica in replicas_of(app):
        name = replica_name(replica)
        try:
            log = ReplicaLog(engine, _container(replica), after=cursors.get(name), resumable=True)
            rest = _Rest(max_bytes)
            for count, line in enumerate(log):
                rest.add(line.text)
                if count % _LOOK_EVERY == 0 and should_stop():
                    raise Left(cursors)
            rest.emit(replica, width)
            if log.cursor is not None:
                cursors[name] = log.cursor
        except AirflowTorchXError as why:
            _emit(replica, [f"(its log cannot be read: {why.args[0]})"], width)
    return cursors


_LOOK_EVERY: Final = 2_000


class _Rest:
    """The end of a log, as much of it as is wanted."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._lines: deque[str] = deque()
        self._bytes = 0
        self._left_out = [0, 0]

    def add(self, text: str) -> None:
        self._lines.append(text)
        self._bytes += len(text) + 1
        while self._bytes > self._max_bytes and len(self._lines) > 1:
            size = len(self._lines.popleft()) + 1
            self._bytes -= size
            self._left_out[0] += 1
            self._left_out[1] += size

    def emit(self, replica: ReplicaStatus, width: int) -> None:
        count, size = self._left_out
        if count:
            told = (
                f"({count} lines before this, {size / 1e6:.1f} MB, are left out: raise log_max_mb, "
                f"or keep the containers by on_finish='keep' and see "
                f"`docker logs {replica.hostname}`)"
            )
            _emit(replica, [told], width)
        while self._lines:
            burst = [self._lines.popleft() for _ in range(min(_BURST, len(self._lines)))]
            _emit(replica, burst, width)


def _container(replica: ReplicaStatus) -> str:
    """Return the id of a replica's container.

    Raises:
        AirflowTorchXError: it is gone.
    """
    if replica.container_id:
        return replica.container_id
    what = "its container is gone, and its log with it"
    raise AirflowTorchXError(what)


def _emit(replica: ReplicaStatus, lines: Sequence[str], width: int) -> None:
    prefix = replica_name(replica).ljust(width)
    text = "\n".join(f"{prefix} {_without_markers(line)}" for line in lines)
    logger = structlog.get_logger(f"torchx.{replica.role}.{replica.id}")
    logger.info(text, role=replica.role, replica=replica.id)


def _without_markers(text: str) -> str:
    for marker in _MARKERS:
        text = text.replace(marker, "")
    return text
