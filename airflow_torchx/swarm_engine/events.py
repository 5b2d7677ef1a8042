"""The changes of the containers of a swarm, which sends no events of tasks (moby#37403)."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Final

from airflow_torchx.concurrency.daemons import in_daemon
from airflow_torchx.core.engine.labels import APP_ID
from airflow_torchx.core.swarm.changes import STARTING, changes
from airflow_torchx.core.swarm.tasks import Replica, replicas
from airflow_torchx.docker_engine.stream import LogStream
from airflow_torchx.errors import EngineError
from airflow_torchx.swarm_engine.managers import filters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from airflow_torchx.core.engine.containers import ContainerEvent
    from airflow_torchx.swarm_engine.managers import Managers

    Json = dict[str, Any]

#: Seconds between two lists of tasks: while a replica is about to start, and else.
_BUSY_S: Final = 0.5
_QUIET_S: Final = 2.0


class SwarmEvents:
    """Events of containers, from lists of tasks; a change of a service or a node wakes it."""

    def __init__(
        self,
        managers: Managers,
        tasks: Callable[[Mapping[str, Sequence[str]]], list[Json]],
    ) -> None:
        self._managers = managers
        self._tasks = tasks
        self._closed = threading.Event()
        self._woken = threading.Event()
        self._stream: LogStream | None = None
        self._seen = self._list()

    def __iter__(self) -> Iterator[ContainerEvent]:
        """Yield events until `close` is called.

        Raises:
            EngineUnreachableError: no manager answers.
        """
        in_daemon(self._listen, "torchx-swarm-events")
        while not self._closed.is_set():
            is_busy = any(one.state in STARTING and one.task for one in self._seen.values())
            self._woken.wait(_BUSY_S if is_busy else _QUIET_S)
            self._woken.clear()
            if self._closed.is_set():
                return
            before, self._seen = self._seen, self._list()
            yield from changes(before, self._seen, time.time_ns())

    def close(self) -> None:
        """End the stream, even while another thread waits for an event. Idempotent."""
        self._closed.set()
        self._woken.set()
        if (stream := self._stream) is not None:
            stream.close()

    def _list(self) -> dict[str, Replica]:
        return {one.service_id: one for one in replicas(self._tasks({"label": [APP_ID]}))}

    def _listen(self) -> None:
        """Wake at each change of a service or a node; without these events, lists are as good."""
        what = "follow events of the swarm"
        params = filters({"type": ["service", "node"], "scope": ["swarm"]})
        while not self._closed.is_set():
            try:
                response = self._managers.send("GET", "/events", what, params=params, stream=True)
                url = str(self._managers.engine.endpoint.url)
                self._stream = LogStream(response.raw, what=what, url=url, follow=True)
                for _ in self._stream:
                    self._woken.set()
            except EngineError:
                pass
            self._closed.wait(_QUIET_S)
