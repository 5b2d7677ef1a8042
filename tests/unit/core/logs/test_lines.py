"""Tests of log lines and cursors."""

from __future__ import annotations

import struct
import time
import tracemalloc
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_torchx.core.logs.cursor import WINDOW_NS
from airflow_torchx.core.logs.lines import PARTIAL_BYTES, Cursor, LineReader, LogLine
from airflow_torchx.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SECOND: Final = "2026-11-24T00:17:05"
SECOND_NS: Final = 1_795_479_425_000_000_000
PART: Final = b"x" * PARTIAL_BYTES


def frame(payload: bytes, stream: int = 1) -> bytes:
    """Return a message as the daemon sends it."""
    return struct.pack(">BxxxI", stream, len(payload)) + payload


def stamped(time_ns: int, text: bytes, stream: int = 1) -> bytes:
    """Return a message with its timestamp."""
    seconds, rest_ns = divmod(time_ns, 1_000_000_000)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return frame(f"{stamp}.{rest_ns:09d}Z ".encode() + text, stream)


def texts(lines: Iterable[LogLine]) -> list[str]:
    """Return the texts of the lines."""
    return [line.text for line in lines]


def read(*payloads: bytes, stream: int = 1) -> list[str]:
    """Return the lines of messages on one stream."""
    reader = LineReader()
    lines = reader.feed(b"".join(frame(payload, stream) for payload in payloads))
    return texts([*lines, *reader.flush()])


def test_a_line_has_stream_and_text() -> None:
    """A line has its stream and its text without the newline, and no time unless requested."""
    lines = LineReader().feed(frame(b"a\n") + frame(b"b\n", 2))

    assert [LogLine("stdout", "a", None), LogLine("stderr", "b", None)] == lines


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b"\n", [""]),
        (b"", [""]),
        (b"a\r\n", ["a"]),
        (b"10%\r20%\r30%\n", ["30%"]),
        (b"10%\r20%\r\n", ["20%"]),
        (b"a\r\r\n", [""]),
        (b"\r\n", [""]),
        (b"a\nb\n", ["a", "b"]),
        (b"a\nb", ["a", "b"]),
        (b"a\n\n", ["a", ""]),
        ("grün\n".encode(), ["grün"]),
        (b"\xff\xfe\n", ["��"]),
    ],
)
def test_messages_become_lines(payload: bytes, expected: list[str]) -> None:
    """One message is one line, and carriage returns act as in a terminal."""
    assert expected == read(payload)


def test_split_lines_are_joined() -> None:
    """A line that the daemon has split is joined, even if split within a character."""
    line = "x" * (PARTIAL_BYTES - 1) + "ü" + "y" * 100
    encoded = line.encode()

    assert [line] == read(encoded[:PARTIAL_BYTES], encoded[PARTIAL_BYTES:] + b"\n")


def test_a_line_of_exactly_one_part() -> None:
    """A line of exactly one part ends with an empty part."""
    assert [PART.decode()] == read(PART, b"\n")
    assert [PART.decode()] == read(PART, b"")


def test_the_end_of_a_run_ends_its_line() -> None:
    """A short message without a newline ends the run; the next run starts a new line."""
    assert ["begin-", "begin-"] == read(b"begin-", b"begin-")
    assert [PART.decode() + "tail", "begin-"] == read(PART, b"tail", b"begin-")


def test_streams_do_not_mix() -> None:
    """Alternating parts of stdout and stderr are joined per stream."""
    data = frame(PART) + frame(PART, 2) + frame(b"out\n") + frame(b"err\n", 2)

    lines = LineReader().feed(data)

    x = PART.decode()
    assert [LogLine("stdout", x + "out"), LogLine("stderr", x + "err")] == lines


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ((b"old\r".rjust(PARTIAL_BYTES), b"new\n"), "new"),
        ((b"old\rnew".rjust(PARTIAL_BYTES), b"er\n"), "newer"),
        ((b"old\r".rjust(PARTIAL_BYTES, b"-"), b"\n"), "-" * (PARTIAL_BYTES - 4) + "old"),
        ((PART, b"\rnew\n"), "new"),
        ((b"\r".rjust(PARTIAL_BYTES), b"\r\n"), ""),
    ],
)
def test_carriage_returns_overwrite_earlier_parts(parts: Sequence[bytes], expected: str) -> None:
    """A carriage return overwrites earlier parts of the line."""
    assert [expected] == read(*parts)


def test_an_endless_progress_bar_takes_little_memory() -> None:
    """A progress bar without an end takes only the memory of its visible part."""
    bar = frame(b"99%|#####|\r".ljust(PARTIAL_BYTES, b"-"))
    reader = LineReader()

    tracemalloc.start()
    for _ in range(200):
        reader.feed(bar)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak_bytes < 10 * PARTIAL_BYTES
    assert ["-" * (PARTIAL_BYTES - 11)] == texts(reader.flush())


