"""Streams of a fake daemon: logs and archives of containers, and the events of all."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NamedTuple

from airflow_torchx.testing.output import frames

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from airflow_torchx.core.engine.containers import ContainerEvent, LogQuery
    from airflow_torchx.testing.output import Message


class LogSnapshot(NamedTuple):
    """The log at one moment, and whether more can follow."""

    messages: list[Message]
    live: bool


class FakeStream:
    """A log as a `ByteStream`, whose frames may span chunks; ``read`` raises during an outage."""

    def __init__(
        self,
        query: LogQuery,
        read: Callable[[], LogSnapshot],
        pause: Callable[[], None],
        chunk_bytes: int,
    ) -> None:
        self._query = query
        self._read = read
        self._pause = pause
        self._chunk_bytes = chunk_bytes
        self._closed = threading.Event()
        self._position = 0
        if query.tail is not None:
            self._position = max(0, len(read().messages) - query.tail)

    def __iter__(self) -> Iterator[bytes]:
        """Yield chunks until the container's run ends, or the log if it is not followed."""
        live = True
        while live and not self._closed.is_set():
            messages, live = self._read()
            new = messages[self._position :]
            self._position = len(messages)
            yield from self._chunks(b"".join(frames(new, self._query)))
            live = live and not self._is_past(new)
            if live:
                self._pause()

    def close(self) -> None:
        """End the stream."""
        self._closed.set()

    def _chunks(self, data: bytes) -> Iterator[bytes]:
        for start in range(0, len(data), self._chunk_bytes):
            if self._closed.is_set():
                return
            yield data[start : start + self._chunk_bytes]

    def _is_past(self, messages: list[Message]) -> bool:
        until_ns = self._query.until_ns
        return until_ns is not None and any(entry.stamp_ns > until_ns for entry in messages)


class FakeEvents:
    """The container events of all apps, or of all containers, from now on, as a `Stream`.

    ``read`` returns all events of the daemon so far, and raises during an outage.
    """

    def __init__(
        self,
        read: Callable[[], Sequence[ContainerEvent]],
        pause: Callable[[], None],
        *,
        all_containers: bool = False,
    ) -> None:
        self._all_containers = all_containers
        self._read = read
        self._pause = pause
        self._closed = threading.Event()
        self._position = len(read())

    def __iter__(self) -> Iterator[ContainerEvent]:
        """Yield events until the stream is closed."""
        while not self._closed.is_set():
            new = self._read()[self._position :]
            self._position += len(new)
            for event in new:
                if (event.app_id or self._all_containers) and not self._closed.is_set():
                    yield event
            self._pause()

    def close(self) -> None:
        """End the stream."""
        self._closed.set()


class FakeArchive:
    """A tar as a `ByteStream`."""

    def __init__(self, content: bytes, chunk_bytes: int) -> None:
        self._content = content
        self._chunk_bytes = chunk_bytes
        self._closed = threading.Event()

    def __iter__(self) -> Iterator[bytes]:
        """Yield chunks until the end of the tar."""
        for start in range(0, len(self._content), self._chunk_bytes):
            if self._closed.is_set():
                return
            yield self._content[start : start + self._chunk_bytes]

    def close(self) -> None:
        """End the stream."""
        self._closed.set()
