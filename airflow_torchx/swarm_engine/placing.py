"""Starts all replicas of an app, or none: a swarm alone would start the part that fits.

`core.swarm.gang` decides what comes next. Clients take turns in carrying it out by a lock, a
service that never runs and whose name one of them can take. So two apps that fit one by one never
hold each other's room. What a client was killed at, the next one that waits for the app goes on
with. Whether an app still waits is decided by lists that all apps of the process share.
"""

from __future__ import annotations

import logging
import threading
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from airflow_torchx.core.engine.labels import SWARM_LOCK, SWARM_MARK, SWARM_NAME, SWARM_WAITS
from airflow_torchx.core.engine.times import parse_time
from airflow_torchx.core.plan.identity import failed_name
from airflow_torchx.core.swarm import gang as steps
from airflow_torchx.core.swarm import packing
from airflow_torchx.core.swarm.capacity import demand, empty_rooms
from airflow_torchx.core.swarm.gang import Gang, GiveUp, Leave, Start, TakeBack, Wait
from airflow_torchx.core.swarm.packing import Rules
from airflow_torchx.core.swarm.service_spec import (
    current_name,
    is_started,
    service_json,
    stopped,
    unstarted,
    waiting,
)
from airflow_torchx.core.swarm.tasks import Replica, replicas
from airflow_torchx.errors import EngineConflictError, EngineNotFoundError
from airflow_torchx.swarm_engine.shared_lists import SharedLists

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from airflow_torchx.core.connection.swarm import Swarm
    from airflow_torchx.core.engine.containers import ContainerSpec
    from airflow_torchx.core.swarm.gang import Step
    from airflow_torchx.swarm_engine.services import Services

_log = logging.getLogger(__name__)

Json = dict[str, Any]

_LOCK: Final = "airflow-torchx-placing"
#: A client needs a second for what it does under the lock; after this time it was killed.
LOCK_S: Final = 60.0
#: How long a client that finds the lock taken tries again, before it leaves that to the next look.
_TRY_S: Final = 2.0
#: How long a swarm takes to place what fits.
_PLACED_S: Final = 10.0
_POLL_S: Final = 0.1
BUSY: Final = "another app is being placed"


