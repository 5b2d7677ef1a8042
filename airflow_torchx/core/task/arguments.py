"""Arguments of a task that take one of a few words or numbers; pure, and cheap to import.

A DAG file imports it each time it is parsed.
"""

from __future__ import annotations

import math
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Sequence


class _Choice(StrEnum):
    """An argument that takes one of a few words."""

    @classmethod
    def parse(cls, word: str) -> Self:
        """Return the member of this word.

        Raises:
            ValueError: there is none; the message has those that are there.
        """
        try:
            return cls(word)
        except ValueError:
            choices = ", ".join(cls)
            name = _ARGUMENTS[cls.__name__]
            msg = f"{name}={word!r} does not exist; choose from {choices}"
            raise ValueError(msg) from None


_ARGUMENTS = {"OnFinish": "on_finish", "OnWorkerShutdown": "on_worker_shutdown"}


class OnFinish(_Choice):
    """What becomes of an app's containers when the task is over."""

    DELETE = "delete"
    KEEP = "keep"
    KEEP_FAILED = "keep_failed"


class OnWorkerShutdown(_Choice):
    """What becomes of a running app when the worker of its task is shut down."""

    DEFER = "defer"
    KEEP = "keep"
    STOP = "stop"


def exit_codes(argument: str, given: int | Sequence[int]) -> frozenset[int]:
    """Return the exit codes that an argument names.

    Raises:
        ValueError: one is none; a program that succeeds has 0, and cannot fail with it.
    """
    codes = [given] if isinstance(given, int) else list(given)
    for code in codes:
        if not isinstance(code, int) or isinstance(code, bool) or not 0 < code <= _MAX_CODE:
            raise ValueError(f"{argument}={given!r}: give exit codes from 1 to {_MAX_CODE}")
    return frozenset(codes)


_MAX_CODE: Final = 255


def ids_of(given: str | Sequence[str]) -> Sequence[str]:
    """Return the ids that an argument gives; a text is one id."""
    return [given] if isinstance(given, str) else given


def positive(argument: str, given: float | timedelta) -> float:
    """Return the number that an argument gives, of a timedelta its seconds.

    Raises:
        ValueError: it is no number above 0.
    """
    number = given.total_seconds() if isinstance(given, timedelta) else given
    wrong = isinstance(number, bool) or not isinstance(number, (int, float))
    if wrong or not (math.isfinite(number) and number > 0):
        raise ValueError(f"{argument}={given!r}: give a number above 0")
    return float(number)
