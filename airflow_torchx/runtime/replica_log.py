"""The log of one replica as whole lines, from a finished container or from one that still runs."""

from __future__ import annotations

import re
import threading
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Literal, Self

from airflow_torchx.core.engine import labels
from airflow_torchx.core.engine.containers import LogQuery
from airflow_torchx.core.logs.lines import LineReader
from airflow_torchx.core.state.describe import place_of
from airflow_torchx.errors import (
    AppNotFoundError,
    EngineNotFoundError,
    InvalidAppError,
    Problem,
)
from airflow_torchx.runtime.waiting import Backoff, OutageTolerance

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from airflow_torchx.core.engine.protocol import ByteStream, Engine
    from airflow_torchx.core.logs.lines import Cursor, LogLine

_ENDED: Final = ("exited", "dead", "removing")


class Stream(StrEnum):
    """Which output of a replica; TorchX's names."""

    STDOUT = "stdout"
    STDERR = "stderr"
    COMBINED = "combined"


_QUERY_WORD: Final[dict[Stream, Literal["stdout", "stderr", "both"]]] = {
    Stream.STDOUT: "stdout",
    Stream.STDERR: "stderr",
    Stream.COMBINED: "both",
}


@dataclass(frozen=True, kw_only=True)
class Span:
    """A part of a log in time, nanoseconds since 1970, both ends inclusive; None is open."""

    since_ns: int | None = None
    until_ns: int | None = None

    @classmethod
    def between(cls, since: datetime | None, until: datetime | None) -> Self:
        """Return the span between two times; a naive one is local, as in TorchX."""
        return cls(since_ns=_nanoseconds(since), until_ns=_nanoseconds(until))


def container_ids(engine: Engine, app_id: str) -> dict[tuple[str, int], str]:
    """Return the container of each replica, by role and index, in one call; the newest of each."""
    rows = engine.rows({labels.APP_ID: app_id})
    return {place_of(row): row.id for row in sorted(rows, key=lambda row: (row.created_at, row.id))}


def find_container(engine: Engine, app_id: str, role: str, replica: int) -> str:
    """Return the id of a replica's container.

    Raises:
        AppNotFoundError: it is not on the daemon; the message tells what is.
    """
    ids = container_ids(engine, app_id)
    if (role, replica) in ids:
        return ids[role, replica]
    roles = sorted({name for name, _ in ids})
    there = f"its roles here are {', '.join(roles)}" if roles else "nothing of that app is here"
    raise AppNotFoundError(
        f"no replica {role}/{replica} of app {app_id!r} on this daemon; {there}.",
        fix="Check role and index; the container may have been removed.",
    )


class ReplicaLog:
    """One pass over a replica's log. Iterate it once; close it from any thread.

    Args:
        engine: the daemon.
        container_id: the replica's container.
        span: the part of the log in time.
        streams: stdout, stderr or both.
        follow: stay until the replica has ended for good. Restarts of the container, and a daemon
            that is away for less than a minute, lose no line and repeat none.
        tail: begin with the last this many messages of what is there; None for all.
        after: where an earlier reader was; what it had read does not come again.
        resumable: keep a `cursor`; one that follows always does, and it costs some time.
    """

    def __init__(  # noqa: PLR0913 - what docker logs can be told, by name
        self,
        engine: Engine,
        container_id: str,
        *,
        span: Span | None = None,
        streams: Stream = Stream.COMBINED,
        follow: bool = False,
        tail: int | None = None,
        after: Cursor | None = None,
        resumable: bool = False,
    ) -> None:
        self._engine = engine
        self._id = container_id
        self._span = span or Span()
        self._streams = streams
        self._follow = follow
        self._tail = tail
        self._timestamps = follow or resumable or after is not None
        # The first message read is not always the oldest; a tail knows nothing of what came before.
        self._reader = LineReader(
            timestamps=self._timestamps,
            after=after,
            start_ns=None if tail is not None else self._span.since_ns or 0,
        )
        self._closed = threading.Event()
        self._open: ByteStream | None = None

    def __iter__(self) -> Iterator[LogLine]:
        """Yield whole lines.

        Raises:
            EngineNotFoundError: the container is gone.
            EngineUnreachableError: the log broke off, and did not come back within a minute.
        """
        if self._follow:
            yield from self._followed()
        else:
            yield from self._once(follow=False)
            yield from self._reader.flush()

    @property
    def cursor(self) -> Cursor | None:
        """Where a later reader goes on once this iteration has ended; None for the beginning."""
        return self._reader.cursor

    def close(self) -> None:
        """End the iteration, also while another thread waits for its next line. Idempotent."""
        self._closed.set()
        if (stream := self._open) is not None:
            stream.close()

    def _followed(self) -> Iterator[LogLine]:
        tolerance, backoff = OutageTolerance(), Backoff()
        ended = False
        while not self._closed.is_set():
            with tolerance:
                # What was written between the end of the last pass and the container's end is
                # read by one more pass that does not wait.
                yield from self._once(follow=not ended)
                yield from self._reader.flush()
                if ended or self._closed.is_set():
                    return
                ended = self._is_over()
            if not ended:
                self._closed.wait(backoff.next())

    def _once(self, *, follow: bool) -> Iterator[LogLine]:
        cursor = self._reader.cursor
        self._reader.reopened()
        query = LogQuery(
            streams=_QUERY_WORD[self._streams],
            since_ns=cursor.time_ns if cursor else self._span.since_ns,
            until_ns=self._span.until_ns,
            follow=follow,
            timestamps=self._timestamps,
            tail=None if cursor else self._tail,
        )
        self._open = self._engine.logs(self._id, query)
        alarm = self._alarm(self._open)
        try:
            for chunk in self._open:
                yield from self._reader.feed(chunk)
                if self._closed.is_set():
                    return
        finally:
            alarm.cancel()
            self._open.close()

    def _alarm(self, stream: ByteStream) -> threading.Timer:
        """End a stream at the end of the span: the daemon looks at it only when a message comes."""
        until_ns = self._span.until_ns
        left_s = min(((until_ns or 0) - time.time_ns()) / 1e9, threading.TIMEOUT_MAX)
        alarm = threading.Timer(left_s, stream.close)
        alarm.daemon = True
        if until_ns is not None and self._follow:
            alarm.start()
        return alarm

    def _is_over(self) -> bool:
        if self._span.until_ns is not None and time.time_ns() > self._span.until_ns:
            return True
        detail = self._engine.inspect(self._id)
        if detail is None:
            raise EngineNotFoundError(
                f"container {self._id[:12]} is gone; its log ends here.",
                fix="Somebody removed it while its log was read.",
            )
        return detail.state in _ENDED


def lines(log: ReplicaLog, regex: str | None = None) -> Iterator[str]:
    """Return every line with its newline, or only those in which ``regex`` matches.

    Raises:
        InvalidAppError: ``regex`` is none; at once, not on the first line.
    """
    try:
        pattern = re.compile(regex or "")
    except re.error as why:
        problem = Problem("regex", f"{regex!r} is no regular expression: {why}", "mend it")
        raise InvalidAppError([problem], subject="this log") from None
    return (f"{line.text}\n" for line in log if pattern.search(line.text))


def _nanoseconds(moment: datetime | None) -> int | None:
    """Return exact nanoseconds since 1970; a float of seconds would lose some."""
    if moment is None:
        return None
    seconds = int(moment.replace(microsecond=0).timestamp())
    return seconds * 1_000_000_000 + moment.microsecond * 1_000