def copied_bytes(reader: LineReader, chunks: Iterable[bytes]) -> tuple[int, list[LogLine]]:
    """Return how many bytes a reader allocates in all calls, and the lines.

    Every copy of a chunk, of the rest, or of a line is an allocation, and adds to the peak of its
    call. Unlike the time, this sum is the same on every machine.
    """
    copied, lines = 0, list[LogLine]()
    tracemalloc.start()
    try:
        for chunk in chunks:
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            lines += reader.feed(chunk)
            copied += tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    return copied, lines


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(frame(PART) * 256 + frame(b"\n"), id="one-line-in-256-messages"),
        pytest.param(frame(b"x" * (4 << 20) + b"\n"), id="one-huge-message"),
    ],
)
def test_a_long_line_is_copied_a_few_times(data: bytes) -> None:
    """A line of 4 MB is not copied again for every chunk of 4 KB or every message."""
    chunks = [data[start : start + 4096] for start in range(0, len(data), 4096)]

    copied, lines = copied_bytes(LineReader(), chunks)

    assert [4 << 20] == [len(line.text) for line in lines]
    # Measured: 4.4 and 3.0 times. Joining the parts of the line for each message is 131 times, and
    # joining or parsing the rest for each chunk is 515 times.
    assert copied < 16 * len(data)


def test_flush_returns_unfinished_lines_once() -> None:
    """`flush` returns an unfinished line once."""
    reader = LineReader()
    reader.feed(frame(PART))

    assert [PART.decode()] == texts(reader.flush())
    assert [] == reader.flush()


def test_the_log_of_a_terminal_is_refused() -> None:
    """The log of a container with a terminal raises an error."""
    with pytest.raises(EngineError, match="its container has a terminal"):
        LineReader().feed(b"total 48\r\ndrwxr-xr-x 2 root root")


def test_messages_of_the_daemon() -> None:
    """A message of the daemon itself is a line of stderr without a time."""
    data = stamped(SECOND_NS, b"a\n") + frame(b"Error grabbing logs: EOF\n", 3)

    lines = LineReader(timestamps=True).feed(data)

    assert LogLine("stderr", "Error grabbing logs: EOF", None) == lines[1]


@pytest.mark.parametrize(
    ("stamp", "expected"),
    [
        (f"{SECOND}.561219099Z", SECOND_NS + 561_219_099),
        (f"{SECOND}.000000001Z", SECOND_NS + 1),
        (f"{SECOND}.5Z", SECOND_NS + 500_000_000),
        (f"{SECOND}Z", SECOND_NS),
        ("2026-11-24T02:47:05.561219099+02:30", SECOND_NS + 561_219_099),
        ("2026-11-23T19:17:05.561219099-05:00", SECOND_NS + 561_219_099),
    ],
)
def test_times_are_exact(stamp: str, expected: int) -> None:
    """The time is exact to the nanosecond, in any time zone."""
    reader = LineReader(timestamps=True)
    data = frame(f"{stamp} a b\n".encode())

    lines = reader.feed(data * 2)  # the second message uses the cached second of the first

    assert [LogLine("stdout", "a b", expected)] * 2 == lines


@pytest.mark.parametrize(
    "payload",
    [
        b"no time\n",
        f"{SECOND}.56121909xZ a\n".encode(),
        b"2026-13-24T00:17:05.561219099Z a\n",
        f"{SECOND}.561219099Z".encode(),
        SECOND.encode(),
    ],
)
def test_messages_without_a_valid_time(payload: bytes) -> None:
    """A message without a valid time is still a line."""
    reader = LineReader(timestamps=True)
    reader.feed(stamped(SECOND_NS, b"a\n"))

    lines = reader.feed(frame(payload) + stamped(SECOND_NS, b"b\n"))

    assert [payload.decode().rstrip("\n"), "b"] == texts(lines)
    assert [None, SECOND_NS] == [line.time_ns for line in lines]


def test_the_time_of_a_joined_line() -> None:
    """A joined line has the time of its first part."""
    data = stamped(SECOND_NS, PART) + stamped(SECOND_NS, b"end\n")

    lines = LineReader(timestamps=True).feed(data)

    assert [LogLine("stdout", PART.decode() + "end", SECOND_NS)] == lines


def test_when_there_is_no_cursor() -> None:
    """The cursor is None before the first message, and without timestamps."""
    reader = LineReader()
    reader.feed(frame(b"a\n"))

    assert reader.cursor is None
    assert LineReader(timestamps=True).cursor is None


