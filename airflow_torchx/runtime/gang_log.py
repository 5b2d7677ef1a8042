"""The logs of all replicas of an app, read at once and written by one thread."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from airflow_torchx.concurrency.parallel import StopRequested
from airflow_torchx.core.state.describe import replicas_of
from airflow_torchx.core.state.report import replica_name
from airflow_torchx.errors import AirflowTorchXError
from airflow_torchx.runtime.replica_log import ReplicaLog, Span, Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.core.logs.cursor import Cursor
    from airflow_torchx.specs import DescribeAppResponse, ReplicaStatus

    #: How far the log of each replica, like ``trainer/0``, has been written.
    Cursors = Mapping[str, Cursor]

# Readers wait when this many lines are not written yet: memory stays bounded.
_QUEUED: Final = 10_000
#: Lines of one replica that are written at once: one event of 200 lines costs Airflow's task log
#: what one line costs: 600,000 lines a second instead of 8,000 (measured on Airflow 3.3.2).
BURST: Final = 200


class Detached(StopRequested):
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


class GangLog(ABC):
    """Follows every replica of an app in a thread of its own; the caller's thread writes.

    Args:
        engine: the daemon.
        app: the app.
        after: how far earlier writers came; a replica without a cursor is written from its
            beginning.
        span: the part of the logs in time.
        streams: stdout, stderr or both.
    """

    def __init__(
        self,
        engine: Engine,
        app: DescribeAppResponse,
        after: Cursors | None = None,
        *,
        span: Span | None = None,
        streams: Stream = Stream.COMBINED,
    ) -> None:
        self._engine = engine
        self._span = span
        self._streams = streams
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
        #: One width for all prefixes, so that the lines of all replicas begin in one column.
        self.width = prefix_width(app)

    @abstractmethod
    def emit(self, replica: ReplicaStatus, lines: Sequence[str]) -> None:
        """Write some lines of one replica."""

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
            while len(burst) < BURST:
                burst.append(self._lines.get_nowait())
        by_replica: dict[str, list[_Line]] = {}
        for line in burst:
            by_replica.setdefault(replica_name(line.replica), []).append(line)
        for lines in by_replica.values():
            self.emit(lines[0].replica, [line.text for line in lines])
        return True

    def finish(self, timeout_s: float, should_stop: Callable[[], bool]) -> list[str]:
        """Write the rest of every log; call it when the app has ended.

        Args:
            timeout_s: seconds after which a log that does not end is given up.
            should_stop: asked several times a second.

        Returns:
            The containers whose logs were given up.

        Raises:
            StopRequested: ``should_stop`` returned True.
        """
        deadline = time.monotonic() + timeout_s
        while self._living():
            if should_stop():
                raise StopRequested
            if time.monotonic() > deadline:
                break
            self.write(0.1)
        late = [thread.name for thread in self._living()]
        self._write_queued()
        return late

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
                self._engine,
                container_of(replica),
                span=self._span,
                streams=self._streams,
                follow=True,
                after=self._after.get(name),
            )
            self._logs[name] = log
            if self._closing.is_set():
                return
            for line in log:
                self._put(_Line(replica, line.text))
        except AirflowTorchXError as why:
            self._put(_Line(replica, f"(its log cannot be read: {why.what})"))

    def _put(self, line: _Line) -> None:
        while not self._aborted.is_set():
            try:
                self._lines.put(line, timeout=0.5)
            except queue.Full:
                continue
            return


def prefix_width(app: DescribeAppResponse) -> int:
    """Return the length of the longest name of a replica."""
    return max((len(replica_name(replica)) for replica in replicas_of(app)), default=0)


def container_of(replica: ReplicaStatus) -> str:
    """Return the id of a replica's container.

    Raises:
        AirflowTorchXError: it is gone.
    """
    if replica.container_id:
        return replica.container_id
    what = "its container is gone, and its log with it"
    raise AirflowTorchXError(what)
