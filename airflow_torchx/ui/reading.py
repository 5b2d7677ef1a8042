"""Reads an app of a task from its daemon, for the page; all functions block."""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from airflow_torchx.core.engine.containers import LogQuery
from airflow_torchx.core.logs.lines import LineReader
from airflow_torchx.core.state.describe import replicas_of, without_copies
from airflow_torchx.core.state.live import attempt_of, live_snapshot, usage_counters
from airflow_torchx.errors import EngineError
from airflow_torchx.runtime.lifecycle import described
from airflow_torchx.runtime.usage import running_replicas

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

    from airflow_torchx.core.engine.protocol import ByteStream, Engine
    from airflow_torchx.core.logs.lines import Cursor, LogLine
    from airflow_torchx.core.state.live import TaskApp
    from airflow_torchx.specs import ReplicaStatus

#: More replicas than this are not read, and the answer says how many run.
MOST_READ: Final = 64
#: Lines of a log in one answer, at most.
MOST_LINES: Final = 5_000
_READ_S: Final = 3.5
_LOG_S: Final = 3.0
# An unfinished line is held as a whole. So many messages of the longest size fit.
_MOST_RAW_BYTES: Final = 17 << 20
_LONG_LINES: Final = 1_000
# The web server holds this much of a log at most.
_MOST_CHARACTERS: Final = 1 << 20
_LINE_CHARACTERS: Final = 16_384


@dataclass(frozen=True, kw_only=True, slots=True)
class LiveApp:
    """An app as the daemon shows it.

    Args:
        snapshot: what the page shows; None if the daemon has no container of it.
        replicas: with their containers; those without one are left out.
        running: those that run.
    """

    snapshot: dict[str, Any] | None
    attempt: int
    replicas: tuple[ReplicaStatus, ...] = ()
    running: tuple[ReplicaStatus, ...] = ()

    def container(self, role: str, replica: int) -> str | None:
        """Return the id of a replica's newest container; None without one."""
        found = (one for one in self.replicas if (one.role, one.id) == (role, replica))
        return next((one.container_id for one in found), None)


@dataclass(frozen=True, kw_only=True, slots=True)
class LogPart:
    """A part of a replica's log.

    Args:
        lines: the newest ones that were read.
        left_out: how many lines before them were read and are left out; there may be more.
        cursor: where the next part begins; None before the first line.
    """

    lines: list[str]
    left_out: int
    cursor: Cursor | None


def look_at(engine: Engine, task_app: TaskApp, now_s: float) -> LiveApp:
    """Return the state of an app: one request, and one more for each replica that failed."""
    rows = without_copies(engine.rows(task_app.labels))
    app = described(engine, task_app.app_id, rows)
    attempt, _ = attempt_of(rows)
    if app is None:
        return LiveApp(snapshot=None, attempt=attempt)
    return LiveApp(
        snapshot=live_snapshot(task_app, app, rows, now_s),
        attempt=attempt,
        replicas=tuple(one for one in replicas_of(app) if one.container_id),
        running=tuple(running_replicas(app)),
    )


def read_usage(
    engine: Engine, app: LiveApp, threads: Executor, timeout_s: float = _READ_S
) -> list[dict[str, Any]]:
    """Return the counters of running replicas; those that cannot be read in time are left out.

    Raises:
        EngineError: none of them can be read.
    """
    asked = {threads.submit(engine.usage, one.container_id): one for one in app.running[:MOST_READ]}
    done, late = wait(asked, timeout_s)
    for future in late:
        future.cancel()
    errors = [error for future in done if (error := future.exception()) is not None]
    if errors and len(errors) == len(done):
        raise errors[0]
    if late and not done:
        raise EngineError("the daemon does not say in time what the replicas use.")
    found = [
        (one, usage)
        for future, one in asked.items()
        if future in done and future.exception() is None and (usage := future.result()) is not None
    ]
    return [usage_counters(one, usage) for one, usage in found]


def read_log(
    engine: Engine,
    container_id: str,
    *,
    tail: int,
    after: Cursor | None,
    clock: Callable[[], float] = time.monotonic,
) -> LogPart:
    """Return the last lines of a container's log, of those after an earlier part.

    It reads for some seconds at most. The lines are not masked.

    Raises:
        EngineNotFoundError: the container is gone.
        EngineError: the log is not one of Docker's.
    """
    until_s = clock() + _LOG_S

    def read(wanted: int) -> LogPart | None:
        # From the beginning, the daemon searches a log of 500 MB for longer than a request may
        # take. One message more says that something is left out.
        query = LogQuery(
            since_ns=after.time_ns if after else None, timestamps=True, tail=wanted + 1
        )
        reader, kept = LineReader(timestamps=True, after=after), _Kept(wanted)
        if not _fill(kept, reader, engine.logs(container_id, query), lambda: clock() > until_s):
            return None
        kept.add(reader.flush())
        return LogPart(lines=[*kept.lines], left_out=kept.left_out, cursor=reader.cursor or after)

    part = read(tail) or read(min(tail, _LONG_LINES))
    if part is None:
        raise EngineError("the messages of the log are longer than the daemon makes them.")
    return part


def _fill(kept: _Kept, reader: LineReader, stream: ByteStream, is_late: Callable[[], bool]) -> bool:
    """Read a log until its end, or until it is late; return False if it needs too much memory."""
    raw_bytes = 0
    try:
        for chunk in stream:
            raw_bytes += len(chunk)
            if raw_bytes > _MOST_RAW_BYTES:
                return False
            kept.add(reader.feed(chunk))
            if is_late():
                break
    finally:
        stream.close()
    return True


class _Kept:
    """The last lines of a log, up to a number of lines and of characters."""

    def __init__(self, most: int) -> None:
        self.lines: deque[str] = deque()
        self.left_out = 0
        self._most = most
        self._characters = 0

    def add(self, lines: list[LogLine]) -> None:
        """Add lines, and drop the oldest ones beyond the limits."""
        for line in lines:
            text = line.text[:_LINE_CHARACTERS]
            self.lines.append(text)
            self._characters += len(text)
            while len(self.lines) > self._most or self._characters > _MOST_CHARACTERS:
                self._characters -= len(self.lines.popleft())
                self.left_out += 1
