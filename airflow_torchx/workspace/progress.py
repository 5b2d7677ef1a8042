"""Reporting progress: lines in a log, or a bar on a terminal."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from typing import TYPE_CHECKING, Final, Protocol, Self

from airflow_torchx.concurrency.parallel import StopRequested
from airflow_torchx.core.engine.amounts import size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console

_log = logging.getLogger(__name__)

EVERY_S: Final = 2.0
_WHOLE: Final = 100


class Report(Protocol):
    """Receives progress and results."""

    def tell(self, text: str) -> None:
        """Report a result, which is always shown."""
        ...

    def step(self, text: str) -> None:
        """Report the start of a step."""
        ...

    def line(self, text: str) -> None:
        """Report a line that a step has printed."""
        ...

    def move(self, text: str, done: int = 0, total: int = 0) -> None:
        """Report the progress of a step in bytes, shown at intervals; a total of 0 is unknown."""
        ...


class LogReport:
    """Reports as lines in a log, for progress at most one every two seconds.

    Args:
        quiet: report results only.
        write: writes a line; None for the log of this module.
        clock: returns seconds.
        every_s: minimum seconds between two lines of one step.
    """

    def __init__(
        self,
        *,
        quiet: bool = False,
        write: Callable[[str], object] | None = None,
        clock: Callable[[], float] = time.monotonic,
        every_s: float = EVERY_S,
    ) -> None:
        self._quiet = quiet
        self._write = write or (lambda text: _log.info("%s", text))
        self._clock = clock
        self._every_s = every_s
        self._written_s = clock()

    def tell(self, text: str) -> None:
        """See `Report.tell`."""
        self._written_s = self._clock()
        self._write(text)

    def step(self, text: str) -> None:
        """See `Report.step`."""
        if not self._quiet:
            self.tell(text)

    line = step

    def move(self, text: str, done: int = 0, total: int = 0) -> None:
        """See `Report.move`."""
        if not self._quiet and self._clock() >= self._written_s + self._every_s:
            self.tell(f"{text}{amount(done, total)}")


class TerminalReport:
    """Reports progress as a bar on a terminal, removed on exit, and each result as a line.

    The terminal is standard error by default.
    """

    def __init__(self, *, quiet: bool = False, console: Console | None = None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

        self._quiet = quiet
        self._console = console or Console(stderr=True)
        text = TextColumn("{task.description}", markup=False)
        columns = (text, BarColumn(), TaskProgressColumn())
        self._bar = Progress(*columns, console=self._console, transient=True, disable=quiet)
        self._task = self._bar.add_task("", total=None)
        self._total = 0

    def tell(self, text: str) -> None:
        """See `Report.tell`."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def step(self, text: str) -> None:
        """See `Report.step`."""
        self.move(text)

    def line(self, text: str) -> None:
        """See `Report.line`."""
        if not self._quiet:
            self.tell(text)

    def move(self, text: str, done: int = 0, total: int = 0) -> None:
        """See `Report.move`."""
        if self._total and not total:
            # rich cannot remove a task's total; a task without a total shows a moving bar.
            self._bar.remove_task(self._task)
            self._task = self._bar.add_task("", total=None)
        self._total = total
        self._bar.update(self._task, description=text, completed=done, total=total or None)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()


@contextlib.contextmanager
def reporter(*, quiet: bool = False, terminal: bool | None = None) -> Iterator[Report]:
    """Yield a report on the terminal if there is one, otherwise in the log.

    ``terminal`` overrides the detection; None detects one. A quiet report has results only.
    """
    if sys.stderr.isatty() if terminal is None else terminal:
        with TerminalReport(quiet=quiet) as report:
            yield report
    else:
        yield LogReport(quiet=quiet)


def byte_counter(
    report: Report, what: str, total: int, should_stop: Callable[[], bool]
) -> Callable[[int], None]:
    """Return a callback that adds up counts of bytes and reports their sum.

    It raises `StopRequested` once ``should_stop`` returns True.
    """
    done = 0

    def on_bytes(count: int) -> None:
        nonlocal done
        done += count
        if should_stop():
            raise StopRequested
        report.move(what, done, total)

    return on_bytes


def amount(done: int, total: int) -> str:
    """Return a progress text such as ``: 12 of 50 MB (24%)``; "" if nothing is known."""
    if not total:
        return f": {size(done)}" if done else ""
    return f": {size(min(done, total))} of {size(total)} ({min(_WHOLE, _WHOLE * done // total)}%)"