def test_a_cursor_counts_messages_from_its_time_on() -> None:
    """A cursor is not later than any unread message, and counts the messages from its time on."""
    reader = LineReader(timestamps=True)

    reader.feed(stamped(SECOND_NS + 5, b"a\n") * 2)
    assert Cursor(SECOND_NS + 5, 2, SECOND_NS + 5) == reader.cursor

    reader.feed(stamped(SECOND_NS + 9, b"b\n") + stamped(SECOND_NS + 7, b"c\n", 2))
    assert Cursor(SECOND_NS + 5, 4, SECOND_NS + 9) == reader.cursor

    later = SECOND_NS + 5 + WINDOW_NS
    reader.feed(stamped(later, b"d\n"))
    assert Cursor(SECOND_NS + 5, 5, later) == reader.cursor

    reader.feed(stamped(later + WINDOW_NS, b"e\n"))
    assert Cursor(later, 2, later + WINDOW_NS) == reader.cursor


def test_a_cursor_lies_before_the_first_message() -> None:
    """A cursor lies before the first message, because an older one may follow."""
    for start_ns, expected_ns in ((0, SECOND_NS - WINDOW_NS), (SECOND_NS - 5, SECOND_NS - 5)):
        reader = LineReader(timestamps=True, start_ns=start_ns)
        reader.feed(stamped(SECOND_NS, b"a\n") + stamped(SECOND_NS - 4, b"b\n", 2))

        assert Cursor(expected_ns, 2, SECOND_NS) == reader.cursor


def test_the_cursor_stays_before_an_unfinished_line() -> None:
    """The cursor stays before an unfinished line, whose other parts have the same time."""
    reader = LineReader(timestamps=True)
    reader.feed(stamped(SECOND_NS, PART))
    for step in range(1, 5):
        reader.feed(stamped(SECOND_NS + step * WINDOW_NS, b"a\n", 2))

    assert Cursor(SECOND_NS, 5, SECOND_NS + 4 * WINDOW_NS) == reader.cursor


def test_another_reader_resumes_at_a_cursor() -> None:
    """Another reader resumes at a cursor."""
    log = [stamped(SECOND_NS + step, b"%d\n" % step) for step in range(4)]
    first = LineReader(timestamps=True)
    first.feed(b"".join(log[:2]))

    second = LineReader(timestamps=True, after=first.cursor)

    assert first.cursor == second.cursor
    assert ["2", "3"] == texts(second.feed(b"".join(log)))


def test_a_stream_that_breaks_while_catching_up() -> None:
    """A stream that breaks again while it catches up loses and repeats nothing."""
    log = [stamped(SECOND_NS + step, b"%d\n" % step) for step in range(4)]
    reader = LineReader(timestamps=True)
    reader.feed(b"".join(log[:3]))
    cursor = reader.cursor
    reader.reopened()
    reader.feed(log[0])

    assert cursor == reader.cursor
    reader.reopened()
    assert ["3"] == texts(reader.feed(b"".join(log)))


def test_rotated_log() -> None:
    """A reader does not wait for messages that the daemon has deleted."""
    log = [stamped(SECOND_NS + step, b"%d\n" % step) for step in range(6)]
    reader = LineReader(timestamps=True)
    reader.feed(b"".join(log[:3]))
    reader.reopened()

    assert ["3", "4"] == texts(reader.feed(b"".join(log[2:5])))
    reader.reopened()
    assert ["5"] == texts(reader.feed(b"".join(log[2:])))


def test_a_cursor_without_a_latest_time() -> None:
    """A cursor without a latest time stands for messages of one time."""
    log = stamped(SECOND_NS, b"a\n") * 3 + stamped(SECOND_NS + 1, b"b\n") * 2

    reader = LineReader(timestamps=True, after=Cursor(SECOND_NS, 2))

    assert ["a", "b", "b"] == texts(reader.feed(log))


# The following tests compare with the obvious implementation.


@dataclass(frozen=True)
class Message:
    """One message of a log."""

    stream: int
    payload: bytes
    time_ns: int = SECOND_NS


PIECES = st.sampled_from([b"", b"a", b"bc", b"\r", b"\n", "ü".encode(), b"\xc3", b"x" * 40])
PAYLOADS = st.builds(
    lambda pieces, is_part: b"".join(pieces).ljust(PARTIAL_BYTES * is_part, b"-"),
    st.lists(PIECES, max_size=6),
    st.sampled_from([False, False, True]),
)
MESSAGES = st.lists(st.builds(Message, st.sampled_from([1, 2]), PAYLOADS), max_size=8)
CUTS = st.lists(st.integers(0, 70_000), max_size=12)


