"""The log of one replica as whole lines, of a finished or a running container."""

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
from airflow_torchx.core.state.describe import without_copies
from airflow_torchx.core.state.rounds import age, replica_key, round_of
from airflow_torchx.errors import (
    AppNotFoundError,
    EngineNotFoundError,
    InvalidAppError,
    Problem,
)
from airflow_torchx.runtime import placing
from airflow_torchx.runtime.outage import Backoff, OutageTolerance

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


def find_container(engine: Engine, app_id: str, role: str, replica: int) -> str:
    """Return the id of a replica's newest container.

    Raises:
        AppNotFoundError: it is not on the daemon; the message lists the roles that are.
    """
    rows = without_copies(engine.rows({labels.APP_ID: app_id}))
    newest_last = sorted(rows, key=lambda row: (round_of(row), age(row)))
    ids = {replica_key(row): row.id for row in newest_last}
    if (role, replica) in ids:
        return ids[role, replica]
    roles = sorted({name for name, _ in ids})
    there = f"its roles are {', '.join(roles)}" if roles else "it has no such app"
    where = placing.docker_cli(engine).engine
    raise AppNotFoundError(
        f"no replica {role}/{replica} of app {app_id!r} on {where}; {there}.",
        fix="Check role and index; the container may have been removed.",
    )


class ReplicaLog:
    """Reads a replica's log once; can be closed from any thread.

    Args:
        follow: read until the replica has ended for good. Restarts of the container, and an outage
            of the daemon of less than a minute, neither lose nor repeat a line.
        tail: start with the last this many messages; None for all.
        after: cursor of an earlier reader; its lines are not repeated.
        resumable: keep a `cursor`, which costs some time; a following reader always does.
    """

    def __init__(  # noqa: PLR0913 - the options of `docker logs`, by name
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
        # The first message read is not always the oldest, and a tail does not know earlier ones.
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
            EngineUnreachableError: the log broke off for more than a minute.
        """
        if self._follow:
            yield from self._followed()
        else:
            yield from self._once(follow=False)
            yield from self._reader.flush()

    @property
    def cursor(self) -> Cursor | None:
        """Where a later reader continues after this iteration; None for the beginning."""
        return self._reader.cursor

    def close(self) -> None:
        """End the iteration, even while another thread waits for the next line. Idempotent."""
        self._closed.set()
        if (stream := self._open) is not None:
            stream.close()

    def _followed(self) -> Iterator[LogLine]:
        tolerance, backoff = OutageTolerance(), Backoff()
        ended = False
        while not self._closed.is_set():
            with tolerance:
                # One more pass, which does not wait, reads what was written between the end of the
                # last pass and the end of the container.
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
        self._open = stream = self._engine.logs(self._id, query)
        alarm = self._alarm(stream)
        try:
            # `close` may have come before there was a stream to close.
            for chunk in () if self._closed.is_set() else stream:
                yield from self._reader.feed(chunk)
                if self._closed.is_set():
                    return
        finally:
            alarm.cancel()
            stream.close()

    def _alarm(self, stream: ByteStream) -> threading.Timer:
        """Close a stream at the end of the span; the daemon checks it only when a message comes."""
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
                fix="It was removed while its log was being read.",
            )
        return detail.state in _ENDED


def lines(log: ReplicaLog, regex: str | None = None) -> Iterator[str]:
    """Return every line with its newline, or only those in which ``regex`` matches.

    Raises:
        InvalidAppError: ``regex`` is invalid; raised at once, not on the first line.
    """
    try:
        pattern = re.compile(regex or "")
    except re.error as error:
        problem = Problem("regex", f"{regex!r} is not a regular expression: {error}", "correct it")
        raise InvalidAppError([problem], subject="log filter") from None
    return (f"{line.text}\n" for line in log if pattern.search(line.text))


def _nanoseconds(moment: datetime | None) -> int | None:
    """Return exact nanoseconds since 1970, which a float of seconds cannot hold."""
    if moment is None:
        return None
    seconds = int(moment.replace(microsecond=0).timestamp())
    return seconds * 1_000_000_000 + moment.microsecond * 1_000
