"""The log of a replica, through a manager."""

from __future__ import annotations

import contextlib
import logging
import threading
from datetime import datetime
from typing import TYPE_CHECKING, Final

from airflow_torchx.concurrency.daemons import in_daemon
from airflow_torchx.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from airflow_torchx.docker_engine.stream import LogStream

_log = logging.getLogger(__name__)

_HEADER_BYTES: Final = 8
#: The first byte of a frame of the manager's own, like "incomplete log stream".
_SYSTEM: Final = 3
# Between two requests for which of the logs that are followed have ended.
_POLL_S: Final = 1.0


class TaskLog:
    """A log as a `ByteStream`, without the manager's own messages.

    The stream of a manager never ends (moby, ``logbroker``: "Follow subscriptions never end"). So
    with ``endings``, it is closed once the replica has ended; what is then still missing is in the
    stored log.

    Args:
        until: the end of what is wanted, as a manager takes none; None for no end. The stream has
            timestamps then.
    """

    def __init__(
        self,
        stream: LogStream,
        service_id: str,
        endings: Endings | None,
        until: Until | None = None,
    ) -> None:
        self._stream = stream
        self._service_id = service_id
        self._endings = endings
        self._until = until

    def __iter__(self) -> Iterator[bytes]:
        """Yield whole frames until the log ends, or until `close` is called.

        Raises:
            EngineUnreachableError: the connection was lost before the log ended.
        """
        if self._endings is not None:
            self._endings.follow(self._service_id, self.close)
        try:
            is_followed = self._endings is not None
            for frames in _programs_frames(self._stream, ends_with_error=is_followed):
                kept = frames if self._until is None else self._until.kept(frames)
                if kept:
                    yield b"".join(kept)
                if len(kept) < len(frames):
                    return
        finally:
            self.close()

    def close(self) -> None:
        """End the log, even while another thread waits for a chunk. Idempotent."""
        if self._endings is not None:
            self._endings.forget(self._service_id, self.close)
        self._stream.close()


class NoLog:
    """The log of a replica whose node does not answer: empty, where a manager would wait for it."""

    def __iter__(self) -> Iterator[bytes]:
        """Yield nothing."""
        yield from ()

    def close(self) -> None:
        """Do nothing."""


class Endings:
    """Closes the logs of replicas that have ended, with one request a second for all of them.

    A stream through a manager that has lost the others stays open, and may stay silent for good. So
    all logs are closed once a manager answers after one has not; their readers open them again.

    Args:
        live: returns which of some services have replicas that have not ended.
        unanswered: returns how many requests managers have not answered so far.
    """

    def __init__(
        self, live: Callable[[Collection[str]], set[str]], unanswered: Callable[[], int] = lambda: 0
    ) -> None:
        self._live = live
        self._unanswered = unanswered
        self._lock = threading.Lock()
        self._followed: dict[str, list[Callable[[], None]]] = {}
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def follow(self, service_id: str, close: Callable[[], None]) -> None:
        """Call ``close`` once the replica of a service has ended."""
        with self._lock:
            self._followed.setdefault(service_id, []).append(close)
            if self._thread is None:
                self._thread = in_daemon(self._run, "torchx-swarm-logs")

    def forget(self, service_id: str, close: Callable[[], None]) -> None:
        """Take back `follow`."""
        with self._lock:
            waiting = self._followed.get(service_id, [])
            with contextlib.suppress(ValueError):
                waiting.remove(close)
            if not waiting:
                self._followed.pop(service_id, None)

    def close(self) -> None:
        """End. Idempotent."""
        self._closed.set()

    def _run(self) -> None:
        seen = self._unanswered()
        while not self._closed.wait(_POLL_S):
            with self._lock:
                if not self._followed:
                    self._thread = None
                    return
                ids = list(self._followed)
            try:
                live = self._live(ids)
            except EngineError as why:
                _log.debug("cannot ask which replicas run: %s", why)
                continue
            before, seen = seen, self._unanswered()
            with self._lock:
                ended = [
                    close
                    for service_id in ids
                    if service_id not in live or seen != before
                    for close in self._followed.get(service_id, [])
                ]
            for close in ended:
                close()


class Until:
    """The end of a log, and whether its messages keep their timestamps."""

    def __init__(self, time_ns: int, *, timestamps: bool) -> None:
        self._time_ns = time_ns
        self._timestamps = timestamps

    def kept(self, frames: Sequence[bytes]) -> list[bytes]:
        """Return the frames up to the end."""
        found = []
        for frame in frames:
            stamp, _, text = frame[_HEADER_BYTES:].partition(b" ")
            if _nanoseconds(stamp.decode()) > self._time_ns:
                break
            own = frame[:4] + len(text).to_bytes(4, "big") + text
            found.append(frame if self._timestamps else own)
        return found


def _nanoseconds(stamp: str) -> int:
    """Return a time of the Engine API as nanoseconds since 1970."""
    whole, _, fraction = stamp.removesuffix("Z").partition(".")
    seconds = int(datetime.fromisoformat(f"{whole}+00:00").timestamp())
    return seconds * 10**9 + int(fraction.ljust(9, "0"))


def _programs_frames(
    chunks: Iterator[bytes] | LogStream, *, ends_with_error: bool
) -> Iterator[list[bytes]]:
    """Yield the frames of stdout and stderr, and log those of the manager.

    With ``ends_with_error``, one of the manager ends the log: its reader opens it again.
    """
    rest = b""
    for chunk in chunks:
        data, position, kept = rest + chunk, 0, list[bytes]()
        while len(data) - position >= _HEADER_BYTES:
            end = (
                position + _HEADER_BYTES + int.from_bytes(data[position + 4 : position + 8], "big")
            )
            if end > len(data):
                break
            if data[position] == _SYSTEM:
                text = data[position + _HEADER_BYTES : end].decode(errors="replace").strip()
                if ends_with_error:
                    _log.info("reading the log of a replica again: %s", text)
                    if kept:
                        yield kept
                    return
                _log.warning("the log of a replica is incomplete: %s", text)
            else:
                kept.append(data[position:end])
            position = end
        rest = data[position:]
        if kept:
            yield kept
