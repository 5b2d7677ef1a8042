"""Tests the parsing of command-line values; the rules of dicts were verified with TorchX."""

from __future__ import annotations

from types import GenericAlias
from typing import Annotated, Any, Optional, Union

import pytest

from airflow_torchx.components.literals import (
    UnsupportedTypeError,
    describe,
    plain_type,
    read_literal,
    split_list,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("  ", []),
        ("a", ["a"]),
        ("a, b ,c", ["a", "b", "c"]),
        ("a,,b", ["a", "", "b"]),
        ("a;b", ["a;b"]),
    ],
)
def test_lists(text: str, expected: list[str]) -> None:
    """Commas separate items, and blanks around an item are dropped."""
    assert expected == split_list(text)


@pytest.mark.parametrize(
    ("text", "annotation", "expected"),
    [
        ("a", str, "a"),
        ("", str, ""),
        ("3", int, 3),
        ("-1", int, -1),
        ("3", float, 3.0),
        ("1e-3", float, 0.001),
        ("True", bool, True),
        ("false", bool, False),
        ("3", int | None, 3),
        ("3", Optional[int], 3),  # noqa: UP045 - the old spelling
        pytest.param("3", Union[None, int], 3, id="union"),  # noqa: UP007 - the old spelling
        ("3", Annotated[int | None, "-x"], 3),
        ("1,2", list[int], [1, 2]),
        ("a", list[str] | None, ["a"]),
        ("", list[str], None),
        ("  ", list[str], []),
        ("a=1,b=2", dict[str, int], {"a": 1, "b": 2}),
        ("1=0.5", dict[int, float] | None, {1: 0.5}),
        ("", dict[str, str], None),
    ],
)
def test_values(text: str, annotation: Any, expected: object) -> None:  # noqa: ANN401 - any type
    """A text becomes a value of the annotated type; an empty list or dict is None."""
    value = read_literal(text, annotation)

    assert expected == value
    assert type(expected) is type(value)


@pytest.mark.parametrize(
    ("text", "annotation", "message"),
    [
        ("x", int, "'x'"),
        ("1.5", int, "'1.5'"),
        ("x", float, "'x'"),
        ("yes", bool, "neither True nor False: yes"),
        ("", bool, "neither True nor False: $"),
        ("1,x", list[int], "'x'"),
        ("a", dict[str, str], "not key=value pairs: a"),
        ("a=x", dict[str, int], "'x'"),
    ],
)
def test_invalid_values(text: str, annotation: Any, message: str) -> None:  # noqa: ANN401 - any type
    """A text that is not a value of the annotated type is rejected."""
    with pytest.raises(ValueError, match=message):
        read_literal(text, annotation)


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        (str | None, "a string"),
        (int, "a whole number"),
        (float, "a number"),
        (bool, "True or False"),
        (list[int], "a list like a,b"),
        (dict[str, str], "a dict like A=1,B=2"),
    ],
)
def test_description(annotation: Any, expected: str) -> None:  # noqa: ANN401 - any type
    """Each type has a description."""
    assert expected == describe(annotation)


@pytest.mark.parametrize(
    "annotation",
    [
        bytes,
        list,
        dict,
        GenericAlias(list, (str, str)),
        tuple[str, str],
        list[list[str]],
        dict[str, bytes],
        str | int,
        None,
        "int",
    ],
    ids=str,
)
def test_unsupported_types(annotation: Any) -> None:  # noqa: ANN401 - any type
    """Types that text cannot express are rejected."""
    with pytest.raises(UnsupportedTypeError):
        describe(annotation)


def test_plain_type_keeps_unions() -> None:
    """A union without None stays unchanged."""
    assert str | int == plain_type(str | int)
