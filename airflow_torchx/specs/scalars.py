"""Decides which values are texts and which are numbers."""

from __future__ import annotations

import contextlib
import operator
from enum import Enum
from numbers import Number
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

if TYPE_CHECKING:
    from collections.abc import Callable

#: Python iterates over their bytes as numbers, but the user means a text.
BYTES: Final = (bytes, bytearray, memoryview)

_Scalar: TypeAlias = str | Number


def plain(value: Any) -> Any:  # noqa: ANN401 - any value
    """Return the value of a member of an enumeration of texts or numbers.

    A number of a type that Python does not know as one, like a tensor without dimensions, becomes
    a number of Python. Other values are returned unchanged.
    """
    if isinstance(value, _Scalar):
        return plain(value.value) if isinstance(value, Enum) else value
    if getattr(value, "shape", ()) != ():
        return value
    for name, convert in _CONVERSIONS:
        if hasattr(type(value), name):
            with contextlib.suppress(TypeError, ValueError):
                return value.item() if hasattr(value, "item") else convert(value)
    return value


_CONVERSIONS: Final[tuple[tuple[str, Callable[[Any], float]], ...]] = (
    ("__index__", operator.index),
    ("__float__", float),
)


def as_text(value: object) -> str:
    """Return a text, or a number as Jinja would write it; raise TypeError for another value."""
    found = plain(value)
    if isinstance(found, _Scalar):
        return str(found)
    raise TypeError


def as_number(value: object) -> float:
    """Return a number as int if it is whole, also one in a text.

    Raises:
        TypeError: the value is neither a number nor a text.
        ValueError: the text is not that of a number.
        OverflowError: the number is too large.
    """
    found = plain(value)
    if isinstance(found, bool) or not isinstance(found, _Scalar):
        raise TypeError
    if isinstance(found, int):
        return found
    number = float(cast("str", found))
    return int(number) if number.is_integer() else number
