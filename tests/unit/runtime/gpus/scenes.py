"""A daemon with GPUs, and the places of apps in the queue for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from airflow_torchx.core.gpu.turn import Blocked
from airflow_torchx.runtime.gpus.queue import Claim, GpuQueue, Timeouts
from tests.unit.runtime.gpus.clients import daemon, demand, replica

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_torchx.core.gpu.demand import GpuDemand
    from airflow_torchx.testing import FakeEngine, ManualClock

#: How the names of claims and tickets begin.
CLAIM: Final = "airflow-torchx-gpu-claim-"
TICKET: Final = "airflow-torchx-gpu-ticket-"


class Scene:
    """A daemon with GPUs, and queues of apps on one clock."""

    def __init__(self, gpus: int = 2) -> None:
        self.engine: FakeEngine
        self.clock: ManualClock
        self.engine, self.clock = daemon(gpus)

    def demand(self, key: str, count: int = 1) -> GpuDemand:
        """Return a demand for GPUs of this daemon."""
        return demand(key, count, self.engine.engine_info.gpu_ids)

    def queue(self, key: str, count: int = 1, timeouts: Timeouts | None = None) -> GpuQueue:
        """Return the queue of a client of an app."""
        given = timeouts or Timeouts(ticket=1, claim=30)
        wanted = self.demand(key, count)
        return GpuQueue(self.engine, wanted, given, clock=self.clock, sleep=self.clock.sleep)

    def run(self, name: str, *ids: str) -> str:
        """Start a replica with GPUs, and return its id."""
        container_id = self.engine.create(replica(name, ids))
        self.engine.start(container_id)
        return container_id

    @property
    def names(self) -> list[str]:
        """The names of all containers."""
        return sorted(self.engine.specs())


def claimed(step: Claim | Blocked) -> Sequence[str]:
    """Return the GPUs that an app has claimed."""
    assert isinstance(step, Claim), step
    return step.ids


def waits(step: Claim | Blocked) -> Blocked:
    """Return what an app waits for."""
    assert isinstance(step, Blocked), step
    return step
