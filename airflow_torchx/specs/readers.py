"""Reads JSON values into the types of a spec.

On an invalid value, a reader adds a problem and returns None, so one pass finds all problems.
"""

from __future__ import annotations

import contextlib
import math
import re
import reprlib
from collections.abc import Callable, Mapping
from datetime import datetime
from numbers import Number
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from airflow_torchx.errors import Problem
from airflow_torchx.specs.app import RetryPolicy
from airflow_torchx.specs.scalars import as_number, as_text, plain
from airflow_torchx.specs.status import AppState
from airflow_torchx.specs.suggest import suggest

if TYPE_CHECKING:
    from enum import Enum


class Problems(list[Problem]):
    """Collects the problems of the values that are read.

    Args:
        templated: the values are those of templates. Before these are rendered, a value may be the
            output of another task. Then a number may be a text, and a text a number.
    """

    def __init__(self, *, templated: bool = False) -> None:
        super().__init__()
        self.templated = templated


#: Arguments: path of the value, the value, the list of problems to append to.
Reader: TypeAlias = Callable[[str, object, Problems], Any]

#: Words for a boolean on a command line.
FLAGS: Final = {
    **dict.fromkeys(("true", "1", "yes", "on"), True),
    **dict.fromkeys(("false", "0", "no", "off"), False),
}


def unexpected(path: str, expected: str, value: object, fix: str) -> Problem:
    """Return the problem of an unexpected value.

    Values of an environment may be secrets, so only their type is shown.
    """
    is_secret = value is not None and re.search(r"\.env(\[|$)", path)
    shown = type(value).__name__ if is_secret else reprlib.repr(value)
    return Problem(path or "app", f"expected {expected}, got {shown}", fix)


def _reader(
    accepts: Callable[[object], bool],
    expected: str,
    fix: str,
    convert: Callable[[Any], object],
) -> Reader:
    """Return a reader of the values that ``accepts`` accepts.

    Args:
        accepts: whether a value is one of the reader's.
        expected: what it accepts, for messages.
        fix: what to write, for messages.
        convert: returns the value of a template as one of the reader's, or raises an error.
    """

    def read(path: str, value: object, problems: Problems) -> object:
        if problems.templated and not accepts(value):
            with contextlib.suppress(*_CONVERSION_ERRORS):
                value = convert(value)
        if accepts(value):
            return value
        problems.append(unexpected(path, expected, value, fix))
        return None

    return read


_CONVERSION_ERRORS: Final = (AttributeError, KeyError, OverflowError, TypeError, ValueError)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and _is_number(value)


def to_flag(value: object) -> bool:
    """Return the boolean in a value: a boolean, 1 or 0, or one of `FLAGS`; else raise KeyError."""
    return FLAGS[str(value).strip().lower()]


#: Reads a string.
text: Final = _reader(lambda value: isinstance(value, str), "a string", "put it in quotes", as_text)
#: Reads a boolean.
flag: Final = _reader(
    lambda value: isinstance(value, bool),
    "true or false",
    "write true or false, without quotes",
    to_flag,
)


def whole(unit: str = "") -> Reader:
    """Return a reader of whole numbers; ``unit`` is for messages."""
    expected = f"a whole number of {unit}" if unit else "a whole number"
    return _reader(_is_whole, expected, "write digits only", as_number)


def number(unit: str) -> Reader:
    """Return a reader of numbers, fractions included; ``unit`` is for messages."""
    return _reader(_is_number, f"a number of {unit}", "write it like 2 or 0.5", as_number)


def timestamp(path: str, value: object, problems: Problems) -> datetime | None:
    """Read a timestamp in ISO 8601."""
    try:
        if isinstance(value, str):
            return datetime.fromisoformat(value)
    except ValueError:
        pass
    fix = "write it like 2026-01-31T23:59:59+00:00"
    problems.append(unexpected(path, "a time in ISO 8601", value, fix))
    return None


def member(kind: type[Enum], expected: str) -> Reader:
    """Return a reader of the names of an enumeration; ``expected`` is for messages."""
    names = kind.__members__

    def read(path: str, value: object, problems: Problems) -> Enum | None:
        if isinstance(value, str) and value in names:
            return names[value]
        problems.append(unexpected(path, expected, value, suggest(str(value), names)))
        return None

    return read


state: Final = member(AppState, "the name of a state")
policy: Final = member(RetryPolicy, "a retry policy")


def anything(path: str, value: object, problems: Problems) -> object:
    """Read any JSON value; NaN and infinity are rejected."""
    value = plain(value)
    if value is None or isinstance(value, str | bool) or _is_number(value):
        return value
    if isinstance(value, list | tuple):
        return sequence(anything)(path, value, problems)
    if isinstance(value, Mapping):
        return mapping(anything)(path, value, problems)
    if problems.templated and hasattr(value, "resolve"):
        return value
    if problems.templated and isinstance(value, Number) and not isinstance(value, float):
        return str(value)
    fix = "use strings, numbers, booleans, lists and dicts"
    problems.append(unexpected(path, "a JSON value", value, fix))
    return None


def optional(item: Reader) -> Reader:
    """Return a reader that also accepts null."""

    def read(path: str, value: object, problems: Problems) -> object:
        return None if value is None else item(path, value, problems)

    return read


def sequence(item: Reader) -> Reader:
    """Return a reader of lists."""

    def read(path: str, value: object, problems: Problems) -> list[Any] | None:
        if isinstance(value, list | tuple):
            return [item(f"{path}[{i}]", entry, problems) for i, entry in enumerate(value)]
        problems.append(unexpected(path, "a list", value, "put a single value in a list, too"))
        return None

    return read


def mapping(item: Reader) -> Reader:
    """Return a reader of dicts with string keys."""

    def read(path: str, value: object, problems: Problems) -> dict[str, Any] | None:
        if not isinstance(value, Mapping):
            problems.append(unexpected(path, "a dict", value, "write a dict"))
            return None
        for key in value:
            if not isinstance(key, str):
                problems.append(unexpected(path, "strings as keys", key, "put the key in quotes"))
        return {key: item(f"{path}[{key!r}]", entry, problems) for key, entry in value.items()}

    return read
