"""How often an app that waits for GPUs looks."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from airflow_torchx.core.gpu.ledger import Ticket
from airflow_torchx.core.gpu.turn import Blocked
from airflow_torchx.runtime.watch.gpu_events import AttemptBackoff

OTHER: Final = Ticket(
    container_id="c",
    name="ticket",
    current_name="ticket",
    count=1,
    among=("GPU-0",),
    needs_all=False,
    respects_foreign=True,
    since=datetime(2026, 1, 1, tzinfo=UTC),
    timeout_s=1.0,
    labels={},
)
FIRST: Final = Blocked(wanted=1, holders=())
SECOND: Final = Blocked(wanted=1, holders=(), ahead=(OTHER,))
THIRD: Final = Blocked(wanted=1, holders=(), ahead=(OTHER, OTHER))


def test_pauses_are_short_after_an_event() -> None:
    """The daemon may list what an event announced a second later; later pauses are seconds."""
    backoff = AttemptBackoff()
    short = [backoff.next_s(FIRST) for _ in range(5)]
    assert [0.05, 0.1, 0.2, 0.4, 0.8] == short
    assert 5.0 == backoff.next_s(FIRST) == backoff.next_s(None)

    backoff.reset()

    assert short == [backoff.next_s(FIRST) for _ in range(5)]


def test_an_app_behind_others_looks_once_after_an_event() -> None:
    """It looks more often as soon as it is the second, which sees whether the first one lives."""
    backoff = AttemptBackoff()
    steps = (THIRD, THIRD, SECOND, SECOND, FIRST)

    assert [5.0, 5.0, 0.05, 0.1, 0.2] == [backoff.next_s(step) for step in steps]


def test_something_that_is_not_announced() -> None:
    """A look that is due earlier for another reason is made then."""
    backoff = AttemptBackoff()

    assert 1.0 == backoff.next_s(replace(THIRD, again_s=1.0))


def test_each_app_looks_often_if_the_daemon_sends_no_events() -> None:
    """An app at any place of the queue may lose it a second after its GPUs have become free."""
    for near in (FIRST, SECOND):
        backoff = AttemptBackoff()
        pauses = [backoff.next_s(near, has_events=False) for _ in range(7)]
        assert [0.05, 0.1, 0.2, 0.4, 0.5, 0.5, 0.5] == pauses
    assert 0.5 == AttemptBackoff().next_s(THIRD, has_events=False)
