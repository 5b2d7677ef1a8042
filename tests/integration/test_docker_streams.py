"""Logs and files, where their connection breaks, is quiet or is closed."""

from __future__ import annotations

import io
import struct
import tarfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import pytest

from airflow_torchx.core.engine.containers import LogQuery
from airflow_torchx.errors import EngineUnreachableError
from tests.integration.stub import Request, Stub, chunked, connect, opened, saying

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LINE: Final = struct.pack(">BxxxI", 1, 2) + b"a\n"


@pytest.mark.parametrize(
    "answer",
    [
        chunked(LINE, end=False),
        [*chunked(LINE, end=False), b"a"],
        [*chunked(LINE, end=False), b"a\r\n123"],
        [b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n", LINE],
    ],
    ids=["between", "in the size", "in a chunk", "without chunks"],
)
@pytest.mark.parametrize("follow", [False, True])
def test_cut_log(address: Path, answer: list[bytes], *, follow: bool) -> None:
    """A broken connection is an error anywhere in a log, after the lines that came before it."""

    def cut(_: Request) -> Iterator[bytes]:
        yield from answer
        raise ConnectionError

    came: list[bytes] = []
    with Stub(cut, address), connect(address) as engine:
        stream = engine.logs("c", LogQuery(follow=follow))
        with pytest.raises(EngineUnreachableError, match="cannot read the log of container c"):
            came.extend(stream)

    assert b"".join(came).startswith(LINE)


@pytest.mark.parametrize(
    "answer",
    [chunked(LINE, LINE), [b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n", LINE, LINE]],
    ids=["chunked", "plain"],
)
def test_whole_log(address: Path, answer: list[bytes]) -> None:
    """A log that the daemon ends is whole, and its connection is closed."""
    with Stub(saying(answer), address) as stub, connect(address) as engine:
        assert LINE * 2 == b"".join(engine.logs("c", LogQuery()))
        assert "GET /containers/c/logs" == stub.asked[0].partition("?")[0]


def test_quiet_log(address: Path) -> None:
    """A follow waits for a line longer than a request may take, and hands it out at once."""
    came = threading.Event()

    def answer(_: Request) -> Iterator[bytes]:
        head, line, end = chunked(LINE)
        yield head
        time.sleep(2.5 * engine.client.timeout)
        yield line
        came.wait()
        yield end

    with Stub(answer, address), connect(address, timeout_s=0.3) as engine:
        lines = iter(opened(engine, lambda: engine.logs("c", LogQuery(follow=True))))
        assert LINE == next(lines)
        came.set()
        assert [] == list(lines)


def test_close_without_reading(address: Path) -> None:
    """A log may be closed before it is read, twice, and yields nothing then."""
    with Stub(saying(chunked(LINE)), address), connect(address) as engine:
        stream = engine.logs("c", LogQuery())
        stream.close()
        stream.close()

        assert [] == list(stream)


def test_close_while_waiting(address: Path) -> None:
    """Closing a log ends a read that waits in another thread, and is no error there."""
    leave = threading.Event()

    def answer(_: Request) -> Iterator[bytes]:
        yield from chunked(LINE, end=False)
        leave.wait()

    with Stub(answer, address), connect(address) as engine, ThreadPoolExecutor() as pool:
        stream = engine.logs("c", LogQuery(follow=True))
        chunks_of = iter(stream)
        first = next(chunks_of)
        reading = pool.submit(list, chunks_of)
        stream.close()
        others = reading.result()
        leave.set()

    assert (LINE, []) == (first, others)


def test_cut_file(address: Path) -> None:
    """A file whose archive is cut is an error, not a shorter file."""
    packed = io.BytesIO()
    member = tarfile.TarInfo("f")
    member.size = 2000
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.addfile(member, io.BytesIO(bytes(2000)))

    for answer in (chunked(packed.getvalue()[:1000], end=False), chunked(packed.getvalue()[:1000])):

        def cut(_: Request, answer: list[bytes] = answer) -> Iterator[bytes]:
            yield from answer
            raise ConnectionError

        with (
            Stub(cut, address),
            connect(address) as engine,
            pytest.raises(EngineUnreachableError, match="cannot read /f of container c"),
        ):
            engine.read_file("c", "/f", 10_000)
