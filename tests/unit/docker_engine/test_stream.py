"""Decoding HTTP chunks."""

from __future__ import annotations

import http.client
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_torchx.docker_engine.stream import ChunkDecoder, LogStream

if TYPE_CHECKING:
    from collections.abc import Callable


def encoded(chunks: list[bytes], extension: bytes = b"") -> bytes:
    """Return content as HTTP chunks, including the last one."""
    parts = [b"%x%b\r\n%b\r\n" % (len(chunk), extension, chunk) for chunk in chunks if chunk]
    return b"".join([*parts, b"0\r\n\r\n"])


@given(
    st.lists(st.binary(max_size=30) | st.just(b"\r\n" * 5), max_size=8),
    st.lists(st.integers(0, 200), max_size=8),
    st.sampled_from([b"", b";name=value"]),
)
def test_any_chunks(chunks: list[bytes], cuts: list[int], extension: bytes) -> None:
    """The decoded content does not depend on how the stream is split into blocks."""
    data = encoded(chunks, extension)
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    decoder = ChunkDecoder()

    blocks = (data[start:stop] for start, stop in pairwise(places))
    content = b"".join([decoder.feed(block) for block in blocks if not decoder.is_done])

    assert b"".join(chunks) == content
    assert decoder.is_done


def test_chunk_is_not_waited_for() -> None:
    """The available part of an incomplete chunk is returned at once."""
    decoder = ChunkDecoder()

    assert [b"ab", b"cd", b""] == [decoder.feed(block) for block in (b"5\r\nab", b"cd", b"")]
    assert not decoder.is_done


@pytest.mark.parametrize("block", [b"<html>\r\n", b"-5\r\n", b"\r\n", b"f" * 2000])
def test_no_chunks(block: bytes) -> None:
    """A stream that is not chunked raises an error."""
    with pytest.raises(http.client.HTTPException, match="is not a chunk size"):
        ChunkDecoder().feed(block)


class ClosingResponse:
    """A response that another thread closes while it is read, as `http.client` then fails."""

    chunked, connection, _fp = False, None, None

    def __init__(self) -> None:
        self.on_read: Callable[[], object] = lambda: None

    def read1(self, _: int) -> bytes:
        """Fail."""
        self.on_read()
        raise AttributeError("'NoneType' object has no attribute 'close'")

    def shutdown(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def test_a_stream_that_is_closed_while_it_is_read() -> None:
    """It ends; an error of the same kind without a close is raised."""
    raw: Any = ClosingResponse()
    stream = LogStream(raw, what="read", url="unix:///d", follow=False)
    with pytest.raises(AttributeError):
        list(stream)

    raw.on_read = (closed := LogStream(raw, what="read", url="unix:///d", follow=False)).close

    assert [] == list(closed)
