"""Wait on an event loop until GPUs are claimed for an app."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING, Final

from airflow_torchx.concurrency.parallel import StopRequested
from airflow_torchx.core.gpu.report import lost_place_text
from airflow_torchx.core.state.trigger_event import make_event
from airflow_torchx.errors import EngineError, EngineUnreachableError
from airflow_torchx.runtime.gpus.queue import DEFERRED, Claim, GpuQueue, TicketLost
from airflow_torchx.runtime.gpus.wait_log import WaitLog
from airflow_torchx.runtime.watch.gpu_events import AttemptBackoff

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.core.gpu.demand import GpuDemand
    from airflow_torchx.core.gpu.turn import Blocked
    from airflow_torchx.core.state.trigger_event import AppEvent, Reason
    from airflow_torchx.runtime.watch import Watch
    from airflow_torchx.runtime.watch.app_wait import Alarms

_log = logging.getLogger(__name__)

# Between two attempts to leave the queue of a daemon that does not answer.
_RETRY_S: Final = 5.0


class GpuWait:
    """One wait for GPUs; it claims them when it is the app's turn.

    Args:
        demand: what the app needs.
        alarms: when the wait ends without GPUs.
        is_wanted: whether the task still waits for this wait; asked when the app has lost its place
            in the queue.
    """

    def __init__(
        self,
        app_id: str,
        demand: GpuDemand,
        alarms: Alarms,
        is_wanted: Callable[[], Awaitable[bool]],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._app_id = app_id
        self._demand = demand
        self._alarms = alarms
        self._is_wanted = is_wanted
        self._may_join = False
        self._now = now
        self._queue: GpuQueue | None = None
        self._log: WaitLog | None = None
        self._message = "waiting for GPUs"
        self._down_since_s: float | None = None

    async def event(self, watch: Watch) -> AppEvent:
        """Wait, and return the event that ends the wait.

        The app keeps its place in the queue, unless GPUs were claimed. It never returns if the app
        has lost its place and is not wanted any more.
        """
        with watch.gpu_changes() as changed:
            backoff = AttemptBackoff()
            while True:
                step: Claim | Blocked | None = None
                try:
                    step = await watch.ask(self._attempt)
                    self._down_since_s = None
                except TicketLost:
                    await self._rejoin()
                    continue
                except EngineUnreachableError as why:
                    self._down_since_s = self._down_since_s or self._now()
                    self._message = str(why)
                except EngineError as why:
                    # The task asks for GPUs itself. It pulls an image that was removed, or raises.
                    return self._fired("gone", str(why))
                if isinstance(step, Claim):
                    gpus = ", ".join(step.ids)
                    _log.info("claimed %s for app %s", gpus, self._app_id)
                    return self._fired("claimed", f"app {self._app_id!r} has {gpus}.")
                if step is not None and self._log is not None:
                    self._message = self._log.note(step)
                if (alarm := self._alarm()) is not None:
                    return alarm
                await self._pause(backoff, changed, step)

    async def release(self, watch: Watch) -> None:
        """Leave the queue, and give up claimed GPUs; retry until the daemon has done it."""
        while True:
            try:
                await watch.ask(lambda engine: self._queue_on(engine).release())
            except EngineError as error:
                _log.warning("cannot leave the queue for GPUs, retrying: %s", error)
                await asyncio.sleep(_RETRY_S)
            else:
                return

    def _attempt(self, engine: Engine) -> Claim | Blocked | None:
        """Attempt once; return None if the wait ends while another client holds the lock."""
        queue = self._queue_on(engine)
        if self._log is None:
            self._log = WaitLog(engine.info().host, self._now)
        may_join, self._may_join = self._may_join, False
        try:
            return queue.attempt(may_join=may_join)
        except StopRequested:
            if not self._is_over():
                raise
            return None

    async def _rejoin(self) -> None:
        """Let the next attempt queue up again.

        After a clear, the next attempt of the task removes the places of this one, and Airflow ends
        this wait a little later.
        """
        if not await self._is_wanted():
            await asyncio.get_running_loop().create_future()
        _log.warning("%s", lost_place_text(self._app_id))
        self._may_join = True

    def _queue_on(self, engine: Engine) -> GpuQueue:
        if self._queue is None:
            self._queue = GpuQueue(engine, self._demand, DEFERRED, should_stop=self._is_over)
        return self._queue

    def _is_over(self) -> bool:
        """Whether the wait has lasted too long, although the daemon answers."""
        now = self._now()
        return any(at <= now for at, reason in self._times() if reason != "unreachable")

    def _alarm(self) -> AppEvent | None:
        now = self._now()
        return next((self._fired(r, self._message) for at, r in self._times() if at <= now), None)

    def _times(self) -> Iterator[tuple[float, Reason]]:
        """Yield the times of all alarms, in seconds since 1970, by precedence."""
        if self._alarms.deadline_s is not None:
            yield self._alarms.deadline_s, "timeout"
        if self._demand.until_s is not None:
            yield self._demand.until_s, "busy"
        if self._down_since_s is not None:
            yield self._down_since_s + self._alarms.outage_s, "unreachable"

    async def _pause(
        self, backoff: AttemptBackoff, changed: asyncio.Event, step: Blocked | None
    ) -> None:
        """Wait for an event, an alarm, or until the next attempt."""
        now = self._now()
        pause_s = min([backoff.next_s(step), *(max(0.0, at - now) for at, _ in self._times())])
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await changed.wait()
        if changed.is_set():
            changed.clear()
            backoff.reset()

    def _fired(self, reason: Reason, message: str) -> AppEvent:
        return make_event(self._app_id, reason, None, message)
