"""Readers: each checks one JSON value and returns what a spec holds for it.

A reader that finds something wrong notes it and returns None; so one pass finds all problems.
"""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, TypeAlias

from airflow_torchx.errors import Problem
from airflow_torchx.specs.app import RetryPolicy
from airflow_torchx.specs.status import AppState
from airflow_torchx.specs.suggest import suggest

Problems: TypeAlias = list[Problem]
#: Takes the path of the value, the value, and the list of problems to add to.
Reader: TypeAlias = Callable[[str, object, Problems], Any]


def wrong(path: str, expected: str, value: object, fix: str) -> Problem:
    """Return the problem of a value that is not what was expected.

    What should have been an environment, or a part of one, may be a secret: only its type is told.
    """
    is_secret = value is not None and re.search(r"\.env(\[|$)", path)
    shown = type(value).__name__ if is_secret else reprlib.repr(value)
    return Problem(path or "app", f"expected {expected}, got {shown}", fix)


def text(path: str, value: object, problems: Problems) -> str | None:
    """Read a string."""
    if isinstance(value, str):
        return value
    problems.append(wrong(path, "a string", value, "put it in quotes"))
    return None


def flag(path: str, value: object, problems: Problems) -> bool | None:
    """Read true or false."""
    if isinstance(value, bool):
        return value
    problems.append(wrong(path, "true or false", value, "write true or false, without quotes"))
    return None


def whole(of: str = "") -> Reader:
    """Return a reader of whole numbers, ``of`` some unit."""

    def read(path: str, value: object, problems: Problems) -> int | None:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        expected = f"a whole number of {of}" if of else "a whole number"
        problems.append(wrong(path, expected, value, "write digits only, without quotes"))
        return None

    return read


def number(of: str) -> Reader:
    """Return a reader of numbers, ``of`` some unit; parts are allowed."""

    def read(path: str, value: object, problems: Problems) -> float | None:
        if isinstance(value, bool):
            pass  # True is an int to Python, and nobody means it as one
        elif isinstance(value, int | float) and math.isfinite(value):
            return value
        problems.append(wrong(path, f"a number of {of}", value, "write it like 2 or 0.5"))
        return None

    return read


def moment(path: str, value: object, problems: Problems) -> datetime | None:
    """Read a point in time in ISO 8601."""
    try:
        if isinstance(value, str):
            return datetime.fromisoformat(value)
    except ValueError:
        pass
    fix = "write it like 2026-01-31T23:59:59+00:00"
    problems.append(wrong(path, "a time in ISO 8601", value, fix))
    return None


def state(path: str, value: object, problems: Problems) -> AppState | None:
    """Read the name of a state."""
    names = AppState.__members__
    if isinstance(value, str) and value in names:
        return names[value]
    problems.append(wrong(path, "the name of a state", value, suggest(str(value), names)))
    return None


def policy(path: str, value: object, problems: Problems) -> RetryPolicy | None:
    """Read a retry policy."""
    names = RetryPolicy.__members__
    if isinstance(value, str) and value in names:
        return names[value]
    problems.append(wrong(path, "a retry policy", value, suggest(str(value), names)))
    return None


def anything(path: str, value: object, problems: Problems) -> object:
    """Read any JSON value: null, booleans, finite numbers, strings, and lists and dicts of them."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, list | tuple):
        return sequence(anything)(path, value, problems)
    if isinstance(value, Mapping):
        return mapping(anything)(path, value, problems)
    fix = "use strings, numbers, booleans, lists and dicts"
    problems.append(wrong(path, "something that JSON can express", value, fix))
    return None


def optional(item: Reader) -> Reader:
    """Return a reader that takes null too."""

    def read(path: str, value: object, problems: Problems) -> object:
        return None if value is None else item(path, value, problems)

    return read


def sequence(item: Reader) -> Reader:
    """Return a reader of lists."""

    def read(path: str, value: object, problems: Problems) -> list[Any] | None:
        if isinstance(value, list | tuple):
            return [item(f"{path}[{i}]", entry, problems) for i, entry in enumerate(value)]
        problems.append(wrong(path, "a list", value, "put it in a list, even if it is only one"))
        return None

    return read


def mapping(item: Reader) -> Reader:
    """Return a reader of dicts, whose keys are strings."""

    def read(path: str, value: object, problems: Problems) -> dict[str, Any] | None:
        if not isinstance(value, Mapping):
            problems.append(wrong(path, "a dict", value, "write a dict"))
            return None
        for key in value:
            if not isinstance(key, str):
                problems.append(wrong(path, "strings as keys", key, "put the key in quotes"))
        return {key: item(f"{path}[{key!r}]", entry, problems) for key, entry in value.items()}

    return read
