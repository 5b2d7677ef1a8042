"""Values as they are written on a command line; the dicts' rules were tried out on TorchX's."""

from __future__ import annotations

from types import GenericAlias
from typing import Annotated, Any, Optional, Union

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_torchx.components.literals import (
    UnsupportedTypeError,
    describe,
    plain_type,
    read_literal,
    split_dict,
    split_list,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("A=1", {"A": "1"}),
        ("A=1,B=2", {"A": "1", "B": "2"}),
        ("A=1;B=2", {"A": "1", "B": "2"}),
        ("A=1,2", {"A": "1,2"}),
        ("A=1,2,B=3", {"A": "1,2", "B": "3"}),
        ("A=1;2,B=3", {"A": "1;2", "B": "3"}),
        ("A=1,2;B=3", {"A": "1,2", "B": "3"}),
        ("A=1,B=2,", {"A": "1", "B": "2,"}),
        (" A = 1 , B = 2 ", {"A": "1", "B": "2"}),
        ("A=1,A=2", {"A": "2"}),
        ("A==1", {"A": "1"}),
        ("=A=1", {"A": "1"}),
        ("A=1,B=", {"A": "1,B"}),
        ("A=''", {"A": ""}),
        ('A=""', {"A": ""}),
        ("A='x=1,y;z',B=2", {"A": "x=1,y;z", "B": "2"}),
        ('A="it\'s",B=2', {"A": "it's", "B": "2"}),
        ("A=it's,B=it's", {"A": "it's,B=it's"}),
        ("A='b\\'c=d',E=f", {"A": "b\\'c=d", "E": "f"}),
        ("A='C:\\x=y\\',B=1", {"A": "C:\\x=y\\", "B": "1"}),
        ("A='a','b'", {"A": "a','b"}),
        ("A='", {"A": ""}),
        ("A='b", {"A": "'b"}),
        ("A='b\nc=d'", {"A": "b\nc=d"}),
    ],
)
def test_dicts(text: str, expected: dict[str, str]) -> None:
    """The last comma or semicolon before a key separates; nothing in quotes does."""
    assert expected == split_dict(text)


@pytest.mark.parametrize("text", ["A", "A=", "=", " ", "A=1,=2", "A=,B=1", "A=1=2", "A=;=1"])
def test_no_dicts(text: str) -> None:
    """A key without a value and a value without a key are refused."""
    with pytest.raises(ValueError, match=f"not key=value pairs: {text}"):
        split_dict(text)


NAME = st.text("abcXYZ_019", min_size=1, max_size=5)
VALUE = st.text("abc,;= /:", max_size=8)


@settings(max_examples=40)
@given(st.dictionaries(NAME, VALUE, max_size=4))
def test_quoted_values_are_safe(pairs: dict[str, str]) -> None:
    """Whatever stands in quotes arrives as it is."""
    assert pairs == split_dict(",".join(f"{key}='{value}'" for key, value in pairs.items()))


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
    """Commas separate, blanks around an item are dropped."""
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
        ("3", Optional[int], 3),  # noqa: UP045 - this spelling counts too
        pytest.param("3", Union[None, int], 3, id="union"),  # noqa: UP007 - and this too
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
    """A text is read as the annotation says; an empty list or dict is None."""
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
def test_no_values(text: str, annotation: Any, message: str) -> None:  # noqa: ANN401 - any type
    """A text that does not fit the annotation is refused; so is a bool that is no bool."""
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
    """Each type says what is to be written."""
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
def test_no_text_for_it(annotation: Any) -> None:  # noqa: ANN401 - any type
    """Other types cannot be given on a command line."""
    with pytest.raises(UnsupportedTypeError):
        describe(annotation)


def test_plain_type_keeps_unions() -> None:
    """Only ``None`` is taken out of a union."""
    assert str | int == plain_type(str | int)