class Placing:
    """Places the apps of one client. Thread-safe.

    Args:
        services: the services of the swarm.
        lock_s: seconds after which a client that has the lock was killed.
    """

    def __init__(self, services: Services, lock_s: float = LOCK_S) -> None:
        self._services = services
        self._lock_s = lock_s
        self._lists = SharedLists(services)
        #: Held by the thread that asks for the lock: others of this process need not ask.
        self._turn = threading.Lock()
        #: Why each app that waits does so.
        self._said: dict[str, str] = {}

    def place(self, app_id: str) -> str:
        """Start an app if all of it fits, and return why it waits; empty if it does not.

        A part that has run for a minute while the rest waits is taken back. An app that has waited
        for longer than it may fails. Why it waits is on its services, and in the log once. That it
        waits is decided by lists of up to a second ago, and takes no request of its own.
        """
        seen = self._look(app_id)
        step = steps.next_step(seen)
        deadline_s = self._services.clock() + _TRY_S
        while isinstance(step, Start | TakeBack | GiveUp):
            with self._lock(seen) as has_lock:
                if has_lock:
                    seen = self._look(app_id, is_fresh=True)
                    step = self._carried_out(seen, steps.next_step(seen))
                    break
            if self._services.clock() > deadline_s:
                return BUSY
            self._services.sleep(_POLL_S)
            seen = self._look(app_id)
            step = steps.next_step(seen)
        if not isinstance(step, Wait):
            self._said.pop(app_id, None)
            return ""
        self._say(seen, step.why)
        return step.why

    def never_fits(self, specs: Sequence[ContainerSpec], swarm: Swarm) -> str:
        """Return why replicas do not fit even if nothing runs; empty if they may."""
        wanted = [demand({"Spec": service_json(one, swarm)}) for one in specs]
        free = empty_rooms(self._services.nodes())
        return packing.never_fits(free, wanted, Rules.of(specs[0].labels))

    def _look(self, app_id: str, *, is_fresh: bool = False) -> Gang:
        is_alone = len(self._said) == (app_id in self._said)
        return self._lists.gang(app_id, is_alone=is_alone, is_fresh=is_fresh)

    def _carried_out(self, gang: Gang, step: Step) -> Step:
        """Carry out a step, under the lock, and return what is left to wait for."""
        match step:
            case Start():
                return self._started(gang, step)
            case TakeBack(why):
                self._take_back(gang, why)
                return Wait(why)
            case GiveUp(why):
                self._give_up(gang, why)
                return Leave()
            case Wait() | Leave():
                return step

    def _started(self, gang: Gang, step: Start) -> Step:
        """Start all replicas, and wait until each has a node."""
        for one in step.order:
            with suppress(EngineNotFoundError):
                self._services.start(one, step.nodes.get(one, ""))
        deadline_s = self._services.clock() + _PLACED_S
        while self._services.clock() < deadline_s:
            found = self._replicas(gang.services)
            if all(one.node_id for one in found):
                return Leave()
            if reasons := [one.waits_because for one in found if one.waits_because]:
                # At once, because none of them has done anything yet.
                seen = self._look(gang.app_id, is_fresh=True)
                why = seen.reason(reasons[0])
                self._take_back(seen, why)
                return Wait(why)
            self._services.sleep(_POLL_S)
        return Leave()

    def _replicas(self, services: Sequence[Mapping[str, Any]]) -> list[Replica]:
        ids = [one["ID"] for one in services]
        return replicas(self._services.tasks({"service": ids}) if ids else (), services)

    def _take_back(self, gang: Gang, why: str) -> None:
        """Let all replicas end, so that the app waits as a whole."""
        _log.info("app %s: taking back its replicas, as not all of them fit", gang.app_id)
        label = steps.taken_back(gang)

        def change(spec: Json) -> Json | None:
            # What another client stops keeps its state and its log.
            is_ours = is_started(spec) and SWARM_MARK not in (spec.get("Labels") or {})
            return unstarted(spec, label) if is_ours else None

        for one in gang.services:
            with suppress(EngineNotFoundError):
                self._services.update(one["ID"], change)
        self._record(gang, why)

    def _give_up(self, gang: Gang, why: str) -> None:
        """Let an app fail that has waited for too long."""
        _log.warning("app %s fails: %s", gang.app_id, why)

        def change(spec: Json) -> Json | None:
            labels = spec.get("Labels") or {}
            if SWARM_MARK in labels:
                return None
            return stopped(waiting(unstarted(spec), why), failed_name(current_name(labels)))

        for one in gang.services:
            with suppress(EngineNotFoundError):
                self._services.update(one["ID"], change)

    def _say(self, gang: Gang, why: str) -> None:
        """Write why an app waits to the log and to its services, unless that was said before."""
        if self._said.get(gang.app_id) != why:
            self._said[gang.app_id] = why
            _log.info("app %s waits for room on the swarm: %s", gang.app_id, why)
        if gang.said != why:
            self._record(gang, why)

    def _record(self, gang: Gang, why: str) -> None:
        """Write why an app waits to its first service, where each client finds it."""

        def change(spec: Json) -> Json | None:
            labels = spec.get("Labels") or {}
            is_other = SWARM_MARK in labels or labels.get(SWARM_WAITS) == why
            return None if is_other else waiting(spec, why)

        with suppress(EngineNotFoundError):
            self._services.update(gang.services[0]["ID"], change)

    @contextmanager
    def _lock(self, gang: Gang) -> Iterator[bool]:
        """Yield whether this thread of this client has the lock."""
        if not self._turn.acquire(blocking=False):
            yield False
            return
        try:
            with self._service_lock(gang) as has_lock:
                yield has_lock
        finally:
            self._turn.release()

    @contextmanager
    def _service_lock(self, gang: Gang) -> Iterator[bool]:
        """Yield whether this client has the lock."""
        image = gang.services[0]["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"]
        # With these labels it is a container, which reapers and `prune` find.
        labels = {SWARM_LOCK: gang.app_id, SWARM_NAME: _LOCK}
        body = {
            "Name": _LOCK,
            "Labels": labels,
            "Mode": {"Replicated": {"Replicas": 0}},
            "TaskTemplate": {"ContainerSpec": {"Image": image, "Labels": labels}},
        }
        try:
            lock = self._services.create(body, _LOCK, {})
        except EngineConflictError:
            self._break_stale_lock()
            yield False
            return
        try:
            yield True
        finally:
            self._services.delete(lock)

    def _break_stale_lock(self) -> None:
        with suppress(EngineNotFoundError):
            lock = self._services.named(_LOCK)
            if SWARM_LOCK not in (lock["Spec"].get("Labels") or {}):
                _log.warning("service %s is not of airflow-torchx: remove it", _LOCK)
                return
            since = parse_time(lock.get("CreatedAt")) or datetime.now(UTC)
            if (self._services.now() - since).total_seconds() > self._lock_s:
                _log.warning("removing the lock of a client that was killed")
                self._services.delete(lock["ID"])
