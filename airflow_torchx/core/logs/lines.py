"""Parses Docker's multiplexed container logs into lines, in linear time."""

from __future__ import annotations

import re
from datetime import datetime
from struct import Struct
from typing import Final, Literal, NamedTuple

from airflow_torchx.core.logs.cursor import Cursor, CursorTracker
from airflow_torchx.errors import EngineError

__all__ = ["PARTIAL_BYTES", "Cursor", "LineReader", "LogLine"]

#: The daemon splits longer lines into messages of this size; only the last one ends with a
#: newline. Some log drivers have a larger limit.
PARTIAL_BYTES: Final = 16_384

Stream = Literal["stdout", "stderr"]

#: By the first byte of a frame: stdin, stdout, stderr, and the daemon's own messages.
_STREAMS: Final[tuple[Stream, ...]] = ("stdout", "stdout", "stderr", "stderr")
_HEADER: Final = Struct(">BxxxI")
_STAMP: Final = re.compile(
    rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d) ", re.ASCII
)
_SECOND_NS: Final = 1_000_000_000


# A frozen dataclass takes five times as long to create, a third of the parsing time.
class LogLine(NamedTuple):
    """One line of a replica's output.

    Args:
        stream: ``stdout`` or ``stderr``.
        text: the line without its newline.
        time_ns: nanoseconds since 1970; None if the log was read without timestamps.
    """

    stream: Stream
    text: str
    time_ns: int | None = None


class LineReader:
    """Parses a log, fed in arbitrary chunks, into the lines of stdout and stderr.

    Lines that the daemon has split are joined. A short message without a newline is the last of a
    container's run, so it ends its line. Of a line with carriage returns, only what a terminal
    shows last is kept. Bytes that are not UTF-8 are replaced.

    Args:
        timestamps: the log was opened with ``LogQuery.timestamps``.
        after: resume here: the log was opened with ``since_ns=after.time_ns``, and messages read
            before are skipped. Needs ``timestamps``.
        start_ns: the ``since_ns`` of the first request, 0 for the whole log; a lower bound of the
            cursor. With ``tail``, None: a message that is older than the first one but comes
            after it can then be lost when the log is opened again.
    """

    def __init__(
        self,
        *,
        timestamps: bool = False,
        after: Cursor | None = None,
        start_ns: int | None = None,
    ) -> None:
        self._timestamps = timestamps
        self._tracker = CursorTracker(after, start_ns)
        self._clock = _Clock()
        self._rest: list[bytes] = []
        self._rest_bytes = 0
        self._needed_bytes = _HEADER.size
        self._pending: dict[Stream, _Pending] = {}

    @property
    def cursor(self) -> Cursor | None:
        """How far the log has been read; None without timestamps or before the first message.

        An unfinished line counts as read: call `flush` before another reader resumes here.
        """
        return self._tracker.cursor if self._timestamps else None

    def reopened(self) -> None:
        """Continue with the same log, opened again at ``cursor.time_ns`` after its stream broke.

        Known messages are skipped, and unfinished lines are continued.
        """
        self._keep(b"", _HEADER.size)
        self._tracker.reopened()

    def feed(self, chunk: bytes) -> list[LogLine]:
        """Return the lines that end in this chunk.

        Raises:
            EngineError: the bytes are not multiplexed.
        """
        self._rest.append(chunk)
        self._rest_bytes += len(chunk)
        if self._rest_bytes < self._needed_bytes:
            return []
        data = b"".join(self._rest) if len(self._rest) > 1 else chunk
        lines: list[LogLine] = []
        try:
            used, needed_bytes = self._read(data, lines)
        except IndexError:
            msg = "the log is not multiplexed: its container has a terminal."
            raise EngineError(msg, fix="Read it with `docker logs`.") from None
        self._keep(data[used:], needed_bytes)
        return lines

    def flush(self) -> list[LogLine]:
        """Return the unfinished lines, at the end of the log or of a container's run."""
        lines = [pending.line(stream) for stream, pending in self._pending.items()]
        self._pending.clear()
        return lines

    def _keep(self, rest: bytes, needed_bytes: int) -> None:
        self._rest = [rest] if rest else []
        self._rest_bytes = len(rest)
        self._needed_bytes = needed_bytes

    def _read(self, data: bytes, lines: list[LogLine]) -> tuple[int, int]:
        """Read complete frames; return the offset and the size of the first incomplete one."""
        # The hot loop. Without calls in the common case, one line a frame, it is seven times as
        # fast as the daemon sends such lines.
        unpack, find, pending = _HEADER.unpack_from, data.find, self._pending
        append, make, timestamps = lines.append, tuple.__new__, self._timestamps
        position, end, time_ns = 0, len(data), None
        while position + 8 <= end:
            kind, size = unpack(data, position)
            stream, start, stop = _STREAMS[kind], position + 8, position + 8 + size
            if stop > end:
                return position, 8 + size
            position = stop
            if timestamps:
                time_ns, start = self._clock.read(data, start, stop)
                if time_ns is not None and not self._tracker.is_new(time_ns, hold=bool(pending)):
                    continue
            if (
                find(b"\n", start, stop) == stop - 1
                and find(b"\r", start, stop) < 0
                and stream not in pending
            ):
                text = data[start : stop - 1].decode("utf-8", "replace")
                append(make(LogLine, (stream, text, time_ns)))
            else:
                self._read_message(stream, data[start:stop], time_ns, lines)
        return position, 8

    def _read_message(
        self, stream: Stream, payload: bytes, time_ns: int | None, lines: list[LogLine]
    ) -> None:
        *whole, last = payload.split(b"\n")
        for text in whole:
            line = self._pending.pop(stream, None) or _Pending(time_ns)
            line.add(text)
            lines.append(line.line(stream))
        if last or not whole:
            self._pending.setdefault(stream, _Pending(time_ns)).add(last)
            if len(payload) < PARTIAL_BYTES:
                lines.append(self._pending.pop(stream).line(stream))


