"""The events of containers between two lists of the tasks of a swarm; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from airflow_torchx.core.engine.containers import ContainerEvent
from airflow_torchx.core.engine.labels import RESERVED_PREFIXES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from airflow_torchx.core.swarm.tasks import Replica

#: The states of a replica that has not run yet.
STARTING: Final = frozenset({"created", "pending", "preparing"})
_OVER: Final = frozenset({"exited", "dead"})


def changes(
    before: Mapping[str, Replica], now: Mapping[str, Replica], time_ns: int
) -> Iterator[ContainerEvent]:
    """Yield the events between two lists of replicas, by the ids of their services."""
    for service_id, one in now.items():
        old = before.get(service_id)
        if old is None:
            yield _event(one, "create", time_ns)
        elif old.name != one.name:
            yield _event(one, "rename", time_ns)
        state = old.state if old else "created"
        if state in STARTING and one.state not in STARTING:
            yield _event(one, "start", time_ns)
        if state not in _OVER and one.state in _OVER:
            yield _event(one, "die", time_ns)
    for service_id, old in before.items():
        if service_id not in now:
            yield _event(old, "destroy", time_ns)


def _event(one: Replica, action: str, time_ns: int) -> ContainerEvent:
    return ContainerEvent(
        container_id=one.service_id,
        name=one.name,
        labels={k: v for k, v in one.row().labels.items() if k.startswith(RESERVED_PREFIXES)},
        action=action,
        time_ns=time_ns,
        exit_code=one.exit_code if action == "die" else None,
    )
