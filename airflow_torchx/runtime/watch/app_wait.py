"""Waiting for one app on an event loop."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from airflow_torchx.core.state.describe import Fail
from airflow_torchx.core.state.report import replica_name
from airflow_torchx.core.state.trigger_event import make_event, trigger_event
from airflow_torchx.errors import AppNotFoundError, EngineError
from airflow_torchx.runtime import lifecycle
from airflow_torchx.runtime.watch import AppSnapshot, DaemonDown

if TYPE_CHECKING:
    from airflow_torchx.core.state.trigger_event import AppEvent, Reason, WaitFor
    from airflow_torchx.runtime.watch import Notification, Watch
    from airflow_torchx.specs import ReplicaStatus

_log = logging.getLogger(__name__)

#: A daemon that is upgraded, or a host that is started again, is back within this time.
PATIENCE_S: Final = 600.0
# A time that has come already waits so long for the first look.
_FIRST_LOOK_S: Final = 5.0
# After a failed attempt to stop the others.
_RETRY_S: Final = 5.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Alarms:
    """When to wait no longer.

    Args:
        deadline_s: in seconds since 1970; None for never.
        flush_s: likewise, but only to say how it goes.
        patience_s: how long the daemon may be away, in seconds.
    """

    deadline_s: float | None = None
    flush_s: float | None = None
    patience_s: float = PATIENCE_S


class AppWait:
    """One wait for one app; an app whose launch asks for it is acted on meanwhile.

    Args:
        app_id: the app.
        wait_for: what is waited for.
        alarms: when to wait no longer.
    """

    def __init__(self, app_id: str, wait_for: WaitFor, alarms: Alarms) -> None:
        self._app_id = app_id
        self._wish = wait_for
        self._alarms = alarms
        self._began_s = time.time()
        self._state: str | None = None
        self._looked = False
        self._away: DaemonDown | None = None
        self._stopping: asyncio.Task[None] | None = None

    async def event(self, watch: Watch) -> AppEvent:
        """Return what ended the wait."""
        with watch.mailbox(app_id=self._app_id) as mailbox:
            try:
                while True:
                    notification = await mailbox.next(self._pause_s())
                    step = self._alarm() if notification is None else self._step(notification)
                    if isinstance(step, Fail):
                        self._stop_others(watch, step.lost)
                    elif step is not None:
                        return step
            finally:
                if self._stopping is not None:
                    self._stopping.cancel()

    def _step(self, notification: Notification) -> AppEvent | Fail | None:
        if isinstance(notification, AppSnapshot):
            self._away, self._looked = None, True
            self._state = None if notification.app is None else notification.app.state.name
            return trigger_event(self._app_id, notification.app, self._wish)
        if isinstance(notification, DaemonDown):
            self._away, self._looked = notification, True
        return None

    def _pause_s(self) -> float | None:
        """Return how long nothing needs to be done unless something is seen."""
        times = [at_s for at_s, _ in self._times()]
        return max(0.0, min(times) - time.time()) if times else None

    def _alarm(self) -> AppEvent | None:
        """Return the event of the time that has come, if one has."""
        now = time.time()
        state = "not known" if self._state is None else self._state
        words: dict[Reason, str] = {
            "timeout": f"the time for app {self._app_id!r} is over; its state is {state}.",
            "flush": f"the state of app {self._app_id!r} is {state}.",
        }
        if self._away is not None:
            words["unreachable"] = str(self._away.why)
        for at_s, reason in self._times():
            if at_s <= now:
                return make_event(self._app_id, reason, self._state, words[reason])
        return None

    def _times(self) -> list[tuple[float, Reason]]:
        """Return when what is to be fired, in seconds since 1970; what goes first comes first."""
        found: list[tuple[float, Reason]] = []
        least_s = 0.0 if self._looked else self._began_s + _FIRST_LOOK_S
        if self._alarms.deadline_s is not None:
            found.append((max(least_s, self._alarms.deadline_s), "timeout"))
        if self._away is not None:
            left_s = self._away.since_s + self._alarms.patience_s - time.monotonic()
            found.append((time.time() + left_s, "unreachable"))
        if self._alarms.flush_s is not None:
            found.append((max(least_s, self._alarms.flush_s), "flush"))
        return found

    def _stop_others(self, watch: Watch, lost: ReplicaStatus) -> None:
        """Begin to stop the replicas that are left, unless that goes on already."""
        if self._stopping is None or self._stopping.done():
            _log.info("replica %s is lost: stopping the others", replica_name(lost))
            self._stopping = asyncio.create_task(stop(watch, self._app_id))


async def stop(watch: Watch, app_id: str) -> None:
    """Cancel an app, trying again until the daemon has done it."""
    while True:
        try:
            await watch.ask(partial(lifecycle.cancel, app_id=app_id))
        except AppNotFoundError:
            return
        except EngineError as why:
            _log.warning("cannot stop app %s, trying again: %s", app_id, why)
            await asyncio.sleep(_RETRY_S)
        else:
            return