class _Pending:
    """An unfinished line."""

    def __init__(self, time_ns: int | None) -> None:
        self._time_ns = time_ns
        self._parts: list[bytes] = []

    def add(self, part: bytes) -> None:
        """Add a part, and drop the text that a carriage return in it overwrites."""
        # A carriage return as the last byte may be the start of "\r\n".
        overwritten = part.rfind(b"\r", 0, -1) + 1
        if overwritten or (part and self._parts and self._parts[-1].endswith(b"\r")):
            self._parts.clear()
        if part:
            self._parts.append(part[overwritten:])

    def line(self, stream: Stream) -> LogLine:
        """Return the line."""
        shown = b"".join(self._parts).removesuffix(b"\r").rpartition(b"\r")[2]
        return LogLine(stream, shown.decode("utf-8", "replace"), self._time_ns)


class _Clock:
    """Parses the timestamp of a message, exact to the nanosecond."""

    def __init__(self) -> None:
        self._second = b""
        self._second_ns = 0
        self._zone = b""

    def read(self, data: bytes, start: int, stop: int) -> tuple[int | None, int]:
        """Return the time of the message at ``start``, and the offset of its text.

        The daemon's own errors have no timestamp: then it returns None and ``start``.
        """
        # In 2026-11-24T00:17:05.561219099Z, only the nine digits change within a second; parsing
        # them alone takes a sixth of the time.
        zone, text = start + 29, start + 29 + len(self._zone)
        if (
            text <= stop
            and data[start : start + 20] == self._second
            and data.startswith(self._zone, zone)
            and (digits := data[start + 20 : zone]).isdigit()
        ):
            return self._second_ns + int(digits), text
        match = _STAMP.match(data, start, stop)
        moment = self._moment(match[1], match[3]) if match else None
        if match is None or moment is None:
            return None, start
        self._second, self._second_ns, self._zone = match[1] + b".", moment, match[3] + b" "
        return moment + int((match[2] or b"").ljust(9, b"0")), match.end()

    @staticmethod
    def _moment(second: bytes, zone: bytes) -> int | None:
        offset = b"+00:00" if zone == b"Z" else zone
        try:
            moment = datetime.fromisoformat((second + offset).decode())
        except ValueError:
            return None
        return int(moment.timestamp()) * _SECOND_NS
