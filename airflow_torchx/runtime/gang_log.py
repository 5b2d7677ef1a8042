"""The logs of all replicas of an app, read concurrently and written by one thread."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Self

from airflow_torchx.concurrency.parallel import StopRequested
from airflow_torchx.core.logs.lines import LogLine
from airflow_torchx.core.plan.identity import round_name
from airflow_torchx.core.state.describe import RETRIES, replicas_of
from airflow_torchx.core.state.report import cursor_key, log_name, replica_name
from airflow_torchx.core.state.rule_matches import RuleMatches
from airflow_torchx.errors import AirflowTorchXError, EngineError
from airflow_torchx.runtime import lifecycle
from airflow_torchx.runtime.replica_log import ReplicaLog, Span, Stream
from airflow_torchx.runtime.root_cause import rule_search
from airflow_torchx.specs import AppState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.core.logs.cursor import Cursor
    from airflow_torchx.specs import DescribeAppResponse, ReplicaStatus

    #: How far each log has been written: ``trainer/0``, and ``trainer/0/r1`` after a restart.
    Cursors = Mapping[str, Cursor]

# Bounds memory: readers wait when this many lines are unwritten.
_QUEUED: Final = 10_000
#: Lines of one replica in one log event. An event costs Airflow's task log the same whatever its
#: size: 600,000 lines a second instead of 8,000 (measured on Airflow 3.3.2).
BURST: Final = 200


class Detached(StopRequested):
    """Writing was asked to stop after these cursors; the app keeps running."""

    def __init__(self, cursors: Cursors) -> None:
        super().__init__()
        self.cursors = cursors


class GangLog(ABC):
    """Follows each replica of an app in its own thread; the caller's thread writes.

    A replica without a cursor of an earlier writer is written from its beginning. The logs of a
    replica in all rounds are written one after another.
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
        #: The failure rules that the lines written so far match.
        self.matches = RuleMatches(rule_search(app), self._after)
        #: Called when the log of a replica has ended, so in most cases when the replica has.
        self.on_end: Callable[[], object] = lambda: None
        # None only wakes the writer.
        self._lines: queue.Queue[tuple[ReplicaStatus, LogLine] | None] = queue.Queue(_QUEUED)
        self._ended: set[str] = set()
        self._aborted = threading.Event()
        self._closing = threading.Event()
        self._logs: dict[str, ReplicaLog] = {}
        self._app = app
        self._threads: dict[str, threading.Thread] = {}
        self._starting = threading.Lock()
        #: One width for all prefixes, so that the lines of all replicas begin in one column.
        self.width = prefix_width(replicas_of(app))

    @abstractmethod
    def emit(self, replica: ReplicaStatus, lines: Sequence[LogLine]) -> None:
        """Write some lines of one replica."""

    def __enter__(self) -> Self:
        self.catch_up()
        # The daemon may have had no answer.
        self.look(self._app)
        return self

    def __exit__(self, *_: object) -> None:
        """Stop reading and drop the rest; call `finish` first to lose nothing."""
        self._aborted.set()
        self._close()

    def look(self, app: DescribeAppResponse) -> None:
        """Follow the replicas of a look at the app that are not followed yet; from any thread."""
        unstarted = {AppState.SUBMITTED, AppState.PENDING} if RETRIES in app.metadata else ()
        self._follow(one for one in replicas_of(app) if one.state not in unstarted)

    def catch_up(self) -> None:
        """Follow the replicas of all rounds that are not followed yet."""
        with contextlib.suppress(EngineError):
            self._follow(lifecycle.of_all_rounds(self._engine, self._app))

    def _follow(self, replicas: Iterable[ReplicaStatus]) -> None:
        chosen = {replica_name(replica) for replica in replicas_of(self._app)}
        with self._starting:
            for replica in replicas:
                key = cursor_key(replica)
                if key in self._threads or replica_name(replica) not in chosen:
                    continue
                earlier = [
                    thread
                    for number in range(replica.round)
                    if (thread := self._threads.get(cursor_key(replace(replica, round=number))))
                ]
                thread = threading.Thread(
                    target=self._read,
                    args=(replica, earlier),
                    name=round_name(replica.hostname, replica.round),
                    daemon=True,
                )
                self.width = max(self.width, len(log_name(replica)))
                self._threads[key] = thread
                thread.start()

    def write(self, timeout_s: float) -> bool:
        """Write the lines that have arrived; wait up to ``timeout_s`` seconds for the first.

        Lines of one replica that arrived together are emitted together. `wake` and the end of a log
        end the wait, too.

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
        by_replica: dict[str, tuple[ReplicaStatus, list[LogLine]]] = {}
        for replica, line in filter(None, burst):
            by_replica.setdefault(cursor_key(replica), (replica, []))[1].append(line)
        for replica, lines in by_replica.values():
            self.matches.search(replica, lines)
            self.emit(replica, lines)
        return bool(by_replica)

    def wake(self) -> None:
        """End the wait of a `write` that runs in another thread."""
        with contextlib.suppress(queue.Full):
            self._lines.put_nowait(None)

    def finish(self, timeout_s: float, should_stop: Callable[[], bool]) -> list[str]:
        """Write the rest of every log, and return the containers whose logs did not end in time.

        The app has ended. ``should_stop`` is called several times a second.

        Raises:
            StopRequested: ``should_stop`` returned True.
        """
        self.catch_up()
        return self._drain(timeout_s, should_stop)

    def _drain(self, timeout_s: float, should_stop: Callable[[], bool]) -> list[str]:
        deadline = time.monotonic() + timeout_s
        while self._living():
            if should_stop():
                raise StopRequested
            if time.monotonic() > deadline:
                break
            self.write(0.1)
        late = [thread.name for thread in self._living()]
        while self.write(0):
            pass
        return late

    def hand_over(self, timeout_s: float) -> Cursors:
        """Stop reading, write the lines read so far, and return cursors for the next writer.

        A log that does not stop within ``timeout_s`` seconds gets no new cursor: lines may then be
        repeated, but none is lost.
        """
        self._close()
        late = self._drain(timeout_s, lambda: False)
        left = {
            name: cursor
            for name, log in list(self._logs.items())
            if self._threads[name].name not in late and (cursor := log.cursor) is not None
        }
        return self.matches.kept_in({**self._after, **left})

    def _living(self) -> list[threading.Thread]:
        return [
            thread
            for name, thread in list(self._threads.items())
            if name not in self._ended and thread.is_alive()
        ]

    def _close(self) -> None:
        self._closing.set()
        for log in list(self._logs.values()):
            log.close()

    def _read(self, replica: ReplicaStatus, earlier: Sequence[threading.Thread]) -> None:
        name = cursor_key(replica)
        try:
            for thread in earlier:
                thread.join()
            if self._closing.is_set():
                return
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
                self._put(replica, line)
        except AirflowTorchXError as why:
            self._put(replica, LogLine("stderr", f"(cannot read its log: {why.what})"))
        finally:
            self._ended.add(name)
            self.wake()
            self.on_end()

    def _put(self, replica: ReplicaStatus, line: LogLine) -> None:
        while not self._aborted.is_set():
            with contextlib.suppress(queue.Full):
                self._lines.put((replica, line), timeout=0.5)
                return


def prefix_width(replicas: Iterable[ReplicaStatus]) -> int:
    """Return the length of the longest prefix of the lines of these replicas."""
    return max((len(log_name(replica)) for replica in replicas), default=0)


def container_of(replica: ReplicaStatus) -> str:
    """Return the id of a replica's container.

    Raises:
        AirflowTorchXError: the container is gone.
    """
    if replica.container_id:
        return replica.container_id
    raise AirflowTorchXError("its container is gone, and its log with it")
