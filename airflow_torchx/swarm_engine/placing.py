"""Starts all replicas of an app, or none: a swarm alone would start the part that fits.

Clients take turns by a lock, a service that never runs and whose name one of them can take. So two
apps that fit one by one never hold each other's room. What a client was killed at, the next one
that waits for the app goes on with.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from airflow_torchx.core.engine.labels import APP_ID, SWARM_LOCK, SWARM_MARK, SWARM_NAME
from airflow_torchx.core.engine.times import parse_time
from airflow_torchx.core.swarm.capacity import demand, rooms, why_not
from airflow_torchx.core.swarm.service_spec import is_started
from airflow_torchx.core.swarm.tasks import replicas
from airflow_torchx.errors import EngineConflictError, EngineNotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airflow_torchx.core.swarm.tasks import Replica
    from airflow_torchx.swarm_engine.services import Services

_log = logging.getLogger(__name__)

Json = dict[str, Any]

_LOCK: Final = "airflow-torchx-placing"
#: A client needs a second for what it does under the lock; after this time it was killed.
_LOCK_S: Final = 60.0
#: How long a swarm takes to place what fits.
_PLACED_S: Final = 10.0
#: How long a part of an app runs while the rest waits; the swarm may find room meanwhile.
_PART_S: Final = 60.0
_POLL_S: Final = 0.1
_BUSY: Final = "another app is being placed"


class Placing:
    """Places the apps of one client."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._said: dict[str, str] = {}

    def place(self, app_id: str) -> str:
        """Start an app if all of it fits, and return why it waits; empty if it does not.

        A part that has run for a minute while the rest waits is taken back.
        """
        why = self._place(app_id)
        if why and why not in {self._said.get(app_id), _BUSY}:
            self._said[app_id] = why
            _log.info("app %s waits for room: %s", app_id, why)
        return why

    def _place(self, app_id: str) -> str:
        services = self._services.of_app(app_id)
        if any(SWARM_MARK in (one["Spec"].get("Labels") or {}) for one in services):
            return ""  # it is being stopped
        if all(is_started(one["Spec"]) for one in services):
            return self._checked(app_id, services)
        with self._lock(services[0], app_id) as has_lock:
            return self._start_all(app_id) if has_lock else _BUSY

    def _start_all(self, app_id: str) -> str:
        services = self._services.of_app(app_id)
        tasks = self._services.tasks({})
        ids = {one["ID"] for one in services}
        if any(task["ServiceID"] in ids and task["DesiredState"] == "remove" for task in tasks):
            return "its replicas still end"  # their names would lead to the old ones
        waiting = [one for one in services if not is_started(one["Spec"])]
        if why := why_not(rooms(self._services.nodes(), tasks), map(demand, waiting)):
            return why
        for one in waiting:
            with suppress(EngineNotFoundError):
                self._services.start(one["ID"])
        deadline_s = self._services.clock() + _PLACED_S
        while self._services.clock() < deadline_s:
            found = self._replicas(app_id, services)
            if all(one.node_id for one in found):
                return ""
            if reasons := [one.waits_because for one in found if one.waits_because]:
                self._take_back(services)
                return reasons[0]
            self._services.sleep(_POLL_S)
        return ""

    def _checked(self, app_id: str, services: Sequence[Json]) -> str:
        """Take an app back of which a part has waited for too long."""
        found = self._replicas(app_id, services)
        waiting = [one for one in found if one.waits_because]
        if not waiting:
            return ""
        why = waiting[0].waits_because
        since = [one.changed_at for one in waiting if one.changed_at is not None]
        is_old = bool(since) and (self._services.now() - min(since)).total_seconds() > _PART_S
        is_part = any(one.node_id for one in found)
        if is_old or not is_part:
            self._take_back(services)
        return why

    def _replicas(self, app_id: str, services: Sequence[Json]) -> list[Replica]:
        return replicas(self._services.tasks({"label": [f"{APP_ID}={app_id}"]}), services)

    def _take_back(self, services: Sequence[Json]) -> None:
        """Let all replicas end, so that the app waits as a whole."""
        _log.info("taking back the replicas that have started, as the others do not fit")
        for one in services:
            with suppress(EngineNotFoundError):
                self._services.unstart(one["ID"])

    @contextmanager
    def _lock(self, like: Json, app_id: str) -> Iterator[bool]:
        """Yield whether this client has the lock."""
        image = like["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"]
        # With these labels it is a container, which reapers and `prune` find.
        labels = {SWARM_LOCK: app_id, SWARM_NAME: _LOCK}
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
            since = parse_time(lock.get("CreatedAt")) or datetime.now(UTC)
            if (self._services.now() - since).total_seconds() > _LOCK_S:
                _log.warning("removing the lock of a client that was killed")
                self._services.delete(lock["ID"])
