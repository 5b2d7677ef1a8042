"""Tests of parsing a workspace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_torchx.core.workspace.source import (
    inline_text,
    is_inline,
    is_relative,
    is_url,
    parse_workspace,
    shown,
)
from airflow_torchx.errors import WorkspaceError
from airflow_torchx.specs import Workspace


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, ()),
        ("", ()),
        ("  ", ()),
        ({}, ()),
        ("~", (("~", ""),)),
        ("123", (("123", ""),)),
        ("/a: [b", (("/a: [b", ""),)),
        (" src ", (("src", ""),)),
        ("s3://bucket/a", (("s3://bucket/a", ""),)),
        ("a: b", (("a", "b"),)),
        ("{a: b, s3://c/d: null}", (("a", "b"), ("s3://c/d", ""))),
        ("/a: ./x//y/.\nb:", (("/a", "x/y"), ("b", ""))),
        ({"b": "", "a": "x/", "c": None}, (("b", ""), ("a", "x"), ("c", ""))),
        (Workspace({"a": "."}), (("a", ""),)),
        (Path("a"), (("a", ""),)),
        (Path("/a: b"), (("/a: b", ""),)),
        ({Path("a"): "b"}, (("a", "b"),)),
    ],
)
def test_valid_workspaces(value: Any, expected: tuple[tuple[str, str], ...]) -> None:  # noqa: ANN401
    """A workspace is a source, or a mapping of sources to targets, whose order is kept."""
    assert expected == parse_workspace(value)


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ({"a": "/x"}, "target '/x' of 'a' is outside"),
        ({"a": "x/../../y"}, "is outside"),
        ("a: ..", "is outside"),
        ({"s3://me:secret@b/c?token=secret": ".."}, r"of 's3://b/c' is outside"),
        ({"a": 7}, "7 is not a valid target for 'a'"),
        ({"a": "x\0"}, "is not a valid target"),
        ({"": "x"}, "'' is not a valid workspace source"),
        ({7: "x"}, "7 is not a valid workspace source"),
        ({"a\0b": ""}, "is not a valid workspace source"),
        ({"s3://me:secret@b/\0": ""}, "is not a valid workspace source"),
        (7, "cannot be a int"),
        ("data:text/plain;base64,aGk=", "a data: URL with a media type is not read"),
        ({"data:;base64,aGk=": "f"}, "a data: URL with a media type is not read"),
    ],
)
def test_invalid_workspaces(value: Any, what: str) -> None:  # noqa: ANN401
    """The error says what is wrong and what to write."""
    with pytest.raises(WorkspaceError, match=what) as caught:
        parse_workspace(value)

    assert "secret" not in str(caught.value)
    assert caught.value.fix


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("/a@b?c", "/a@b?c"),
        ("s3://bucket/key", "s3://bucket/key"),
        ("https://me:secret@host:80/a?sig=secret#secret", "https://host:80/a"),
        ("zip://x::https://me:p@secret@host/a.zip", "zip://x::https://host/a.zip"),
        ("http://[secret", "http://…"),
    ],
)
def test_secrets_are_not_shown(source: str, expected: str) -> None:
    """User, password, query and fragment of a URL are not shown."""
    assert expected == shown(source)


def test_which_sources_are_urls() -> None:
    """A source with a scheme is a URL."""
    assert [True, False, False] == [is_url("s3://a"), is_url("/a:b"), is_url("a::b")]


def test_inline_text() -> None:
    """Inline text is neither a path nor a URL, and messages do not repeat it."""
    source = "data:,%C3%BC%20://,%0A"

    assert ((source, "a.txt"),) == parse_workspace({source: "a.txt"})
    assert is_inline(source)
    assert not is_url(source)
    assert not is_relative(source)
    assert "ü ://,\n".encode() == inline_text(source)
    assert "data:,…" == shown(source)
