"""The log of a fake container, and the events of all, on their way to a reader."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NamedTuple

from airflow_torchx.testing.output import frames

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from airflow_torchx.core.engine.containers import ContainerEvent, LogQuery
    from airflow_torchx.testing.output import Message


class Look(NamedTuple):
    """What the log holds at one moment, and whether more can come."""

    messages: list[Message]
    live: bool


class FakeStream:
    """A log as a `ByteStream`.

    Args:
        query: what of it to yield.
        look: returns the log as it is, or raises when the daemon is down.
        pause: waits a little for more.
        chunk_bytes: size of a chunk at most: frames begin and end anywhere in it.
    """

    def __init__(
        self,
        query: LogQuery,
        look: Callable[[], Look],
        pause: Callable[[], None],
        chunk_bytes: int,
    ) -> None:
        self._query = query
        self._look = look
        self._pause = pause
        self._chunk_bytes = chunk_bytes
        self._closed = threading.Event()
        self._seen = 0
        if query.tail is not None:
            self._seen = max(0, len(look().messages) - query.tail)

    def __iter__(self) -> Iterator[bytes]:
        """Yield chunks until the container's run ends, or the log if nobody follows it."""
        live = True
        while live and not self._closed.is_set():
            messages, live = self._look()
            new = messages[self._seen :]
            self._seen = len(messages)
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
    """What happens to the containers of apps from now on, as a `Stream`.

    Args:
        look: returns all that has happened on the daemon, or raises when it is down.
        pause: waits a little for more.
    """

    def __init__(
        self, look: Callable[[], Sequence[ContainerEvent]], pause: Callable[[], None]
    ) -> None:
        self._look = look
        self._pause = pause
        self._closed = threading.Event()
        self._seen = len(look())

    def __iter__(self) -> Iterator[ContainerEvent]:
        """Yield events until the stream is closed."""
        while not self._closed.is_set():
            new = self._look()[self._seen :]
            self._seen += len(new)
            for event in new:
                if event.app_id and not self._closed.is_set():
                    yield event
            self._pause()

    def close(self) -> None:
        """End the stream."""
        self._closed.set()
