"""When an app loses its place in the queue because it does not take GPUs that are free."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_torchx.core.engine import labels
from airflow_torchx.runtime.gpus.queue import Claim, GpuQueue
from tests.unit.runtime.gpus.clients import daemon, demand, replica

if TYPE_CHECKING:
    from collections.abc import Callable


class Line:
    """Two apps that have tickets for a GPU, which has become free."""

    def __init__(self) -> None:
        self.engine, self.clock = daemon(1)
        holder = self.engine.create(replica("holder", ["GPU-0"]))
        self.engine.start(holder)
        self.first = self._queue("first", self._look_meanwhile)
        self.second = self._queue("second", self.clock.sleep)
        for queue in (self.first, self.second):
            assert not isinstance(queue.attempt(), Claim)
            self.clock.advance(1)
        self.engine.remove(holder)
        self.second.attempt()

    def enter(self, key: str) -> None:
        """Let a client enter the section, where it is killed."""
        self.engine.create(demand(key).spec("section"))

    def tickets(self) -> list[str]:
        """Return the apps that have a ticket."""
        rows = self.engine.rows({labels.GPU_PLACE: "ticket"})
        return sorted(row.labels[labels.GPU_APP] for row in rows)

    def claimed_after_s(self) -> float:
        """Return how long it takes until the second app has the GPU."""
        began_s = self.clock()
        while not isinstance(self.second.attempt(), Claim):
            self.clock.advance(0.5)
        return self.clock() - began_s

    def _queue(self, key: str, sleep: Callable[[float], None]) -> GpuQueue:
        wanted = demand(key, listed=["GPU-0"])
        return GpuQueue(self.engine, wanted, clock=self.clock, sleep=sleep)

    def _look_meanwhile(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.second.attempt()

        assert ["first", "second"] == self.tickets()


@pytest.fixture
def line() -> Line:
    """Return two apps, of which the first one could take the GPU."""
    return Line()


def test_an_app_that_waits_for_the_section_keeps_its_place(line: Line) -> None:
    """The first app is not passed over while a killed client keeps it from its GPU."""
    line.enter("killed")

    assert isinstance(line.first.attempt(), Claim)
    assert ["second"] == line.tickets()


def test_a_killed_app_is_passed_over(line: Line) -> None:
    """An app that does not take its GPU within a second loses its place."""
    assert 1.0 == line.claimed_after_s()
    assert [] == line.tickets()


def test_an_app_that_was_killed_in_the_section_is_passed_over(line: Line) -> None:
    """The app loses its place within a second after others may remove its section, as they do."""
    line.enter("first")

    assert 3.0 < line.claimed_after_s() <= 4.0
    assert [] == line.tickets()
