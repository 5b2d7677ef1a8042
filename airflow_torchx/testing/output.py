"""The output of containers as Docker's log messages and frames."""

from __future__ import annotations

import re
import struct
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from airflow_torchx.core.engine.containers import LogQuery
    from airflow_torchx.testing.program import Program, Stream

NS_PER_S: Final = 1_000_000_000

# Docker reads a container's output into a buffer of this size and gives up on longer lines.
# https://github.com/moby/moby/blob/v20.10.24/daemon/logger/copier.go
_LONGEST_MESSAGE: Final = 16_384
_ESCAPED: Final = re.compile("[\udc80-\udcff]")
_STREAM_NUMBERS: Final = {"stdout": 1, "stderr": 2}


class Message(NamedTuple):
    """One message of a container's log, with a unique timestamp ``stamp_ns``."""

    stamp_ns: int
    stream: Stream
    data: bytes


class Output:
    """The output of one run of a program; all its messages have a timestamp after ``floor_ns``."""

    def __init__(self, program: Program, started_ns: int, floor_ns: int) -> None:
        self._started_ns = started_ns
        self._floor_ns = max(floor_ns + 1, started_ns)
        self._every_ns = round(program.line_every_s * NS_PER_S)
        self._writes = len(program.lines)
        #: Pairs of writing time and message.
        self._entries: list[tuple[int, Message]] = []
        buffers: dict[Stream, bytes] = {}
        for index, (stream, data) in enumerate(program.writes()):
            pieces, buffers[stream] = split(buffers.get(stream, b"") + data)
            self._add(self._started_ns + index * self._every_ns, stream, pieces)
        self._unfinished = [(stream, data) for stream, data in buffers.items() if data]

    @property
    def last_ns(self) -> int:
        """Return when the program has written everything."""
        return self._started_ns + max(0, self._writes - 1) * self._every_ns

    def until(self, now_ns: int, ended_ns: int | None) -> list[Message]:
        """Return the messages written by now; the end of the run completes a last line."""
        cutoff_ns = now_ns if ended_ns is None else min(now_ns, ended_ns)
        messages = [message for at_ns, message in self._entries if at_ns <= cutoff_ns]
        if ended_ns is not None and self.last_ns <= ended_ns <= now_ns:
            stamp_ns = self.floor_after(ended_ns) - len(self._unfinished)
            for index, (stream, data) in enumerate(self._unfinished):
                messages.append(Message(stamp_ns + index, stream, as_utf8(data)))
        return messages

    def floor_after(self, ended_ns: int) -> int:
        """Return a time later than all messages of this run, for the next run."""
        return max(ended_ns, self._floor_ns) + len(self._entries) + len(self._unfinished)

    def _add(self, at_ns: int, stream: Stream, pieces: Iterable[bytes]) -> None:
        for data in pieces:
            stamp_ns = max(at_ns, self._floor_ns) + len(self._entries)
            self._entries.append((at_ns, Message(stamp_ns, stream, as_utf8(data))))


def split(data: bytes) -> tuple[list[bytes], bytes]:
    """Return the complete messages in some output, and the rest without a newline."""
    pieces: list[bytes] = []
    while True:
        end = data.find(b"\n", 0, _LONGEST_MESSAGE) + 1
        if not end and len(data) < _LONGEST_MESSAGE:
            return pieces, data
        end = end or _LONGEST_MESSAGE
        pieces.append(data[:end])
        data = data[end:]


def as_utf8(data: bytes) -> bytes:
    """Return a message as Docker's log driver stores it: U+FFFD for each invalid UTF-8 byte."""
    text = data.decode(errors="surrogateescape")
    return _ESCAPED.sub("\N{REPLACEMENT CHARACTER}", text).encode()


def frames(messages: Iterable[Message], query: LogQuery) -> Iterator[bytes]:
    """Yield the frames of the messages that match a query, ignoring its tail."""
    for message in messages:
        wanted = query.streams in ("both", message.stream)
        since = query.since_ns is None or message.stamp_ns >= query.since_ns
        until = query.until_ns is None or message.stamp_ns <= query.until_ns
        if wanted and since and until:
            data = (
                f"{to_text(message.stamp_ns)} ".encode() if query.timestamps else b""
            ) + message.data
            yield struct.pack(">BxxxI", _STREAM_NUMBERS[message.stream], len(data)) + data


def to_datetime(time_ns: int) -> datetime:
    """Return nanoseconds since 1970 as a datetime, truncated to microseconds."""
    seconds, rest = divmod(time_ns, NS_PER_S)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest // 1000)


def to_text(time_ns: int) -> str:
    """Return nanoseconds since 1970 as the Engine API writes them."""
    seconds, rest = divmod(time_ns, NS_PER_S)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"
