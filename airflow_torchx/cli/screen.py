"""Prints output, errors, tables and replicas' lines, in colour on a terminal."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import re
import sys
from typing import IO, TYPE_CHECKING, Final, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from airflow_torchx.errors import AirflowTorchXError

_RESET: Final = "\033[0m"
_CODES: Final = {
    "red": "\033[31m",
    "green": "\033[32m",
    "yellow": "\033[33m",
    "cyan": "\033[36m",
    "bold": "\033[1m",
}
#: Colours of replicas, in turn; red is for failures.
_PREFIXES: Final = ("\033[36m", "\033[32m", "\033[33m", "\033[35m", "\033[34m", "\033[96m")
_COLOUR: Final = re.compile(r"\033\[[\d;:]*m")
#: All escape sequences and control characters except colours and tabs.
_CONTROL: Final = re.compile(
    r"\033\[(?![\d;:]*m)[0-?]*[ -/]*[@-~]?"
    r"|\033\][^\a\033]*(?:\a|\033\\)?"
    r"|\033(?!\[)[ -/]*[0-~]?"
    r"|[\x00-\x08\x0a-\x1a\x1c-\x1f\x7f-\x9f]"
)
_STATES: Final = {
    "SUCCEEDED": "green",
    "RUNNING": "cyan",
    "FAILED": "red",
    "CANCELLED": "yellow",
}


def wants_colour(environ: Mapping[str, str], *, is_terminal: bool) -> bool:
    """Return whether to print colours, by the rules of https://no-color.org."""
    if environ.get("NO_COLOR"):
        return False
    if environ.get("FORCE_COLOR"):
        return True
    return is_terminal and environ.get("TERM") != "dumb"


def is_coloured(stream: IO[str]) -> bool:
    """Return whether to print colours to a stream of this process."""
    return wants_colour(os.environ, is_terminal=stream.isatty())


def paint(text: str, colour: str, stream: IO[str]) -> str:
    """Return a text in a colour if the stream supports it."""
    return f"{_CODES[colour]}{text}{_RESET}" if is_coloured(stream) else text


def paint_states(text: str, stream: IO[str]) -> str:
    """Return a text with the names of states in colour."""
    return re.sub(
        rf"\b({'|'.join(_STATES)})\b",
        lambda match: paint(match[1], _STATES[match[1]], stream),
        text,
    )


def print_message(text: str) -> None:
    """Print a message to standard error."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - a command line prints


def warn(text: str) -> None:
    """Print a warning to standard error."""
    print_message(f"{paint('warning:', 'yellow', sys.stderr)} {text}")


def print_result(text: str) -> None:
    """Print a result to standard output."""
    print(text)  # noqa: T201 - a command line prints


def print_error(error: AirflowTorchXError) -> None:
    """Print an error to standard error."""
    print_message(f"{paint('error:', 'red', sys.stderr)} {error}")


def sanitize(text: str, stream: IO[str]) -> str:
    """Return a line of a log or label without control sequences, except colours.

    Streams that are not a terminal get the line unchanged.
    """
    if not stream.isatty():
        return text
    kept = _CONTROL.sub("", text)
    return f"{kept}{_RESET}" if _COLOUR.search(kept) else kept


def table(rows: Sequence[Sequence[str]], titles: Sequence[str], stream: TextIO) -> str:
    """Return rows in aligned columns under their titles."""
    rows = [[sanitize(cell, stream) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in (titles, *rows)) for column in range(len(titles))]

    def line(cells: Iterable[str]) -> str:
        return "  ".join(c.ljust(w) for c, w in zip(cells, widths, strict=True)).rstrip()

    head = paint(line(titles), "bold", stream)
    return "\n".join([head, *(paint_states(line(row), stream) for row in rows)])


class ReplicaLines:
    """Prints lines of replicas, each prefixed with its replica's name, like ``trainer/0``."""

    def __init__(self, stream: TextIO, names: Sequence[str]) -> None:
        self._width = max((len(name) for name in names), default=0)
        self._stream = stream
        self._colours = itertools.cycle(_PREFIXES)
        self._prefixes: dict[str, str] = {}
        for name in names:
            self._prefix(name)

    def write(self, name: str, lines: Iterable[str]) -> None:
        """Print lines of one replica, which may be a new one."""
        prefix = self._prefix(name)
        self._stream.write("".join(f"{prefix}{sanitize(line, self._stream)}\n" for line in lines))

    def _prefix(self, name: str) -> str:
        if name not in self._prefixes:
            colour, text = next(self._colours), name.ljust(self._width)
            is_plain = not is_coloured(self._stream)
            self._prefixes[name] = f"{text} " if is_plain else f"{colour}{text}{_RESET} "
        return self._prefixes[name]

    def flush(self) -> None:
        """Flush the output."""
        self._stream.flush()


class _Handler(logging.Handler):
    """Prints log records; `sys.stderr` is looked up each time, since a progress bar replaces it."""

    def emit(self, record: logging.LogRecord) -> None:
        (warn if record.levelno >= logging.WARNING else print_message)(record.getMessage())


def configure(level: str) -> None:
    """Configure the output streams and this package's log level; an unknown one means INFO."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that supports only ASCII must show any output.
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    logger = logging.getLogger("airflow_torchx")
    known = logging.getLevelNamesMapping()
    logger.setLevel(known.get(level.upper(), logging.INFO))
    logger.handlers = [_Handler()]
    logger.propagate = False
