"""Wait for one app on an event loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from airflow_torchx.core.state.describe import Fail, Place, StopAuxiliary
from airflow_torchx.core.state.report import replica_name
from airflow_torchx.core.state.restarts import Restart, restart_of
from airflow_torchx.core.state.stall import interval, stalled_after
from airflow_torchx.core.state.trigger_event import make_event, trigger_event
from airflow_torchx.core.state.usage import MAX_STORED_BYTES
from airflow_torchx.errors import AppNotFoundError, EngineError
from airflow_torchx.runtime import lifecycle, placing, rounds
from airflow_torchx.runtime.save_alarm import ask_to_save
from airflow_torchx.runtime.stall import StallDetector
from airflow_torchx.runtime.usage import UsageMonitor
from airflow_torchx.runtime.watch import AppSnapshot, DaemonDown

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.core.state.trigger_event import AppEvent, Reason, WaitFor
    from airflow_torchx.core.state.usage import UsageHistory
    from airflow_torchx.runtime.watch import Mailbox, Notification, Watch
    from airflow_torchx.runtime.watch.snapshot_writer import SnapshotWriter
    from airflow_torchx.specs import DescribeAppResponse

_log = logging.getLogger(__name__)
_Answer = TypeVar("_Answer")

#: How long the daemon may be down: an upgrade or a reboot takes less.
OUTAGE_S: Final = 600.0
# A deadline in the past still waits this long for the first look.
_FIRST_LOOK_S: Final = 5.0
# Between two attempts to stop the other replicas.
_RETRY_S: Final = 5.0
# Between two attempts to place an app on the nodes of a swarm.
_PLACE_S: Final = 2.0
# After a restart.
_LOOK_AGAIN_S: Final = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Alarms:
    """When a wait ends without the app.

    Args:
        deadline_s: time of ``timeout``, in seconds since 1970; None for never.
        flush_s: time of ``flush``, likewise.
        save_s: when to send the checkpoint signal, likewise; this does not end the wait.
        outage_s: how long the daemon may be down, in seconds.
    """

    deadline_s: float | None = None
    flush_s: float | None = None
    save_s: float | None = None
    outage_s: float = OUTAGE_S


class AppWait:
    """One wait for one app, which carries out the app's failure policy meanwhile."""

    def __init__(
        self,
        app_id: str,
        wait_for: WaitFor,
        alarms: Alarms,
        now: Callable[[], float] = time.time,
        *,
        usage: UsageHistory | None = None,
        snapshots: SnapshotWriter | None = None,
    ) -> None:
        self._app_id = app_id
        self._wait_for = wait_for
        self._alarms = alarms
        self._now = now
        self._began_s = now()
        self._state: str | None = None
        self._looked = False
        self._down: DaemonDown | None = None
        #: When the outage has lasted too long.
        self._lost_s = 0.0
        self._acting: asyncio.Task[Any] | None = None
        self._save_s = alarms.save_s
        self._asking: asyncio.Task[Any] | None = None
        self._detecting: asyncio.Task[Any] | None = None
        self._sampling: asyncio.Task[Any] | None = None
        self._history = usage
        self._snapshots = snapshots
        self._monitor = UsageMonitor(usage)
        #: The app as it was seen last.
        self._app: DescribeAppResponse | None = None
        #: Why it waited for room at the last attempt to place it.
        self._waits = ""

    async def event(self, watch: Watch) -> AppEvent:
        """Wait, and return the event that ends the wait."""
        self._monitor = UsageMonitor(self._history, watch.clock, self._now)
        with watch.mailbox(app_id=self._app_id) as mailbox:
            try:
                while True:
                    notification = await mailbox.next(self._pause_s())
                    self._ask_to_save(watch)
                    step = (
                        self._alarm() if notification is None else self._step(watch, notification)
                    )
                    if isinstance(step, Fail | StopAuxiliary | Restart | Place):
                        self._act(watch, mailbox, step)
                    elif step is not None:
                        if self._snapshots is not None:
                            await self._snapshots.finish()
                        return self._with_usage(step)
            finally:
                if self._snapshots is not None:
                    self._snapshots.close()
                for work in (self._acting, self._asking, self._detecting, self._sampling):
                    if work is not None:
                        work.cancel()

    def _step(
        self, watch: Watch, notification: Notification
    ) -> AppEvent | Fail | StopAuxiliary | Restart | Place | None:
        if isinstance(notification, AppSnapshot):
            self._down, self._looked = None, True
            self._state = None if notification.app is None else notification.app.state.name
            self._app = notification.app
            if notification.app is not None and self._wait_for.condition is None:
                self._detect_stall(watch, notification.app)
                self._sample_usage(watch)
                if self._snapshots is not None:
                    self._snapshots.look(notification.app, self._monitor)
            return trigger_event(self._app_id, notification.app, self._wait_for)
        if isinstance(notification, DaemonDown):
            self._down, self._looked = notification, True
            down_s = watch.clock() - notification.since_s
            self._lost_s = self._now() - down_s + self._alarms.outage_s
        return None

    def _pause_s(self) -> float | None:
        """Return the seconds until the next alarm; None without one."""
        times = [at_s for at_s, _ in self._times()]
        if self._save_s is not None:
            times.append(self._save_s)
        return max(0.0, min(times) - self._now()) if times else None

    def _alarm(self) -> AppEvent | None:
        """Return the event of the first alarm that is due."""
        now = self._now()
        state = self._state or "unknown"
        messages: dict[Reason, str] = {
            "timeout": f"app {self._app_id!r} timed out in state {state}.",
            "flush": f"app {self._app_id!r} is in state {state}.",
        }
        if self._down is not None:
            messages["unreachable"] = str(self._down.why)
        for at_s, reason in self._times():
            if at_s <= now:
                return make_event(self._app_id, reason, self._state, messages[reason])
        return None

    def _times(self) -> list[tuple[float, Reason]]:
        """Return the times of all alarms, in seconds since 1970, by precedence."""
        found: list[tuple[float, Reason]] = []
        least_s = 0.0 if self._looked else self._began_s + _FIRST_LOOK_S
        if self._alarms.deadline_s is not None:
            found.append((max(least_s, self._alarms.deadline_s), "timeout"))
        if self._down is not None:
            found.append((self._lost_s, "unreachable"))
        if self._alarms.flush_s is not None:
            found.append((max(least_s, self._alarms.flush_s), "flush"))
        return found

    def _ask_to_save(self, watch: Watch) -> None:
        """Start to send the checkpoint signal if it is time."""
        if self._save_s is None or self._now() < self._save_s:
            return
        ask = partial(ask_to_save, app_id=self._app_id, due_s=self._save_s, now=self._now)
        self._save_s = None
        self._asking = asyncio.create_task(persist(watch, self._app_id, ask, "signal"))

    def _detect_stall(self, watch: Watch, app: DescribeAppResponse) -> None:
        """Start to look at the progress of the app, if its labels ask for that."""
        after_s = stalled_after(app)
        if self._detecting is None and after_s is not None:
            detecting = detect_stall(watch, self._app_id, after_s, self._monitor)
            self._detecting = asyncio.create_task(detecting)

    def _sample_usage(self, watch: Watch) -> None:
        """Start to read what the replicas use."""
        if self._sampling is None:
            sampling = watch.usage.sample(lambda: self._app, self._monitor)
            self._sampling = asyncio.create_task(sampling)

    def _with_usage(self, event: AppEvent) -> AppEvent:
        """Return an event with what the app has used, for the process that continues."""
        usage = self._monitor.to_json(MAX_STORED_BYTES)
        if usage:
            event["usage"] = usage
        if self._snapshots is not None:
            event["snapshot"] = self._snapshots.to_json()
        return event

    def _act(
        self, watch: Watch, mailbox: Mailbox, step: Fail | StopAuxiliary | Restart | Place
    ) -> None:
        """Start to stop, place or restart replicas, unless one of these is in progress.

        The daemon alone is enough for that, so the task need not be resumed.
        """
        if self._acting is not None and not self._acting.done():
            return
        call = partial(lifecycle.cancel, app_id=self._app_id)
        match step:
            case Restart():
                restart = partial(rounds.restart, app_id=self._app_id)
                self._acting = asyncio.create_task(self._restart(watch, mailbox, restart))
                return
            case Place():
                self._acting = asyncio.create_task(self._place(watch, mailbox, self._app))
                return
            case Fail(lost):
                _log.info("replica %s failed; stopping the other replicas", replica_name(lost))
            case StopAuxiliary(roles, grace_s):
                names = ", ".join(roles)
                _log.info("every essential replica has ended; stopping %s", names)
                call = partial(call, roles=roles, grace_s=grace_s)
        self._acting = asyncio.create_task(persist(watch, self._app_id, call, "stop"))

    async def _restart(
        self,
        watch: Watch,
        mailbox: Mailbox,
        restart: Callable[[Engine], DescribeAppResponse | None],
    ) -> None:
        """Restart the app, and look at it again."""
        found = await persist(watch, self._app_id, restart, "restart")
        if found is not None and restart_of(found) is not None:
            # Events report the new round, unless another client makes it.
            await asyncio.sleep(_LOOK_AGAIN_S)
        mailbox.put(AppSnapshot(self._app_id, found))

    async def _place(
        self, watch: Watch, mailbox: Mailbox, seen: DescribeAppResponse | None
    ) -> None:
        """Place the app on the nodes of its swarm, and look at it again.

        While it waits for the same reason, only the watch looks at it, with all other apps.
        """
        place = partial(placing.place, app_id=self._app_id)
        is_same = True
        while is_same:
            why = await persist(watch, self._app_id, place, "place") or ""
            await asyncio.sleep(_PLACE_S)
            is_same = bool(why) and why == self._waits and self._app is seen
            self._waits = why
        observe = partial(lifecycle.observe, app_id=self._app_id)
        found = await persist(watch, self._app_id, observe, "describe")
        mailbox.put(AppSnapshot(self._app_id, found))


async def persist(
    watch: Watch, app_id: str, request: Callable[[Engine], _Answer], verb: str
) -> _Answer | None:
    """Make a request about an app; retry until the daemon has done it, or the app is gone."""
    while True:
        try:
            return await watch.ask(request)
        except AppNotFoundError:
            return None
        except EngineError as error:
            _log.warning("cannot %s app %s, retrying: %s", verb, app_id, error)
            await asyncio.sleep(_RETRY_S)


async def detect_stall(watch: Watch, app_id: str, after_s: float, usage: UsageMonitor) -> None:
    """Look at the progress of an app until the task is cancelled; stop the app if it makes none."""
    detector = StallDetector(watch.clock, usage)

    def check(engine: Engine) -> None:
        if (app := lifecycle.observe(engine, app_id)) is not None:
            detector.check(engine, app)

    while True:
        with contextlib.suppress(EngineError):  # another notification reports an outage
            await watch.observe(check)
        await asyncio.sleep(interval(after_s))
