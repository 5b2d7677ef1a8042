"""Announces that GPUs of a daemon may have become free."""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING, Final, Self

from airflow_torchx.runtime.watch.event_reader import EventReader

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_torchx.core.engine.containers import ContainerEvent
    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.core.gpu.turn import Wait
    from airflow_torchx.errors import EngineError

#: A container ended, or one that never started was removed: a ticket, a claim, a section.
_FREES: Final = frozenset({"die", "destroy"})
# Seconds between looks after a ring: the list shows a container as running for a while after its
# end was announced. Measured: 130 ms at the median, at times 1 s, on two busy cores.
_LOOKS_S: Final = (0.05, 0.1, 0.2, 0.4, 0.8)
# Between two looks without a ring; a daemon may send no events.
_IDLE_S: Final = 5.0


class Pauses:
    """Seconds from a look to the next one: short at first, and after each ring."""

    def __init__(self) -> None:
        self.rang()

    def rang(self) -> None:
        """Let the next pauses be short."""
        self._left = iter(_LOOKS_S)

    def next_s(self, step: Wait | None) -> float:
        """Return the pause after a look at which an app had to wait; None if the look failed.

        An app with others before it can take nothing yet, so it waits for the next ring.
        """
        again_s = _IDLE_S if step is None or step.again_s is None else step.again_s
        pause_s = _IDLE_S if step is not None and step.ahead else next(self._left, _IDLE_S)
        return min(pause_s, again_s)


class GpuBell:
    """Calls each subscriber after an event that may have freed GPUs, and after each connect.

    It reads the events of all containers of a daemon in a thread of its own; also those of other
    programs may hold GPUs.
    """

    def __init__(self, connect: Callable[[], Engine]) -> None:
        self._lock = threading.Lock()
        self._is_open = False
        self._subscribers: dict[object, Callable[[], None]] = {}
        self._reader = EventReader(
            self,
            connect,
            random.SystemRandom().random,
            open_stream=lambda engine: engine.events(all_containers=True),
        )
        threading.Thread(target=self._reader.run, name="torchx-gpu-events", daemon=True).start()

    def add(self, ring: Callable[[], None]) -> object:
        """Subscribe; return what `drop` takes.

        ``ring`` is called in the thread of the bell, and at once if the stream is open already,
        because events before that were missed.
        """
        key = object()
        with self._lock:
            self._subscribers[key] = ring
            is_open = self._is_open
        if is_open:
            ring()
        return key

    def drop(self, key: object) -> None:
        """Unsubscribe."""
        with self._lock:
            del self._subscribers[key]

    def close(self) -> None:
        """Stop reading events."""
        self._reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def note(self, event: ContainerEvent) -> None:
        """Ring after an event that frees GPUs; called by the reader."""
        if event.action in _FREES:
            self._ring()

    def streaming(self, *, on: bool) -> None:
        """Ring once the stream is open, because events before it were missed."""
        with self._lock:
            self._is_open = on
        if on:
            self._ring()

    def failed(self, why: EngineError) -> None:
        """Do nothing: who waits looks without a ring, too."""

    def _ring(self) -> None:
        with self._lock:
            subscribers = list(self._subscribers.values())
        for ring in subscribers:
            ring()
