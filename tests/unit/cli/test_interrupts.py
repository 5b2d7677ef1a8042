"""What the command line makes of signals, wherever they come."""

from __future__ import annotations

import signal

import pytest

from airflow_torchx.cli.interrupts import Interrupts


@pytest.fixture
def interrupted() -> Interrupts:
    """Return what noted a Ctrl-C and then a SIGTERM, before anybody was asked."""
    with Interrupts() as interrupts:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
    return interrupts


def test_sigterm_before_the_question(interrupted: Interrupts) -> None:
    """There is none, whenever it came; no work on the way to it is broken off."""
    with pytest.raises(KeyboardInterrupt), interrupted.asking():
        pass

    assert interrupted.is_order


def test_sigterm_after_the_answer(interrupted: Interrupts) -> None:
    """It counts, though the answer was to go on."""
    interrupted.forget()

    assert interrupted.pending()


def test_sigterm_while_one_is_asked() -> None:
    """It ends the wait."""
    with Interrupts() as interrupts:
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt), interrupts.asking():
            signal.raise_signal(signal.SIGTERM)

    assert interrupts.is_order


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (signal.SIGINT, signal.SIGINT),
        (signal.SIGTERM, signal.SIGTERM),
        (signal.SIGTERM, signal.SIGINT),
    ],
)
def test_the_second_one_is_enough(first: signal.Signals, second: signal.Signals) -> None:
    """Work is broken off, and the exit code tells the first."""
    with Interrupts() as interrupts:
        signal.raise_signal(first)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(second)

    assert 128 + first == interrupts.exit_code
