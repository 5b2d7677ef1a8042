"""What a manager lists, by app: the apps that wait for room are decided about by one list; pure."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from airflow_torchx.core.engine.labels import APP_ID
from airflow_torchx.core.swarm.capacity import rooms
from airflow_torchx.core.swarm.gang import Gang, newest
from airflow_torchx.core.swarm.service_spec import current_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from airflow_torchx.core.swarm.capacity import Room

    Json = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Lists:
    """Services, tasks and nodes of a swarm at one time.

    Args:
        services: of the newest round of each app, by its id.
        tasks: of each service, by its id.
        free: what is free on each node.
        now: the time of the manager.
    """

    services: Mapping[str, Sequence[Json]]
    tasks: Mapping[str, Sequence[Json]]
    free: Sequence[Room]
    now: datetime

    @classmethod
    def of(
        cls, services: Sequence[Json], tasks: Sequence[Json], nodes: Sequence[Json], now: datetime
    ) -> Self:
        """Return the lists that a manager has sent, of all tasks and all nodes."""
        by_app: dict[str, list[Json]] = defaultdict(list)
        for one in services:
            found = one["Spec"].get("Labels") or {}
            # Those of other programs may have the id of an app, and must not be started.
            if current_name(found):
                by_app[str(found.get(APP_ID))].append(one)
        by_service: dict[str, list[Json]] = defaultdict(list)
        for task in tasks:
            by_service[str(task.get("ServiceID") or "")].append(task)
        return cls(
            services={app_id: newest(own) for app_id, own in by_app.items()},
            tasks=dict(by_service),
            free=rooms(nodes, tasks),
            now=now,
        )

    def gang(self, app_id: str) -> Gang:
        """Return what starts together of an app; without services if the app is not listed."""
        services = self.services.get(app_id, ())
        tasks = [task for one in services for task in self.tasks.get(one["ID"], ())]
        return Gang(services=services, tasks=tasks, free=self.free, now=self.now)
