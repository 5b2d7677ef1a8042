"""A container's log as bytes, as fast as the daemon sends them."""

from __future__ import annotations

import contextlib
import http.client
import socket
import time
from typing import TYPE_CHECKING, Any, Final

from airflow_torchx.docker_engine.errors import asking
from airflow_torchx.errors import EngineUnreachableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from urllib3.response import HTTPResponse

_BLOCK_BYTES: Final = 262_144
_SHORT_BYTES: Final = 16_384
_PAUSE_S: Final = 0.0005
_MAX_SIZE_LINE_BYTES: Final = 1024


class ChunkDecoder:
    """Takes the HTTP chunks out of a stream, many at a time."""

    def __init__(self) -> None:
        self.is_done = False
        #: What is still to come of a chunk, with the two bytes that end it.
        self._left_bytes = 0
        #: The beginning of a line with the size of a chunk.
        self._size_line = b""

    def feed(self, block: bytes) -> bytes:
        """Return what the chunks in this block hold; nothing waits for the end of a chunk.

        Raises:
            http.client.HTTPException: this is no chunked stream.
        """
        data = self._size_line + block if self._size_line else block
        position = self._left_bytes
        content = [data[: max(position - 2, 0)]] if position else []
        append, find = content.append, data.find
        while (eol := find(b"\r\n", position)) >= 0:
            size = _size(data[position:eol])
            if not size:
                self.is_done = True
                break
            start = eol + 2
            append(data[start : start + size])
            position = start + size + 2
        self._left_bytes = max(position - len(data), 0)
        self._size_line = data[position:]
        if len(self._size_line) > _MAX_SIZE_LINE_BYTES and not self.is_done:
            raise _malformed(self._size_line)
        return b"".join(content)


class LogStream:
    """An open log as a `ByteStream`.

    Args:
        raw: urllib3's response, none of its content read yet.
        what: what cannot be done when the connection breaks, like ``read the log of 'a'``.
        url: the daemon.
        follow: hand out every message at once, and wait for the next one without a limit.
    """

    def __init__(self, raw: HTTPResponse, *, what: str, url: str, follow: bool) -> None:
        self._raw = raw
        self._what = what
        self._url = url
        self._follow = follow
        self._is_closed = False
        # The buffered socket itself, as Docker's SDK takes it too. The daemon makes a chunk of each
        # message, and urllib3's read1, the public way that holds nothing back, makes three calls
        # for each: a finished 64 MB log of 100-byte lines took 1.4 times as long and 1.8 times the
        # processor time. This way, made into lines, it takes no longer than `docker logs` to
        # /dev/null (speed ratio 1.0 to 1.8 on two busy cores, processor time 0.7).
        self._socket_file: Any = getattr(raw._fp, "fp", None)  # noqa: SLF001
        if follow and (sock := getattr(raw.connection, "sock", None)) is not None:
            sock.settimeout(None)
            _keep_alive(sock)

    def __iter__(self) -> Iterator[bytes]:
        """Yield chunks until the daemon ends the log, or until `close` is called.

        Raises:
            EngineUnreachableError: the connection broke before the daemon ended the log.
        """
        blocks = self._chunked() if self._raw.chunked and self._socket_file else self._plain()
        try:
            while block := self._next(blocks):
                yield block
        finally:
            self.close()

    def close(self) -> None:
        """End the log, also while another thread waits for its next chunk. Idempotent."""
        self._is_closed = True
        shut(self._raw)
        self._raw.close()

    def _next(self, blocks: Iterator[bytes]) -> bytes:
        try:
            with asking(self._what, self._url):
                return b"" if self._is_closed else next(blocks, b"")
        except (EngineUnreachableError, ValueError):  # ValueError: the file is closed
            if self._is_closed:
                return b""
            raise

    def _chunked(self) -> Iterator[bytes]:
        decoder = ChunkDecoder()
        while not decoder.is_done:
            block = self._socket_file.read1(_BLOCK_BYTES)
            if not block:
                msg = "it ended in the middle"
                raise ConnectionResetError(msg)
            if content := decoder.feed(block):
                yield content
            if len(block) < _SHORT_BYTES and not self._follow and not decoder.is_done:
                # Let some messages come together: with a wake-up for each, reader and daemon take
                # the processor from each other, and the reader needs 1.4 times as much of it.
                time.sleep(_PAUSE_S)

    def _plain(self) -> Iterator[bytes]:
        while block := self._raw.read1(_BLOCK_BYTES):
            yield block


def shut(raw: HTTPResponse) -> None:
    """End a response for the thread that reads it; it is not closed yet."""
    try:
        raw.shutdown()
    except (OSError, RuntimeError, ValueError):
        # Over ssh:// the socket is a pipe to a process, which ends when it is closed. Otherwise the
        # daemon was first, and nobody waits.
        if (sock := getattr(raw.connection, "sock", None)) is not None:
            sock.close()


def _keep_alive(sock: Any) -> None:  # noqa: ANN401 - over ssh:// it is a pipe to a process
    """Let the system notice within a minute that a quiet peer is gone, and keep routers awake."""
    if getattr(sock, "family", None) in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
            if option := getattr(socket, name, None):
                sock.setsockopt(socket.IPPROTO_TCP, option, value)


def _size(line: bytes) -> int:
    with contextlib.suppress(ValueError):
        if (size := int(line.partition(b";")[0], 16)) >= 0:
            return size
    raise _malformed(line)


def _malformed(line: bytes) -> http.client.HTTPException:
    return http.client.HTTPException(f"{line[:20]!r} is no size of a chunk")
