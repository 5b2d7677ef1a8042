"""Which mailboxes wait for which apps, and when to look at an app; makes no call."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from airflow_torchx.core.engine import labels
from airflow_torchx.core.state.describe import exit_code
from airflow_torchx.runtime.watch.clock import SYSTEM
from airflow_torchx.runtime.watch.mailbox import (
    AppList,
    AppSnapshot,
    DaemonDown,
    Mailbox,
    Notification,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from airflow_torchx.core.engine.containers import ContainerEvent, ContainerRow
    from airflow_torchx.errors import EngineError
    from airflow_torchx.runtime.watch.clock import Clock

_log = logging.getLogger(__name__)

#: Seconds between periodic looks at all apps, with and without an open event stream.
SWEEP_S: Final = 60.0
BLIND_SWEEP_S: Final = 5.0
# The daemon answers a request for events before it has subscribed to them.
# https://github.com/moby/moby/blob/v20.10.24/api/server/router/system/system_routes.go (getEvents)
_SECOND_SWEEP_S: Final = 1.0
# Between two looks at one app: 64 replicas that die within a second cause about ten looks.
_GAP_S: Final = 0.1
# The list still shows a container as running for a while after its "die" event.
# https://github.com/moby/moby/blob/v20.10.24/daemon/monitor.go (handleContainerExit)
# Measured: 130 ms at the median, at times 1 s, on two busy cores.
_FIRST_LAG_S: Final = 0.02
_LAG_GROWTH: Final = 1.3
_LAST_LAG_S: Final = 10.0
# While its containers are being removed, an app looks as if it had lost replicas.
_REMOVAL_S: Final = 0.5
_RUNS: Final = ("running", "paused")

#: Each mailbox, and the type of its last notification.
_Mailboxes = dict[Mailbox, type[Notification] | None]


@dataclass(slots=True)
class _Entry:
    """One subscribed app.

    Args:
        rows: digest of its rows at the last look; None before the first look.
        ending: containers whose end an event reported and no look has shown yet.
        lag_s: how long to wait for the list to show it.
    """

    mailboxes: _Mailboxes = field(default_factory=dict)
    rows: int | None = None
    looked_s: float = 0.0
    ending: set[str] = field(default_factory=set)
    lag_s: float = _FIRST_LAG_S


class Subscriptions:
    """State shared by the threads of a watch and its mailboxes; thread-safe.

    An event costs the same whatever the number of apps. `missed_events` is True when the last
    periodic look found a change that no event had announced.
    """

    def __init__(self, clock: Clock = SYSTEM) -> None:
        self._clock = clock
        self._wake = threading.Condition()
        self._apps: dict[str, _Entry] = {}
        self._names: dict[str, _Mailboxes] = {}
        #: Apps to look at, and when.
        self._due: dict[str, float] = {}
        #: When to look at all apps: for a reason, and periodically.
        self._sweeps: list[float] = []
        #: Containers whose end an event reported, with its time, oldest first; also of apps without
        #: subscribers.
        self._ended: dict[str, float] = {}
        self._every_s = BLIND_SWEEP_S
        self._periodic_s = clock() + BLIND_SWEEP_S
        #: Whether the last look at all apps was periodic, and whether it found a missed event.
        self._is_periodic = False
        self.missed_events = False
        self._down: DaemonDown | None = None
        self._closed = False

    def add(self, mailbox: Mailbox, *, app_id: str = "", app_name: str = "") -> None:
        """Subscribe a mailbox to an app, or to all apps of a name."""
        with self._wake:
            if self._closed:
                mailbox.fail(RuntimeError("the watch is closed"))
            elif app_name:
                self._names.setdefault(app_name, {})[mailbox] = None
                self._sweeps.append(self._clock())
            else:
                self._join(app_id, (mailbox,))
                self._due[app_id] = self._clock()
            self._wake.notify_all()

    def drop(self, mailbox: Mailbox) -> None:
        """Unsubscribe a mailbox."""
        with self._wake:
            for mailboxes in self._names.values():
                mailboxes.pop(mailbox, None)
            self._names = {name: mailboxes for name, mailboxes in self._names.items() if mailboxes}
            for app_id in list(mailbox.app_ids):
                self._leave(app_id, mailbox)

    def note(self, event: ContainerEvent) -> None:
        """Schedule a look at the app of an event, if it has subscribers."""
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
        """Schedule looks at all apps, because the event stream was opened or broke."""
        with self._wake:
            now = self._clock()
            self._every_s = SWEEP_S if on else BLIND_SWEEP_S
            self._periodic_s = now + self._every_s
            self._sweeps = [now, now + _SECOND_SWEEP_S] if on else []
            self.missed_events = False
            self._wake.notify_all()

    def take(self, timeout_s: float) -> frozenset[str] | None:
        """Wait until looks are due, and return their apps.

        Returns:
            None for a look at all apps; empty when nothing came due in time, or after `close`.
        """
        give_up_s = self._clock() + timeout_s
        with self._wake:
            while not self._closed:
                now = self._clock()
                wanted = [*self._sweeps, self._periodic_s] if self._apps or self._names else []
                if wanted and min(wanted) <= now:
                    self._is_periodic = self._periodic_s == min(wanted)
                    self._sweeps = [sweep_s for sweep_s in self._sweeps if sweep_s > now]
                    self._periodic_s = now + self._every_s
                    self._due.clear()
                    return None
                due = frozenset(app_id for app_id, due_s in self._due.items() if due_s <= now)
                if due:
                    for app_id in due:
                        del self._due[app_id]
                    return due
                if now >= give_up_s:
                    break
                self._clock.wait(self._wake, min([give_up_s, *wanted, *self._due.values()]))
        return frozenset()

    def failed(self, why: EngineError) -> None:
        """Notify every mailbox, once per outage, that the daemon does not answer."""
        with self._wake:
            if self._down is None:
                self._down = DaemonDown(self._clock(), why)
                _log.warning("the Docker Engine does not answer, retrying: %s", why)
            for mailboxes in (*self._names.values(), *(e.mailboxes for e in self._apps.values())):
                for mailbox, last in mailboxes.items():
                    if last is not DaemonDown:
                        mailboxes[mailbox] = DaemonDown
                        mailbox.put(self._down)

    def answered(self) -> None:
        """Record that the daemon answers; after an outage, schedule a look at all apps."""
        with self._wake:
            if self._down is not None:
                self._down = None
                self._sweeps.append(self._clock())

    def changed(
        self, app_ids: Iterable[str], rows: Mapping[str, Sequence[ContainerRow]]
    ) -> list[str]:
        """Record a look at these apps, and return those with news for a mailbox."""
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
        """Record a look at all apps; return those with news for a mailbox."""
        with self._wake:
            for app_id, own in rows.items():
                for name in {row.labels.get(labels.APP_NAME, "") for row in own}:
                    if name in self._names:
                        self._join(app_id, self._names[name])
            known = {app_id: entry.rows for app_id, entry in self._apps.items()}
            news = self.changed(list(self._apps), rows)
            late = (known[app_id] not in (None, self._apps[app_id].rows) for app_id in news)
            self.missed_events = self._is_periodic and any(late)
            return news

    def deliver(self, snapshot: AppSnapshot) -> None:
        """Put a snapshot into every mailbox of its app."""
        with self._wake:
            entry = self._apps.get(snapshot.app_id)
            if entry is None:
                return
            for mailbox in list(entry.mailboxes):
                mailbox.put(snapshot)
                entry.mailboxes[mailbox] = AppSnapshot
                if snapshot.app is None and mailbox.follows_name:
                    self._leave(snapshot.app_id, mailbox)

    def deliver_list(self, rows: Mapping[str, Sequence[ContainerRow]]) -> None:
        """Put the ids of all apps of a name into the mailboxes of the name."""
        with self._wake:
            for name, mailboxes in self._names.items():
                ids = (i for i, own in rows.items() if own[0].labels.get(labels.APP_NAME) == name)
                listed = AppList(frozenset(ids))
                for mailbox in mailboxes:
                    mailbox.put(listed)
                    mailboxes[mailbox] = AppList

    def close(self, why: BaseException | None = None) -> None:
        """End `take` and every wait; nothing is delivered any more."""
        with self._wake:
            self._closed = True
            for mailboxes in (*self._names.values(), *(e.mailboxes for e in self._apps.values())):
                for mailbox in mailboxes:
                    mailbox.fail(why or RuntimeError("the watch is closed"))
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
        """Keep the end of a container for a wait that begins in a moment."""
        now = self._clock()
        self._ended.pop(event.container_id, None)
        if event.action == "die":
            self._ended[event.container_id] = now
        while self._ended and next(iter(self._ended.values())) < now - _LAST_LAG_S:
            del self._ended[next(iter(self._ended))]

    def _follow_up(self, app_id: str, entry: _Entry, rows: Sequence[ContainerRow]) -> None:
        """Schedule another look while the list does not show an end that an event reported."""
        entry.ending &= {row.id for row in rows if row.state in _RUNS}
        if entry.lag_s > _LAST_LAG_S:
            entry.ending.clear()
        if entry.ending:
            again_s = entry.looked_s + entry.lag_s
            self._due[app_id] = min(again_s, self._due.get(app_id, again_s))
            entry.lag_s *= _LAG_GROWTH


def _digest(rows: Sequence[ContainerRow]) -> int:
    return hash(frozenset((row.id, row.name, row.state, exit_code(row)) for row in rows))
