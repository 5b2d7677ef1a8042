"""What a person sees: colours where there is a terminal, errors as one block, replicas' lines."""

from __future__ import annotations

import contextlib
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
    "dim": "\033[2m",
}
#: Of replicas, in turn; red stays for what went wrong.
_PREFIXES: Final = ("\033[36m", "\033[32m", "\033[33m", "\033[35m", "\033[34m", "\033[96m")
_COLOURED: Final = re.compile(r"\033\[[\d;:]*m")
#: Sequences that move, hide or retitle, and single control characters; tabs and colours stay.
_WILD: Final = re.compile(
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
    """Tell whether to write colours; https://no-color.org has the rule."""
    if environ.get("NO_COLOR"):
        return False
    if environ.get("FORCE_COLOR"):
        return True
    return is_terminal and environ.get("TERM") != "dumb"


def is_coloured(stream: IO[str]) -> bool:
    """Tell whether colours are written to a stream of this process."""
    return wants_colour(os.environ, is_terminal=stream.isatty())


def paint(text: str, colour: str, stream: IO[str]) -> str:
    """Return a text in a colour, if the stream shows any."""
    return f"{_CODES[colour]}{text}{_RESET}" if is_coloured(stream) else text


def paint_states(text: str, stream: IO[str]) -> str:
    """Return a text with the names of states in their colours."""
    return re.sub(
        rf"\b({'|'.join(_STATES)})\b",
        lambda match: paint(match[1], _STATES[match[1]], stream),
        text,
    )


def say(text: str) -> None:
    """Write a line to standard error, where everything goes that is no answer."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - a command line prints


def warn(text: str) -> None:
    """Write what a user should know although it stops nothing."""
    say(f"{paint('warning:', 'yellow', sys.stderr)} {text}")


def answer(text: str) -> None:
    """Write a line to standard output."""
    print(text)  # noqa: T201 - a command line prints


def show_error(why: AirflowTorchXError) -> None:
    """Write what happened, why, and what to do."""
    say(f"{paint('error:', 'red', sys.stderr)} {why}")


def tame(text: str, stream: IO[str]) -> str:
    """Return a line that does to a terminal no more than colour it.

    Somebody else wrote it, on a container or in a log. What is no terminal gets it as it is.
    """
    if not stream.isatty():
        return text
    kept = _WILD.sub("", text)
    return f"{kept}{_RESET}" if _COLOURED.search(kept) else kept


def table(rows: Sequence[Sequence[str]], titles: Sequence[str], stream: TextIO) -> str:
    """Return columns under their titles, as wide as they must be."""
    rows = [[tame(cell, stream) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in (titles, *rows)) for column in range(len(titles))]

    def line(cells: Iterable[str]) -> str:
        return "  ".join(c.ljust(w) for c, w in zip(cells, widths, strict=True)).rstrip()

    head = paint(line(titles), "bold", stream)
    return "\n".join([head, *(paint_states(line(row), stream) for row in rows)])


class ReplicaLines:
    """Writes lines of replicas, each with its replica's name in front.

    Args:
        stream: where to.
        names: the replicas, like ``trainer/0``.
    """

    def __init__(self, stream: TextIO, names: Sequence[str]) -> None:
        width = max((len(name) for name in names), default=0)
        coloured = is_coloured(stream)
        self._stream = stream
        self._prefixes = {
            name: f"{_PREFIXES[index % len(_PREFIXES)]}{name.ljust(width)}{_RESET} "
            if coloured
            else f"{name.ljust(width)} "
            for index, name in enumerate(names)
        }

    def write(self, name: str, lines: Iterable[str]) -> None:
        """Write lines of one replica."""
        prefix = self._prefixes[name]
        self._stream.write("".join(f"{prefix}{tame(line, self._stream)}\n" for line in lines))

    def flush(self) -> None:
        """See that what was written arrives."""
        self._stream.flush()


class _Handler(logging.Handler):
    """What our modules say while they work; `sys.stderr` may be another one under a bar."""

    def emit(self, record: logging.LogRecord) -> None:
        (warn if record.levelno >= logging.WARNING else say)(record.getMessage())


def prepare(level: str) -> None:
    """Make this process ready to speak to people.

    Args:
        level: of our modules' own words, like ``INFO``; one that does not exist is ``INFO``.
    """
    for stream in (sys.stdout, sys.stderr):
        # Whatever a program writes can be shown, also where the terminal knows ASCII only.
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    logger = logging.getLogger("airflow_torchx")
    known = logging.getLevelNamesMapping()
    logger.setLevel(known.get(level.upper(), logging.INFO))
    logger.handlers = [_Handler()]
    logger.propagate = False
