"""Who waits for which apps, and which of them are to be looked at, and when; makes no call."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from airflow_torchx.core.engine import labels
from airflow_torchx.core.state.describe import exit_code
from airflow_torchx.runtime.watch.mailbox import (
    AppList,
    AppSnapshot,
    DaemonDown,
    Mailbox,
    Notification,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from airflow_torchx.core.engine.containers import ContainerEvent, ContainerRow
    from airflow_torchx.errors import EngineError

_log = logging.getLogger(__name__)

#: The safety net while the stream of events is open, and while it is not.
SWEEP_S: Final = 60.0
BLIND_SWEEP_S: Final = 5.0
# The daemon answers a request for events before it has subscribed to them.
# https://github.com/moby/moby/blob/v20.10.24/api/server/router/system/system_routes.go (getEvents)
_SECOND_SWEEP_S: Final = 1.0
# Between two looks at one app: 64 replicas that die within a second bring about ten.
_GAP_S: Final = 0.1
# The list shows a run as going on for some time after its end was told.
# https://github.com/moby/moby/blob/v20.10.24/daemon/monitor.go (handleContainerExit)
# It was 130 ms at the median, and 1 s at times, on two busy cores.
_FIRST_LAG_S: Final = 0.02
_LAG_GROWTH: Final = 1.3
_LAST_LAG_S: Final = 10.0
# An app whose containers are being removed looks like one that has lost some.
_REMOVAL_S: Final = 0.5
_RUNS: Final = ("running", "paused")

#: Who waits, and the kind of what they were told last.
_Waiters = dict[Mailbox, type[Notification] | None]


@dataclass(slots=True)
class _Entry:
    """One app that is waited for.

    Args:
        mailboxes: who waits for it.
        rows: digest of its rows when it was last looked at; None before the first look.
        looked_s: when that was.
        ending: containers whose run has ended, as an event told and no look has shown yet.
        lag_s: how long to wait for the list to show it.
    """

    mailboxes: _Waiters = field(default_factory=dict)
    rows: int | None = None
    looked_s: float = 0.0
    ending: set[str] = field(default_factory=set)
    lag_s: float = _FIRST_LAG_S


class Subscriptions:
    """What the threads of a watch and its mailboxes share; safe to use from all of them.

    An event costs the same whatever the number of apps. `missed_events` is True when the last
    periodic look found a change that no event had announced.

    Args:
        clock: returns seconds; it never goes back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._wake = threading.Condition()
        self._apps: dict[str, _Entry] = {}
        self._names: dict[str, _Waiters] = {}
        #: Apps to look at, and when.
        self._due: dict[str, float] = {}
        #: When to look at all, for a reason, and for safety.
        self._sweeps: list[float] = []
        #: Containers of which an event told that their run has ended, and when, oldest first; also
        #: of apps for which nobody waits yet.
        self._ended: dict[str, float] = {}
        self._every_s = BLIND_SWEEP_S
        self._safety_s = clock() + BLIND_SWEEP_S
        #: Whether the last look at all was for safety, and whether it found what no event told.
        self._is_safety = False
        self.missed_events = False
        self._away: DaemonDown | None = None
        self._closed = False

    def add(self, mailbox: Mailbox, *, app_id: str = "", app_name: str = "") -> None:
        """Let somebody wait for an app, or for all of a name."""
        with self._wake:
            if self._closed:
                mailbox.fail(RuntimeError("it was closed"))
            elif app_name:
                self._names.setdefault(app_name, {})[mailbox] = None
                self._sweeps.append(self._clock())
            else:
                self._join(app_id, (mailbox,))
                self._due[app_id] = self._clock()
            self._wake.notify_all()

    def drop(self, mailbox: Mailbox) -> None:
        """Let somebody wait no longer."""
        with self._wake:
            for mailboxes in self._names.values():
                mailboxes.pop(mailbox, None)
            self._names = {name: mailboxes for name, mailboxes in self._names.items() if mailboxes}
            for app_id in list(mailbox.app_ids):
                self._leave(app_id, mailbox)

    def note(self, event: ContainerEvent) -> None:
        """Plan a look at the app of an event, if anybody waits for it."""
        with self._wake:
            self._remember(event)
            if event.app_name in self._names:
                self._join(event.app_id, self._names[event.app_name])
            entry = self._apps.get(event.app_id)
            if entry is None:
                return
            if event.action == "die":
                entry.ending.add(event.container_id)
                entry.lag_s = _FIRST_LAG_S
            elif event.action in ("start", "destroy"):
                entry.ending.discard(event.container_id)
            gap_s = _REMOVAL_S if event.action == "destroy" else 0.0
            due_s = max(self._clock() + gap_s, entry.looked_s + _GAP_S)
            if due_s < self._due.get(event.app_id, due_s + 1):
                self._due[event.app_id] = due_s
                self._wake.notify_all()

    def streaming(self, *, on: bool) -> None:
        """Plan sweeps, because the stream of events was opened or is broken."""
        with self._wake:
            now = self._clock()
            self._every_s = SWEEP_S if on else BLIND_SWEEP_S
            self._safety_s = now + self._every_s
            self._sweeps = [now, now + _SECOND_SWEEP_S] if on else []
            self.missed_events = False
            self._wake.notify_all()

    def take(self, timeout_s: float) -> frozenset[str] | None:
        """Wait until looks are due, and return their apps.

        Returns:
            None for a sweep of all apps; empty when nothing was due in time or it is closed.
        """
        give_up_s = self._clock() + timeout_s
        with self._wake:
            while not self._closed:
                now = self._clock()
                wanted = [*self._sweeps, self._safety_s] if self._apps or self._names else []
                if wanted and min(wanted) <= now:
                    self._is_safety = self._safety_s == min(wanted)
                    self._sweeps = [sweep_s for sweep_s in self._sweeps if sweep_s > now]
                    self._safety_s = now + self._every_s
                    self._due.clear()
                    return None
                due = frozenset(app_id for app_id, due_s in self._due.items() if due_s <= now)
                if due:
                    for app_id in due:
                        del self._due[app_id]
                    return due
                if now >= give_up_s:
                    break
                self._wake.wait(min([give_up_s, *wanted, *self._due.values()]) - now)
        return frozenset()

    def failed(self, why: EngineError) -> None:
        """Tell everybody who does not know it that the daemon gives no answer."""
        with self._wake:
            if self._away is None:
                self._away = DaemonDown(self._clock(), why)
                _log.warning("no answer, trying again until there is one: %s", why)
            for mailboxes in (*self._names.values(), *(e.mailboxes for e in self._apps.values())):
                for mailbox, last in mailboxes.items():
                    if last is not DaemonDown:
                        mailboxes[mailbox] = DaemonDown
                        mailbox.put(self._away)

    def answered(self) -> None:
        """Take note that the daemon answers; after an outage everybody is told."""
        with self._wake:
            if self._away is not None:
                self._away = None
                self._sweeps.append(self._clock())

    def changed(
        self, app_ids: Iterable[str], rows: Mapping[str, Sequence[ContainerRow]]
    ) -> list[str]:
        """Take note of a look, and return the apps of which somebody has to be told.

        Args:
            app_ids: what was looked at.
            rows: what was found, by app.
        """
        news = []
        with self._wake:
            now = self._clock()
            for app_id in app_ids:
                entry = self._apps.get(app_id)
                if entry is None:
                    continue
                digest = _digest(rows.get(app_id, ()))
                if digest != entry.rows or any(
                    k is not AppSnapshot for k in entry.mailboxes.values()
                ):
                    news.append(app_id)
                if entry.rows is None:
                    entry.ending |= {row.id for row in rows.get(app_id, ())} & self._ended.keys()
                entry.rows, entry.looked_s = digest, now
                self._follow_up(app_id, entry, rows.get(app_id, ()))
        return news

    def swept(self, rows: Mapping[str, Sequence[ContainerRow]]) -> list[str]:
        """Take note of a look at all apps; return those of which somebody has to be told."""
        with self._wake:
            for app_id, own in rows.items():
                for name in {row.labels.get(labels.APP_NAME, "") for row in own}:
                    if name in self._names:
                        self._join(app_id, self._names[name])
            known = {app_id: entry.rows for app_id, entry in self._apps.items()}
            news = self.changed(list(self._apps), rows)
            late = (known[app_id] not in (None, self._apps[app_id].rows) for app_id in news)
            self.missed_events = self._is_safety and any(late)
            return news

    def tell(self, seen: AppSnapshot) -> None:
        """Hand what was seen of an app to all who wait for it."""
        with self._wake:
            entry = self._apps.get(seen.app_id)
            if entry is None:
                return
            for mailbox in list(entry.mailboxes):
                mailbox.put(seen)
                entry.mailboxes[mailbox] = AppSnapshot
                if seen.app is None and mailbox.follows_name:
                    self._leave(seen.app_id, mailbox)

    def tell_listed(self, rows: Mapping[str, Sequence[ContainerRow]]) -> None:
        """Hand the ids of the apps of a name to those who wait for the name."""
        with self._wake:
            for name, mailboxes in self._names.items():
                ids = (i for i, own in rows.items() if own[0].labels.get(labels.APP_NAME) == name)
                listed = AppList(frozenset(ids))
                for mailbox in mailboxes:
                    mailbox.put(listed)
                    mailboxes[mailbox] = AppList

    def close(self, why: BaseException | None = None) -> None:
        """Let everybody who takes or waits go; nothing more is told."""
        with self._wake:
            self._closed = True
            for mailboxes in (*self._names.values(), *(e.mailboxes for e in self._apps.values())):
                for mailbox in mailboxes:
                    mailbox.fail(why or RuntimeError("it was closed"))
            self._wake.notify_all()

    def _join(self, app_id: str, mailboxes: Iterable[Mailbox]) -> None:
        entry = self._apps.setdefault(app_id, _Entry())
        for mailbox in mailboxes:
            mailbox.app_ids.add(app_id)
            entry.mailboxes.setdefault(mailbox, None)

    def _leave(self, app_id: str, mailbox: Mailbox) -> None:
        mailbox.app_ids.discard(app_id)
        entry = self._apps[app_id]
        del entry.mailboxes[mailbox]
        if not entry.mailboxes:
            del self._apps[app_id]
            self._due.pop(app_id, None)

    def _remember(self, event: ContainerEvent) -> None:
        """Keep for who begins to wait in a moment that a run has ended."""
        now = self._clock()
        self._ended.pop(event.container_id, None)
        if event.action == "die":
            self._ended[event.container_id] = now
        while self._ended and next(iter(self._ended.values())) < now - _LAST_LAG_S:
            del self._ended[next(iter(self._ended))]

    def _follow_up(self, app_id: str, entry: _Entry, rows: Sequence[ContainerRow]) -> None:
        """Look again soon at an app of which the list does not show yet what events told."""
        entry.ending &= {row.id for row in rows if row.state in _RUNS}
        if entry.lag_s > _LAST_LAG_S:
            entry.ending.clear()
        if entry.ending:
            again_s = entry.looked_s + entry.lag_s
            self._due[app_id] = min(again_s, self._due.get(app_id, again_s))
            entry.lag_s *= _LAG_GROWTH


def _digest(rows: Sequence[ContainerRow]) -> int:
    return hash(frozenset((row.id, row.name, row.state, exit_code(row)) for row in rows))
