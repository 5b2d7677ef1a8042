"""Container logs: messages, frames and limits."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from airflow_torchx.core.engine.containers import LogQuery
from airflow_torchx.errors import EngineNotFoundError
from tests.contract.bench import unframed, wait_for
from tests.contract.script import Script

if TYPE_CHECKING:
    from tests.contract.bench import Bench

# A daemon reads the two streams of a container independently, and a busy one reads them late: only
# a line that is written after the daemon has read the one before comes after it in the log.
MIXED = Script(lines=("a", ("stderr", "b"), "c", ("stderr", "d")), every_s=0.3, awaits_reading=True)
A, B, C, D = ("stdout", b"a\n"), ("stderr", b"b\n"), ("stdout", b"c\n"), ("stderr", b"d\n")
STAMPED = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{1,9}Z) (.*)", re.DOTALL)


def test_streams(bench: Bench) -> None:
    """A log has both streams in the order of writing, or one of them alone."""
    container_id = bench.run_line_by_line(MIXED)

    assert [A, B, C, D] == bench.log(container_id)
    assert [A, C] == bench.log(container_id, LogQuery(streams="stdout"))
    assert [B, D] == bench.log(container_id, LogQuery(streams="stderr"))


def test_tail(bench: Bench) -> None:
    """A tail counts the messages of both streams, even if one is selected."""
    container_id = bench.run_line_by_line(MIXED)

    assert [C, D] == bench.log(container_id, LogQuery(tail=2))
    assert [D] == bench.log(container_id, LogQuery(tail=2, streams="stderr"))
    assert [A, B, C, D] == bench.log(container_id, LogQuery(tail=9))
    assert [] == bench.log(container_id, LogQuery(tail=0))


def test_tail_since(bench: Bench) -> None:
    """Of the messages at the end, those are left out that are older than a moment."""
    container_id = bench.run_line_by_line(MIXED)
    _, b, _, d = (time_ns for _, time_ns, _ in stamps(bench, container_id))

    assert [C, D] == bench.log(container_id, LogQuery(tail=2, since_ns=b))
    assert [D] == bench.log(container_id, LogQuery(tail=3, since_ns=d))
    assert [B, C, D] == bench.log(container_id, LogQuery(tail=9, since_ns=b))


def test_timestamps(bench: Bench) -> None:
    """With timestamps, each message starts with its UTC time in nanoseconds."""
    began = time.time()
    container_id = bench.run_line_by_line(MIXED)

    stamped = stamps(bench, container_id)

    assert [A, B, C, D] == [(stream, data) for stream, _, data in stamped]
    times = [time_ns / 1e9 for _, time_ns, _ in stamped]
    assert began - 0.1 < times[0]
    assert times[-1] < time.time() + 0.1
    assert all(before < after for before, after in pairwise(times))


def test_since_and_until(bench: Bench) -> None:
    """The limits since and until are inclusive, to the nanosecond."""
    container_id = bench.run_line_by_line(MIXED)
    a, b, c, d = (time_ns for _, time_ns, _ in stamps(bench, container_id))

    def span(since_ns: int | None, until_ns: int | None) -> list[tuple[str, bytes]]:
        return bench.log(container_id, LogQuery(since_ns=since_ns, until_ns=until_ns))

    assert [B, C, D] == span(b, None)
    assert [C, D] == span(b + 1, None)
    assert [A, B, C] == span(None, c)
    assert [A, B] == span(None, c - 1)
    assert [B, C] == span(b, c)
    assert [A, B, C, D] == span(a, d)
    assert [] == span(d + 1, None)


def test_follow(bench: Bench) -> None:
    """A followed log yields past and new messages, and ends with the run."""
    script = replace(MIXED, lines=MIXED.lines[:3], then_s=0.3)
    container_id = bench.run_until_it_writes(script)

    stream = bench.engine.logs(container_id, LogQuery(follow=True))
    bench.read(container_id, 1)
    bench.read(container_id, 2)

    assert [A, B, C] == unframed(stream)
    assert "exited" == bench.ended(container_id).state


def test_follow_tail(bench: Bench) -> None:
    """A tail limits the past messages of a followed log, not the new ones."""
    # It writes on, however long the daemon takes to open the log.
    lines = [("stdout", b"%d\n" % number) for number in range(600)]
    script = Script(lines=tuple(data for _, data in lines), every_s=0.1)
    container_id = bench.run_until_it_writes(script)
    past = bench.log(container_id)

    with closing(bench.engine.logs(container_id, LogQuery(follow=True, tail=0))) as stream:
        chunks = iter(stream)
        new = unframed([next(chunks), next(chunks)])

    begin = lines.index(new[0])
    assert lines[: len(past)] == past
    assert begin >= len(past) > 0
    assert lines[begin : begin + len(new)] == new


def test_follow_one_run(bench: Bench) -> None:
    """A followed log ends with the current run, even if the container restarts."""
    spec = replace(bench.spec(Script(lines=("a",), then_s=None)), max_restarts=5)
    container_id = bench.run_until_it_writes(spec)
    chunks = iter(bench.engine.logs(container_id, LogQuery(follow=True)))
    first = next(chunks)

    bench.fail(container_id)

    assert [A] == unframed([first, *chunks])
    wait_for(lambda: [A, A] == bench.log(container_id))


@pytest.mark.parametrize("state", ["created", "exited"])
def test_follow_without_a_run(bench: Bench, state: str) -> None:
    """Following a container that does not run yields its past messages and ends."""
    script = Script(lines=("a",))
    container_id = (bench.create if state == "created" else bench.run_to_its_end)(script)

    assert [A] * (state == "exited") == bench.log(container_id, LogQuery(follow=True))


def test_follow_until_stopped(bench: Bench) -> None:
    """A followed log ends when another client stops the container."""
    container_id = bench.run_until_it_writes(Script(lines=("a",), then_s=None))
    chunks = iter(bench.engine.logs(container_id, LogQuery(follow=True)))
    first = next(chunks)

    bench.engine.stop(container_id, 1)

    assert [A] == unframed([first, *chunks])


def test_close_from_another_thread(bench: Bench) -> None:
    """Closing a stream ends a blocked read, and closing it again is allowed."""
    container_id = bench.run_until_it_writes(Script(lines=("a",), then_s=None))
    stream = bench.engine.logs(container_id, LogQuery(follow=True))
    chunks = iter(stream)
    first = next(chunks)

    with ThreadPoolExecutor() as threads:
        others = threads.submit(list, chunks)
        stream.close()
        stream.close()

        assert [A] == unframed([first, *others.result()])
    assert "running" == bench.row(container_id).state


def test_close_before_reading(bench: Bench) -> None:
    """A stream that is closed before it is read yields nothing."""
    container_id = bench.run_until_it_writes(Script(lines=("a",), then_s=None))
    stream = bench.engine.logs(container_id, LogQuery(follow=True))

    stream.close()

    assert [] == unframed(stream)


def test_long_lines(bench: Bench) -> None:
    """A long line is split into messages of 16 KiB, and only the last ends with a newline."""
    container_id = bench.run_to_its_end(Script(lines=("x" * 40_000, "y" * 32_768, "z")))

    lengths = [(len(data), data[:1], data[-1:]) for _, data in bench.log(container_id)]

    assert [
        (16_384, b"x", b"x"),
        (16_384, b"x", b"x"),
        (40_000 - 2 * 16_384 + 1, b"x", b"\n"),
        (16_384, b"y", b"y"),
        (16_384, b"y", b"y"),
        (1, b"\n", b"\n"),
        (2, b"z", b"\n"),
    ] == lengths


def test_invalid_utf8(bench: Bench) -> None:
    """An invalid UTF-8 byte becomes U+FFFD; a missing last newline stays missing."""
    said = (b"\xff\xe2\x82 \x00 \r\n", b"half ", b"a line\nand", b" no end")
    container_id = bench.run_to_its_end(Script(lines=said, every_s=0.05))

    assert [
        ("stdout", "\ufffd\ufffd\ufffd \0 \r\n".encode()),
        ("stdout", b"half a line\n"),
        ("stdout", b"and no end"),
    ] == bench.log(container_id)


def test_character_cut_in_two(bench: Bench) -> None:
    """A character that crosses the 16 KiB limit becomes one U+FFFD per byte."""
    container_id = bench.run_to_its_end(Script(lines=("x" + "é" * 10_000,)))

    first, second = bench.log(container_id)

    assert ("stdout", ("x" + "é" * 8_191 + "\ufffd").encode()) == first
    assert ("stdout", ("\ufffd" + "é" * 1_808 + "\n").encode()) == second


def test_logs_gone(bench: Bench) -> None:
    """A removed container has no log."""
    container_id = bench.run_to_its_end(Script(lines=("a",)))
    bench.engine.remove(container_id)

    with pytest.raises(EngineNotFoundError):
        bench.engine.logs(container_id, LogQuery())


def test_remove_ends_follow(bench: Bench) -> None:
    """A followed log ends when another client removes the container."""
    container_id = bench.run_until_it_writes(Script(lines=("a",), then_s=None))
    chunks = iter(bench.engine.logs(container_id, LogQuery(follow=True)))
    # A daemon answers before it has opened the file of the log.
    first = next(chunks)

    bench.engine.remove(container_id)

    assert [A] == unframed([first, *chunks])


def stamps(bench: Bench, container_id: str) -> list[tuple[str, int, bytes]]:
    """Return stream, timestamp in nanoseconds and text of each message."""
    found = []
    for stream, data in bench.log(container_id, LogQuery(timestamps=True)):
        match = STAMPED.fullmatch(data)
        assert match
        whole, fraction = match[1].decode().removesuffix("Z").split(".")
        seconds = int(datetime.fromisoformat(f"{whole}+00:00").timestamp())
        found.append((stream, seconds * 10**9 + int(fraction.ljust(9, "0")), match[2]))
    return found
