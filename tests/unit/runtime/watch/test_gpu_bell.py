"""How often an app that waits for GPUs looks."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from airflow_torchx.core.gpu.ledger import Ticket
from airflow_torchx.core.gpu.turn import Wait
from airflow_torchx.runtime.watch.gpu_bell import Pauses

OTHER: Final = Ticket(
    container_id="c",
    name="ticket",
    count=1,
    among=("GPU-0",),
    needs_all=False,
    respects_foreign=True,
    since=datetime(2026, 1, 1, tzinfo=UTC),
    patience_s=1.0,
    labels={},
)
FIRST: Final = Wait(wanted=1, holders=())
BEHIND: Final = Wait(wanted=1, holders=(), ahead=(OTHER,))


def test_pauses_are_short_after_a_ring() -> None:
    """The daemon may list what a ring announced a second later; then looks are seconds apart."""
    pauses = Pauses()
    short = [pauses.next_s(FIRST) for _ in range(5)]
    assert [0.05, 0.1, 0.2, 0.4, 0.8] == short
    assert 5.0 == pauses.next_s(FIRST) == pauses.next_s(None)

    pauses.rang()

    assert short == [pauses.next_s(FIRST) for _ in range(5)]


def test_an_app_behind_others_looks_once_after_a_ring() -> None:
    """It looks more often as soon as it is the first in the queue."""
    pauses = Pauses()
    pauses.rang()

    assert [5.0, 5.0, 0.05, 0.1] == [pauses.next_s(step) for step in (BEHIND, BEHIND, FIRST, FIRST)]


def test_something_that_is_not_announced() -> None:
    """A look that is due earlier for another reason is made then."""
    pauses = Pauses()

    assert 1.0 == pauses.next_s(Wait(wanted=1, holders=(), ahead=(OTHER,), again_s=1.0))
