"""When an app loses its place in the queue for GPUs, because it was killed."""

from __future__ import annotations

import pytest

from airflow_torchx.core.engine.containers import DISCARDED_PREFIX
from airflow_torchx.core.gpu.demand import unasked_name
from airflow_torchx.runtime.gpus.queue import Claim
from tests.unit.runtime.gpus.line import LOOKS_S, Line


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


def test_an_app_that_was_only_paused_says_that_it_lost_its_place(
    line: Line, caplog: pytest.LogCaptureFixture
) -> None:
    """It queues up again, and warns of that once."""
    line.claimed_after_s(0.5)
    caplog.clear()

    for _ in range(2):
        assert not isinstance(line.first.attempt(), Claim)

    assert ["first"] == line.tickets()
    lost = "app first has lost its place in the queue for GPUs: its ticket is gone."
    assert [f"{lost} It queues again at the end"] == caplog.messages


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

    long_line.end_other()
    assert isinstance(long_line.first.attempt(), Claim)
    assert {f"airflow-torchx-gpu-ticket-{key}" for key in ("first", "second")} == {
        unasked_name(name) for name in seen
    }
    assert any(".asked-" in name for name in seen)


def test_a_killed_app_that_waits_for_more_gpus_is_passed_over(
    long_line: Line, caplog: pytest.LogCaptureFixture
) -> None:
    """An app that does not answer holds up apps that need fewer GPUs for less than a minute."""
    assert long_line.claimed_after_s(LOOKS_S) < 60
    assert [] == long_line.tickets()
    assert "app first has not responded for 15 s; its process was probably killed" in caplog.text


def test_a_ticket_that_a_user_has_started(line: Line, caplog: pytest.LogCaptureFixture) -> None:
    """The app is passed over all the same, and a warning names the container that still runs."""
    (ticket,) = (row.id for row in line.engine.rows({}) if row.name.endswith("ticket-first"))
    line.engine.start(ticket)

    line.claimed_after_s(0.5)

    name = f"{DISCARDED_PREFIX}{ticket}"
    assert f"cannot discard container {name}: it is running" in caplog.messages[-1]
