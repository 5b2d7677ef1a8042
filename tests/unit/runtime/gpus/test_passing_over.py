"""When an app loses its place in the queue for GPUs, because it was killed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_torchx.core.engine import labels
from airflow_torchx.runtime.gpus.queue import Claim, GpuQueue
from tests.unit.runtime.gpus.clients import daemon, demand, replica

if TYPE_CHECKING:
    from collections.abc import Callable

#: A client that waits looks as often, even if there are no events.
LOOKS_S = 5.0


class Line:
    """Two apps with tickets: the first one needs some GPUs, and the second one needs one."""

    def __init__(self, gpus: int) -> None:
        self.engine, self.clock = daemon(gpus)
        self._listed = self.engine.engine_info.gpu_ids
        self.holder = self.engine.create(replica("holder", self._listed))
        self.engine.start(self.holder)
        self.first = self._queue("first", gpus, self._look_meanwhile)
        self.second = self._queue("second", 1, self.clock.sleep)
        for queue in (self.first, self.second):
            assert not isinstance(queue.attempt(), Claim)
            self.clock.advance(1)

    def free(self, *, all_but: int = 0) -> None:
        """Let the holder end, and another one have some of its GPUs."""
        self.engine.remove(self.holder)
        if all_but:
            self.engine.start(self.engine.create(replica("other", self._listed[:all_but])))
        self.second.attempt()

    def enter(self, key: str) -> None:
        """Let a client enter the lock, where it is killed."""
        self.engine.create(demand(key).spec("lock"))

    def tickets(self) -> list[str]:
        """Return the apps that have a ticket."""
        rows = self.engine.rows({labels.GPU_MARKER: "ticket"})
        return sorted(row.labels[labels.GPU_APP] for row in rows)

    def names(self) -> list[str]:
        """Return the names of the tickets."""
        return sorted(row.name for row in self.engine.rows({labels.GPU_MARKER: "ticket"}))

    def claimed_after_s(self, step_s: float) -> float:
        """Return how long it takes until the second app has a GPU."""
        began_s = self.clock()
        while not isinstance(self.second.attempt(), Claim):
            self.clock.advance(step_s)
        return self.clock() - began_s

    def _queue(self, key: str, count: int, sleep: Callable[[float], None]) -> GpuQueue:
        wanted = demand(key, count, self._listed)
        return GpuQueue(self.engine, wanted, clock=self.clock, sleep=sleep)

    def _look_meanwhile(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.second.attempt()

        assert ["first", "second"] == self.tickets()


@pytest.fixture
def line() -> Line:
    """Return a line for one GPU, which is free now."""
    line = Line(1)
    line.free()
    return line


@pytest.fixture
def long_line() -> Line:
    """Return a line for two GPUs, of which one is free now."""
    line = Line(2)
    line.free(all_but=1)
    return line


def test_an_app_that_waits_for_the_section_keeps_its_place(line: Line) -> None:
    """The first app is not passed over while a killed client keeps it from its GPU."""
    line.enter("killed")

    assert isinstance(line.first.attempt(), Claim)
    assert ["second"] == line.tickets()


def test_a_killed_app_is_passed_over(line: Line, caplog: pytest.LogCaptureFixture) -> None:
    """An app that does not take its GPU within a second loses its place, and a warning says why."""
    assert 1.0 == line.claimed_after_s(0.5)
    assert [] == line.tickets()
    (text,) = caplog.messages
    assert "app first has not responded for 1 s; its process was probably killed" in text
    assert "if it lives, it queues again" in text


def test_an_app_that_was_killed_in_the_section_is_passed_over(line: Line) -> None:
    """The app loses its place within a second after others may remove its lock, as they do."""
    line.enter("first")

    assert 3.0 < line.claimed_after_s(0.5) <= 4.0
    assert [] == line.tickets()


def test_an_app_that_waits_for_more_gpus_keeps_its_place(long_line: Line) -> None:
    """An app that answers is not overtaken by one that needs fewer GPUs, however long it waits."""
    seen = set[str]()
    for _ in range(100):
        long_line.clock.advance(LOOKS_S)
        assert not isinstance(long_line.second.attempt(), Claim)
        seen |= {*long_line.names()}
        assert not isinstance(long_line.first.attempt(), Claim)

    (other,) = (row.id for row in long_line.engine.rows({}) if row.name == "other")
    long_line.engine.remove(other)
    assert isinstance(long_line.first.attempt(), Claim)
    assert {
        f"airflow-torchx-gpu-ticket-{key}" for key in ("first", "first.asked", "second")
    } == seen


def test_a_killed_app_that_waits_for_more_gpus_is_passed_over(
    long_line: Line, caplog: pytest.LogCaptureFixture
) -> None:
    """An app that does not answer holds up apps that need fewer GPUs for less than a minute."""
    assert long_line.claimed_after_s(LOOKS_S) < 60
    assert [] == long_line.tickets()
    assert "app first has not responded for 15 s; its process was probably killed" in caplog.text


def test_an_app_that_is_asked_leaves_the_queue(long_line: Line) -> None:
    """An app finds its ticket also under the name that it has while another client asks."""
    while "airflow-torchx-gpu-ticket-first.asked" not in long_line.names():
        long_line.clock.advance(LOOKS_S)
        long_line.second.attempt()

    long_line.first.release()

    assert ["second"] == long_line.tickets()
