"""Tests how the command line handles signals."""

from __future__ import annotations

import signal

import pytest

from airflow_torchx.cli.interrupts import Interrupts


@pytest.fixture
def interrupted() -> Interrupts:
    """Return interrupts that received Ctrl-C and then SIGTERM, before a question."""
    with Interrupts() as interrupts:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
    return interrupts


def test_sigterm_before_the_question(interrupted: Interrupts) -> None:
    """SIGTERM before the question interrupts it at once, and nothing earlier."""
    with pytest.raises(KeyboardInterrupt), interrupted.prompting():
        pass

    assert interrupted.is_sigterm


def test_sigterm_after_the_answer(interrupted: Interrupts) -> None:
    """A reset after the answer does not discard SIGTERM."""
    interrupted.reset()

    assert interrupted.pending()


def test_sigterm_during_the_question() -> None:
    """SIGTERM during the question interrupts it."""
    with Interrupts() as interrupts:
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt), interrupts.prompting():
            signal.raise_signal(signal.SIGTERM)

    assert interrupts.is_sigterm


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (signal.SIGINT, signal.SIGINT),
        (signal.SIGTERM, signal.SIGTERM),
        (signal.SIGTERM, signal.SIGINT),
    ],
)
def test_second_signal(first: signal.Signals, second: signal.Signals) -> None:
    """A second signal interrupts, and the exit code is that of the first."""
    with Interrupts() as interrupts:
        signal.raise_signal(first)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(second)

    assert 128 + first == interrupts.exit_code


def test_third_signal_during_a_launch(capfd: pytest.CaptureFixture[str]) -> None:
    """A third signal does not interrupt the undo of a launch; it is answered."""
    with Interrupts() as interrupts:
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    assert interrupts.pending()
    assert "already being undone" in capfd.readouterr().err


def test_third_signal_after_a_launch() -> None:
    """After the launch, every further signal interrupts."""
    with Interrupts() as interrupts:
        interrupts.launched()
        signal.raise_signal(signal.SIGINT)
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
