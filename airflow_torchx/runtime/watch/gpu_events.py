"""Notifies those that wait for GPUs of a daemon when some may have become free."""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING, Final, Self

from airflow_torchx.core.gpu.events import may_free
from airflow_torchx.runtime.watch.event_reader import EventReader

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_torchx.core.engine.containers import ContainerEvent
    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.core.gpu.turn import Blocked
    from airflow_torchx.errors import EngineError

# Seconds between attempts after an event: the list shows a container as running for a while after
# its end was announced. Measured: 130 ms at the median, at times 1 s, on two busy cores.
_RETRIES_S: Final = (0.05, 0.1, 0.2, 0.4, 0.8)
# Between two attempts without an event.
_IDLE_S: Final = 5.0
# The same if the daemon sends no events, as a proxy may forbid them. Several apps may be able to
# take GPUs at once, and each one gives those before it a second to do so.
_UNNOTIFIED_S: Final = 0.5


class AttemptBackoff:
    """Seconds from an attempt to the next one: short at first, and after each event."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Let the next pauses be short."""
        self._left = iter(_RETRIES_S)

    def next_s(self, step: Blocked | None, *, has_events: bool = True) -> float:
        """Return the pause after an attempt at which an app had to wait; None if it failed.

        An app with two others before it can do nothing yet, so it waits for the next event. The
        second one has to see in time whether the first one takes its GPUs, and may be the first one
        at its next attempt. ``has_events`` is whether the daemon sends events at the moment; it
        does not matter for a deferred task, whose ticket others respect for a minute.
        """
        again_s = _IDLE_S if step is None or step.again_s is None else step.again_s
        is_near = step is not None and len(step.ahead) <= 1
        idle_s = _IDLE_S if has_events or step is None else _UNNOTIFIED_S
        short_s = next(self._left, _IDLE_S) if is_near or step is None else _IDLE_S
        return min(short_s, idle_s, again_s)


class GpuEvents:
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

    @property
    def is_open(self) -> bool:
        """Whether the daemon sends events at the moment."""
        return self._is_open

    def subscribe(self, notify: Callable[[], None]) -> object:
        """Subscribe; return what `unsubscribe` takes.

        ``notify`` is called in the thread of the reader, and at once if the stream is open already,
        because events before that were missed.
        """
        key = object()
        with self._lock:
            self._subscribers[key] = notify
            is_open = self._is_open
        if is_open:
            notify()
        return key

    def unsubscribe(self, key: object) -> None:
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
        """Notify after an event that may free GPUs; called by the reader."""
        if may_free(event):
            self._notify()

    def streaming(self, *, on: bool) -> None:
        """Notify once the stream is open, because events before it were missed."""
        with self._lock:
            self._is_open = on
        if on:
            self._notify()

    def failed(self, why: EngineError) -> None:
        """Do nothing: an app that waits also tries without events."""

    def _notify(self) -> None:
        with self._lock:
            subscribers = list(self._subscribers.values())
        for notify in subscribers:
            notify()