def obvious_lines(messages: Iterable[Message]) -> list[tuple[int, str]]:
    """Return the lines of messages, joined and split the slow and obvious way."""
    unfinished = {1: b"", 2: b""}
    lines = []
    for message in messages:
        *whole, last = (unfinished[message.stream] + message.payload).split(b"\n")
        is_part = len(message.payload) >= PARTIAL_BYTES and not message.payload.endswith(b"\n")
        if not is_part and (last or not message.payload.endswith(b"\n")):
            whole, last = [*whole, last], b""
        unfinished[message.stream] = last
        lines += [(message.stream, shown(line)) for line in whole]
    return lines + [(stream, shown(line)) for stream, line in unfinished.items() if line]


def shown(line: bytes) -> str:
    """Return what a terminal shows of a line."""
    return line.removesuffix(b"\r").split(b"\r")[-1].decode(errors="replace")


def in_chunks(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    """Return data split at some positions."""
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    return [data[start:stop] for start, stop in pairwise(places)]


def as_pairs(lines: Iterable[LogLine]) -> list[tuple[int, str]]:
    """Return the lines, parsed the obvious way."""
    return [({"stdout": 1, "stderr": 2}[line.stream], line.text) for line in lines]


@given(MESSAGES, CUTS)
def test_any_chunks(messages: list[Message], cuts: list[int]) -> None:
    """The lines of a log do not depend on how it is chunked."""
    data = b"".join(frame(message.payload, message.stream) for message in messages)
    reader = LineReader()

    lines = [line for chunk in in_chunks(data, cuts) for line in reader.feed(chunk)]

    expected = obvious_lines(messages)
    found = as_pairs([*lines, *reader.flush()])
    assert sorted(expected) == sorted(found)
    for stream in (1, 2):
        of_stream = [line for line in expected if line[0] == stream]
        assert of_stream == [line for line in found if line[0] == stream]


# Typical steps in time: mostly zero or small, sometimes long, and back by less than a window.
STEPS = st.sampled_from([0, 0, 1, 999, WINDOW_NS // 3, -WINDOW_NS // 3, WINDOW_NS, 5 * WINDOW_NS])


def with_times(messages: Iterable[Message], steps: Sequence[int]) -> list[Message]:
    """Return messages with the daemon's timestamps: a line has that of its first part."""
    newest_ns, begun_ns, timed = SECOND_NS, dict[int, int](), []
    for message, step in zip(messages, steps, strict=False):
        time_ns = begun_ns.pop(message.stream, newest_ns + step)
        if len(message.payload) >= PARTIAL_BYTES and not message.payload.endswith(b"\n"):
            begun_ns[message.stream] = time_ns
        newest_ns = max(newest_ns, time_ns)
        timed.append(Message(message.stream, message.payload, time_ns))
    return timed


def served(log: Iterable[Message], since_ns: int) -> bytes:
    """Return the bytes that the daemon sends for a log."""
    return b"".join(
        stamped(message.time_ns, message.payload, message.stream)
        for message in log
        if message.time_ns >= since_ns
    )


@given(
    st.lists(st.builds(Message, st.sampled_from([1, 2]), PAYLOADS), max_size=12),
    st.lists(STEPS, min_size=12, max_size=12),
    st.lists(st.integers(0, 70_000), max_size=4),
    CUTS,
)
def test_any_reconnects(
    messages: list[Message], steps: list[int], breaks: list[int], cuts: list[int]
) -> None:
    """Wherever the connection breaks, no line is lost or repeated."""
    log = with_times(messages, steps)
    reader = LineReader(timestamps=True, start_ns=0)

    lines = []
    for place in [*breaks, None]:
        since_ns = reader.cursor.time_ns if reader.cursor else 0
        for chunk in in_chunks(served(log, since_ns)[:place], cuts):
            lines += reader.feed(chunk)
        if place is not None:
            reader.reopened()

    # A reader without a break defines the expected lines and their order.
    calm = LineReader(timestamps=True)
    expected = [*calm.feed(served(log, 0)), *calm.flush()]
    assert expected == [*lines, *reader.flush()]


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=20),
    st.lists(STEPS, min_size=20, max_size=20),
    st.lists(st.integers(0, 20), max_size=4),
)
def test_any_other_readers(numbers: list[int], steps: list[int], handovers: list[int]) -> None:
    """Readers that resume at each other's cursors read every line exactly once."""
    payloads = [b"%d\n" % number for number in numbers]
    log = with_times([Message(1 + len(p) % 2, p) for p in payloads], steps)

    cursor, found = None, list[LogLine]()
    for consumed in [*sorted(handovers), len(log)]:
        reader = LineReader(timestamps=True, after=cursor, start_ns=0)
        found += reader.feed(served(log[:consumed], cursor.time_ns if cursor else 0))
        cursor = reader.cursor

    assert [str(number) for number in numbers] == texts(found)
