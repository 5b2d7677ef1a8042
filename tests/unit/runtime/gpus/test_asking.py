"""An app behind the first one in the queue for GPUs asks whether that one still waits."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from airflow_torchx.core.engine.containers import DISCARDED_PREFIX
from airflow_torchx.runtime.gpus.queue import DEFERRED, Claim, GpuQueue
from tests.unit.runtime.gpus.clients import replica
from tests.unit.runtime.gpus.line import LOOKS_S, Line
from tests.unit.runtime.gpus.scenes import TICKET, claimed, waits

if TYPE_CHECKING:
    from airflow_torchx.testing import Verb

FIRST = f"{TICKET}first"
#: How long a client that was killed may have been asked before its ticket is removed.
ANSWER_S = 15.0


@pytest.fixture
def line() -> Line:
    """Return a line for two GPUs, of which one is free now."""
    line = Line(2)
    line.free(all_but=1)
    return line


def ticket_id(line: Line) -> str:
    """Return the id of the ticket of the first app."""
    (found,) = (row.id for row in line.engine.rows({}) if row.name.startswith(FIRST))
    return found


def test_an_app_that_is_asked_leaves_the_queue(line: Line) -> None:
    """An app finds its ticket also under the name that it has while another client asks."""
    line.ask()

    line.first.release()

    assert ["second"] == line.tickets()


def test_a_retry_finds_a_ticket_while_its_app_is_asked(line: Line) -> None:
    """It answers, and keeps the place of the try before."""
    line.ask()

    step = waits(line.queue("first").attempt())

    assert () == step.ahead
    assert [FIRST, f"{TICKET}second"] == line.names()


def test_a_deferred_app_has_a_minute_for_the_answer() -> None:
    """Another triggerer may have to take over its wait first."""
    line = Line(2, DEFERRED)
    line.free(all_but=1)
    line.ask()
    for _ in range(11):
        line.clock.advance(LOOKS_S)
        waits(line.second.attempt())
    waits(line.first.attempt())
    line.clock.advance(LOOKS_S)

    waits(line.second.attempt())

    assert [FIRST, f"{TICKET}second"] == line.names()


def test_two_apps_ask_at_once(line: Line) -> None:
    """The second one changes nothing, and one answer is enough for both."""
    third = line.queue("third")
    waits(third.attempt())
    asked: list[str] = []

    def ask(verb: Verb, name: str) -> None:
        if verb == "rename" and name == FIRST:
            line.engine.before = None
            third.attempt()
            asked.extend(line.names())

    line.clock.advance(25)
    waits(third.attempt())
    line.engine.before = ask
    asked_name = line.ask()

    assert asked_name in asked
    waits(line.first.attempt())
    assert FIRST in line.names()


def test_a_new_question_is_not_taken_for_an_old_one(line: Line) -> None:
    """An app that looks only while the first one is asked, again and again, does not remove it."""
    name = line.ask()
    for number in range(10):
        waits(line.first.attempt())
        assert FIRST in line.names()
        line.engine.rename(FIRST, f"{FIRST}.asked-{number}")
        line.clock.advance(LOOKS_S)
        waits(line.second.attempt())
    assert name not in line.names()
    assert ["first", "second"] == line.tickets()


def test_an_answer_at_the_last_moment(line: Line) -> None:
    """A ticket is not removed if its app answers after the look and before the removal."""
    asked = line.ask()
    line.clock.advance(ANSWER_S)

    happened: list[str] = []

    def answer(verb: Verb, name: str) -> None:
        if verb in {"rename", "discard"} and name == asked:
            line.engine.before = None
            happened.append(name)
            waits(line.first.attempt())

    line.engine.before = answer

    waits(line.second.attempt())

    assert happened
    assert [FIRST, f"{TICKET}second"] == line.names()


def test_an_answer_that_is_too_late(line: Line) -> None:
    """It does not bring back a ticket that another client has begun to remove."""
    asked, first = line.ask(), ticket_id(line)

    happened: list[str] = []

    def remove(verb: Verb, name: str) -> None:
        if verb == "rename" and name == asked:
            line.engine.before = None
            happened.append(name)
            line.engine.rename(first, f"{DISCARDED_PREFIX}{first}")

    line.engine.before = remove

    line.first.attempt()

    assert happened
    assert [f"{DISCARDED_PREFIX}{first}", f"{TICKET}second"] == line.names()


def test_two_tickets_of_one_app(line: Line) -> None:
    """The older one counts, and the other one is removed, so that the app can answer.

    A try that looked before another one had its ticket may create one while that one is asked.
    """
    line.ask()
    line.clock.advance(1)
    line.engine.create(line.demand("first").spec("ticket", timeout_s=1))

    assert () == waits(line.first.attempt()).ahead
    waits(line.first.attempt())

    assert [FIRST, f"{TICKET}second"] == line.names()


def test_no_ticket_is_left_of_two(line: Line) -> None:
    """A try that needs another number of GPUs removes both when it takes its GPUs."""
    line.ask()
    line.second.release()
    first = line.demand("first")
    line.engine.create(first.spec("ticket", timeout_s=1))

    step = GpuQueue(line.engine, replace(first, count=1), clock=line.clock).attempt()

    assert 1 == len(claimed(step))
    assert [] == line.tickets()


def test_a_client_that_was_paused_during_a_look() -> None:
    """What it saw before the pause does not count as if it had seen it until now."""
    line = Line(1)
    line.free()
    line.clock.advance(0.5)
    line.engine.create(line.demand("late").spec("ticket"))

    happened: list[str] = []

    def pause(verb: Verb, name: str) -> None:
        if verb == "inspect":
            line.engine.before = None
            happened.append(name)
            line.engine.start(line.engine.create(replica("busy", ["GPU-0"])))
            assert not isinstance(line.first.attempt(), Claim)
            line.clock.advance(60)

    line.engine.before = pause

    waits(line.second.attempt())

    assert happened
    assert ["first", "late", "second"] == sorted(line.tickets())
