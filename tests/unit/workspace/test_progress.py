"""Reporting progress."""

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
    """Report ten seconds of a build, with progress every half second."""
    report.step("building")
    report.line("hello")
    report.line("world")
    for half in range(1, 21):
        clock.advance(0.5)
        report.move("sending", half * 1_000_000, 20_000_000)
    report.tell("built")


def test_log_lines_are_at_least_two_seconds_apart() -> None:
    """Steps, their output and results are logged at once, progress at most every two seconds."""
    clock, lines = ManualClock(), list[str]()

    work(LogReport(write=lines.append, clock=clock), clock)

    assert lines == [
        "building",
        "hello",
        "world",
        "sending: 4.0 MB of 20 MB (20%)",
        "sending: 8.0 MB of 20 MB (40%)",
        "sending: 12 MB of 20 MB (60%)",
        "sending: 16 MB of 20 MB (80%)",
        "sending: 20 MB of 20 MB (100%)",
        "built",
    ]


def test_quiet_report() -> None:
    """A quiet report has one line per result."""
    clock, lines = ManualClock(), list[str]()

    work(LogReport(quiet=True, write=lines.append, clock=clock), clock)

    assert ["built"] == lines


def test_lines_go_to_the_log_of_this_package(caplog: pytest.LogCaptureFixture) -> None:
    """Without a terminal, reports go to the log of the package."""
    with caplog.at_level(logging.INFO, "airflow_torchx"), reporter() as report:
        report.tell("built 100%")

    assert ["built 100%"] == caplog.messages


@pytest.mark.parametrize("quiet", [False, True])
def test_terminal_report(*, quiet: bool) -> None:
    """A terminal shows a bar that disappears, and lines that stay."""
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=80)
    clock = ManualClock()

    with TerminalReport(quiet=quiet, console=console) as report:
        work(report, clock)

    shown = screen.getvalue()
    assert "built\n" in shown
    assert quiet == ("hello\n" not in shown)
    assert quiet == ("sending" not in shown)


def test_bar_without_total() -> None:
    """A step without a total does not keep the total of the step before."""
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=80)

    with TerminalReport(console=console) as report:
        report.move("sending", 5, 5)
        report.step("building")

    shown = screen.getvalue()
    assert "building" in shown
    assert "%" not in shown.rpartition("building")[2]


def test_text_is_not_markup() -> None:
    """Brackets in a text are printed, not interpreted as markup."""
    screen = io.StringIO()

    with TerminalReport(console=Console(file=screen, width=80)) as report:
        report.step("[/nothing]")
        report.tell("[bold]name[/bold]")

    assert "[bold]name[/bold]" in screen.getvalue()


def test_amounts() -> None:
    """Amounts of bytes have a readable unit."""
    assert ["12 bytes", "1.5 kB", "2.5 MB", "50 MB"] == [
        size(count) for count in (12, 1_500, 2_500_000, 50_000_000)
    ]
    assert ["1 file", "2,000 files", "0 files"] == [counted(n, "file") for n in (1, 2_000, 0)]
    assert ["", ": 5.0 MB", ": 5.0 MB of 5.0 MB (100%)"] == [
        amount(0, 0),
        amount(5_000_000, 0),
        amount(6_000_000, 5_000_000),
    ]
