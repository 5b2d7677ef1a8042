"""Two apps in the queue for GPUs, of which the second one could be served without the first one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_torchx.core.engine import labels
from airflow_torchx.runtime.gpus.queue import PRESENT, Claim, GpuQueue, Timeouts
from tests.unit.runtime.gpus.clients import daemon, demand, replica

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_torchx.core.gpu.demand import GpuDemand

#: A client that waits looks as often, even if there are no events.
LOOKS_S = 5.0


class Line:
    """Two apps with tickets: the first one needs some GPUs, and the second one needs one."""

    def __init__(self, gpus: int, timeouts: Timeouts = PRESENT) -> None:
        self.engine, self.clock = daemon(gpus)
        self._listed = self.engine.engine_info.gpu_ids
        self.holder = self.engine.create(replica("holder", self._listed))
        self.engine.start(self.holder)
        self._gpus = gpus
        self._timeouts = timeouts
        self.first = self.queue("first", self._look_meanwhile)
        self.second = self.queue("second")
        for queue in (self.first, self.second):
            assert not isinstance(queue.attempt(), Claim)
            self.clock.advance(1)

    def free(self, *, all_but: int = 0) -> None:
        """Let the holder end, and another one have some of its GPUs."""
        self.engine.remove(self.holder)
        if all_but:
            self.engine.start(self.engine.create(replica("other", self._listed[:all_but])))
        self.second.attempt()

    def end_other(self) -> None:
        """Let the one end that has some GPUs."""
        (other,) = (row.id for row in self.engine.rows({}) if row.name == "other")
        self.engine.remove(other)

    def enter(self, key: str) -> None:
        """Let a client enter the lock, where it is killed."""
        self.engine.create(demand(key).spec("lock"))

    def tickets(self) -> list[str]:
        """Return the apps that have a ticket."""
        rows = self.engine.rows({labels.GPU_MARKER: "ticket"})
        return sorted(row.labels[labels.GPU_APP] for row in rows)

    def ask(self) -> str:
        """Let the second app ask for the first one, and return the new name of its ticket."""
        while not (asked := [name for name in self.names() if ".asked-" in name]):
            self.clock.advance(LOOKS_S)
            assert not isinstance(self.second.attempt(), Claim)
        self.second.attempt()
        return asked[0]

    def names(self) -> list[str]:
        """Return the names of the tickets."""
        return sorted(row.name for row in self.engine.rows({labels.GPU_MARKER: "ticket"}))

    def claimed_after_s(self, step_s: float) -> float:
        """Return how long it takes until the second app has a GPU."""
        began_s = self.clock()
        while not isinstance(self.second.attempt(), Claim):
            self.clock.advance(step_s)
        return self.clock() - began_s

    def queue(self, key: str, sleep: Callable[[float], None] | None = None) -> GpuQueue:
        """Return the queue of a client; the first app needs all GPUs, others one."""
        sleep = sleep or self.clock.sleep
        wanted = self.demand(key)
        return GpuQueue(self.engine, wanted, self._timeouts, clock=self.clock, sleep=sleep)

    def demand(self, key: str) -> GpuDemand:
        """Return the demand of an app."""
        return demand(key, self._gpus if key == "first" else 1, self._listed)

    def _look_meanwhile(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.second.attempt()

        assert ["first", "second"] == self.tickets()
