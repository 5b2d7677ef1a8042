"""The changes of the containers of a swarm, which sends no events of tasks (moby#37403)."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

from airflow_torchx.core.swarm.changes import changes
from airflow_torchx.swarm_engine.seen_replicas import SeenReplicas
from airflow_torchx.swarm_engine.service_events import ServiceEvents

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_torchx.core.engine.containers import ContainerEvent
    from airflow_torchx.core.swarm.tasks import Replica
    from airflow_torchx.swarm_engine.managers import Managers
    from airflow_torchx.swarm_engine.services import Services

#: Seconds between two looks: while a replica is about to start, and else.
_BUSY_S: Final = 0.5
_QUIET_S: Final = 2.0
#: A look at a change of a service comes so much later: a launch changes many.
_GAP_S: Final = 0.1
#: With more replicas than this, no list of all tasks follows another one so soon.
_MANY: Final = 100


class SwarmEvents:
    """Events of containers, from lists of tasks; a change of a service or a node wakes it."""

    def __init__(self, managers: Managers, services: Services) -> None:
        self._closed = threading.Event()
        self._seen = SeenReplicas(services)
        self._services = ServiceEvents(managers)

    def __iter__(self) -> Iterator[ContainerEvent]:
        """Yield events until `close` is called.

        Raises:
            EngineUnreachableError: no manager answers.
        """
        seen = self._seen
        while not self._closed.is_set():
            is_large = seen.is_whole and len(seen.found) > _MANY
            is_busy = seen.are_starting and not is_large
            if self._services.wait(_BUSY_S if is_busy else _QUIET_S):
                self._closed.wait(_GAP_S)
            if self._closed.is_set():
                return
            before = seen.found
            seen.refresh(self._services.take())
            yield from changes(before, seen.found, time.time_ns())

    def running(self, service_id: str) -> Replica | None:
        """Return a replica as it was seen last; None if it did not run, or after `close`."""
        found = None if self._closed.is_set() else self._seen.found.get(service_id)
        return found if found is not None and found.state == "running" else None

    def close(self) -> None:
        """End the stream, even while another thread waits for an event. Idempotent."""
        self._closed.set()
        self._services.close()
