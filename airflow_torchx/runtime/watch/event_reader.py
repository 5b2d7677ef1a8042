"""The thread that reads the daemon's events and reconnects."""

from __future__ import annotations

import contextlib
import logging
import threading
from typing import TYPE_CHECKING, Final, Protocol

from airflow_torchx.errors import EngineError, EngineUnreachableError
from airflow_torchx.runtime.watch.clock import SYSTEM, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_torchx.core.engine.containers import ContainerEvent
    from airflow_torchx.core.engine.protocol import Engine, Stream
    from airflow_torchx.runtime.watch.clock import Clock

_log = logging.getLogger(__name__)

_FIRST_PAUSE_S: Final = 0.2
_LAST_PAUSE_S: Final = 5.0


class Listener(Protocol):
    """What an event reader reports to."""

    def note(self, event: ContainerEvent) -> None:
        """Take an event."""

    def streaming(self, *, on: bool) -> None:
        """Take that the stream was opened or has ended."""

    def failed(self, why: EngineError) -> None:
        """Take that the daemon did not answer."""


def _of_apps(engine: Engine) -> Stream[ContainerEvent]:
    return engine.events()


class EventReader:
    """Delivers events to a listener, and reconnects until it is closed.

    A jitter from 0 to 1 keeps many processes from reconnecting at once. ``open_stream`` returns the
    events; by default those of apps.
    """

    def __init__(
        self,
        listener: Listener,
        connect: Callable[[], Engine],
        jitter: Callable[[], float],
        clock: Clock = SYSTEM,
        open_stream: Callable[[Engine], Stream[ContainerEvent]] = _of_apps,
    ) -> None:
        self._listener = listener
        self._open_stream = open_stream
        self._connect = connect
        self._jitter = jitter
        self._clock = clock
        self._lock = threading.Condition()
        self._engine: Engine | None = None
        self._stream: Stream[ContainerEvent] | None = None
        self._is_closed = False
        self._pause_s = _FIRST_PAUSE_S

    @property
    def engine(self) -> Engine | None:
        """The daemon; None before its first answer."""
        return self._engine

    def engine_within(self, timeout_s: float) -> Engine | None:
        """Return the daemon; wait up to ``timeout_s`` seconds for its first answer."""
        with self._lock:
            until_s = self._clock() + timeout_s
            wait_for(self._clock, self._lock, lambda: self._engine or self._is_closed, until_s)
            return self._engine

    def run(self) -> None:
        """Read events until `close` is called."""
        while not self._is_closed:
            began_s = self._clock()
            try:
                with contextlib.closing(self._open()) as stream:
                    self._read(stream)
            except EngineUnreachableError as why:
                self._listener.failed(why)
            except EngineError as why:
                if self._engine is None:
                    self._listener.failed(why)
                _log.warning("the Docker Engine sends no events, so it is polled: %s", why)
            if self._clock() - began_s > _LAST_PAUSE_S:
                self._pause_s = _FIRST_PAUSE_S
            self._rest()

    def renew(self) -> None:
        """Close the event stream, which may be dead; `run` opens a new one."""
        with self._lock:
            stream = self._stream
        if stream is not None:
            stream.close()

    def close(self) -> None:
        """Stop reading."""
        with self._lock:
            self._is_closed = True
            self._lock.notify_all()
        self.renew()

    def _rest(self) -> None:
        """Pause before the next connection, each time longer."""
        with self._lock:
            until_s = self._clock() + self._pause_s * (0.5 + self._jitter() / 2)
            wait_for(self._clock, self._lock, lambda: self._is_closed, until_s)
        self._pause_s = min(self._pause_s * 2, _LAST_PAUSE_S)

    def _open(self) -> Stream[ContainerEvent]:
        engine = self._engine or self._connect()
        with self._lock:
            self._engine = engine
            self._lock.notify_all()
        stream = self._open_stream(engine)
        with self._lock:
            self._stream = stream
        if self._is_closed:
            stream.close()
        return stream

    def _read(self, stream: Stream[ContainerEvent]) -> None:
        self._listener.streaming(on=True)
        try:
            with contextlib.suppress(EngineUnreachableError):
                for event in stream:
                    self._listener.note(event)
        finally:
            with self._lock:
                self._stream = None
            self._listener.streaming(on=False)
