"""What long work says."""

from __future__ import annotations

import io
import logging
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from airflow_torchx.core.engine.amounts import counted, size
from airflow_torchx.testing import ManualClock
from airflow_torchx.workspace.progress import (
    LogReport,
    TerminalReport,
    amount,
    reporter,
)

if TYPE_CHECKING:
    from airflow_torchx.workspace.progress import Report


def work(report: Report, clock: ManualClock) -> None:
    """Build for ten seconds, with news every half of one."""
    report.step("building")
    for half in range(1, 21):
        clock.advance(0.5)
        report.move("sending", half * 1_000_000, 20_000_000)
    report.tell("built")


def test_a_log_gets_a_line_every_two_seconds_at_most() -> None:
    """The first and the last come at once."""
    clock, lines = ManualClock(), list[str]()

    with LogReport(write=lines.append, clock=clock) as report:
        work(report, clock)

    assert lines == [
        "building",
        "sending: 4.0 MB of 20 MB (20%)",
        "sending: 8.0 MB of 20 MB (40%)",
        "sending: 12 MB of 20 MB (60%)",
        "sending: 16 MB of 20 MB (80%)",
        "sending: 20 MB of 20 MB (100%)",
        "built",
    ]


def test_a_quiet_one_is_a_line_for_each_result() -> None:
    """And nothing else."""
    clock, lines = ManualClock(), list[str]()

    with LogReport(quiet=True, write=lines.append, clock=clock) as report:
        work(report, clock)

    assert ["built"] == lines


def test_lines_go_to_the_log_of_this_package(caplog: pytest.LogCaptureFixture) -> None:
    """Where there is no terminal, as here."""
    with caplog.at_level(logging.INFO, "airflow_torchx"), reporter() as report:
        report.tell("built 100%")

    assert ["built 100%"] == caplog.messages


@pytest.mark.parametrize("quiet", [False, True])
def test_a_terminal_gets_a_bar_and_keeps_the_results(*, quiet: bool) -> None:
    """The bar is gone at the end."""
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=80)
    clock = ManualClock()

    with TerminalReport(quiet=quiet, console=console) as report:
        work(report, clock)

    shown = screen.getvalue()
    assert "built\n" in shown
    assert quiet == ("sending" not in shown)


def test_a_bar_forgets_how_much_there_was() -> None:
    """What moves next may have no end that is known."""
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=80)

    with TerminalReport(console=console) as report:
        report.move("sending", 5, 5)
        report.step("building")

    shown = screen.getvalue()
    assert "building" in shown
    assert "%" not in shown.rpartition("building")[2]


def test_what_is_told_is_no_markup() -> None:
    """A name like [bold] is a name."""
    screen = io.StringIO()

    with TerminalReport(console=Console(file=screen, width=80)) as report:
        report.step("[/nothing]")
        report.tell("[bold]name[/bold]")

    assert "[bold]name[/bold]" in screen.getvalue()


def test_amounts_are_for_people() -> None:
    """Bytes as people count them."""
    assert ["12 bytes", "1.5 kB", "2.5 MB", "50 MB"] == [
        size(count) for count in (12, 1_500, 2_500_000, 50_000_000)
    ]
    assert ["1 file", "2,000 files", "0 files"] == [counted(n, "file") for n in (1, 2_000, 0)]
    assert ["", ": 5.0 MB", ": 5.0 MB of 5.0 MB (100%)"] == [
        amount(0, 0),
        amount(5_000_000, 0),
        amount(6_000_000, 5_000_000),
    ]
