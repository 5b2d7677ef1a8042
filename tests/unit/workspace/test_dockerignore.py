"""Matching paths against a ``.dockerignore``; tests/integration compares it with Docker."""

from __future__ import annotations

import pytest

from airflow_torchx.errors import WorkspaceError
from airflow_torchx.workspace.dockerignore import Ignore


@pytest.mark.parametrize(
    ("text", "ignored", "kept"),
    [
        ("", [], ["a"]),
        ("/a", ["a", "a/b"], ["b/a"]),
        ("a/", ["a", "a/b/c"], ["ab"]),
        ("./a", ["a"], ["b/a"]),
        ("//a//b/../c/.", ["a/c"], ["a", "a/b"]),
        ("*", ["a", "a/b", ".a"], []),
        ("*/b", ["a/b", "a/b/c"], ["b", "a/c/b"]),
        ("**", ["a", "a/b"], []),
        ("**/b", ["b", "a/b", "a/a/b", "a/b/c"], ["ab", "a/ab"]),
        ("**b", ["b", "ab", "a/ab"], ["ba"]),
        ("a/**", ["a/b", "a/b/c"], ["a", "ab"]),
        ("a/**/b", ["a/b", "a/c/b", "a/c/d/b"], ["a", "a/bb"]),
        ("a**", ["a", "ab", "ab/c"], ["b/a"]),
        ("?.py", ["a.py"], ["ab.py", "/.py"]),
        ("[a-c]x", ["ax", "cx"], ["dx", "-x"]),
        ("[^a-c]x", ["dx"], ["ax"]),
        ("[!a]x", ["!x", "ax"], ["bx"]),
        (r"a\*", ["a*"], ["ab", "a\\b"]),
        (r"[\]a]", ["]", "a"], ["\\", "b"]),
        ("[[a]", ["[", "a"], ["b"]),
        ("a.(b)|c+$^{}", ["a.(b)|c+$^{}"], ["axb"]),
        ("A", ["A"], ["a"]),
        ("a\n!a/b", ["a", "a/c"], ["a/b", "a/b/c"]),
        ("!a\na", ["a"], []),
        ("a\n! a", [], ["a"]),
        ("**/a\n!a/b", ["a", "a/c", "x/a/b"], ["a/b"]),
        ("**\n!**/*.py", ["a", "a/b"], ["a.py", "a/b.py"]),
        ("a\n!a/b\na", ["a/b"], []),
        ("# a\n a \n\n\t\n #b", ["a", "#b"], ["# a", "b"]),
        ("a\r\nb\r\n", ["a", "b"], ["a\r"]),
        ("\ufeffa", ["a"], []),
        ("\ufeff#a", [], ["a", "#a"]),
        (".", [], ["a"]),
        ("..\n../a\n/", [], ["a"]),
        ("a/../../b", [], ["b"]),
    ],
)
def test_rules(text: str, ignored: list[str], kept: list[str]) -> None:
    """The last line that matches a path or one of its parents decides."""
    ignore = Ignore(text)

    assert ignored == [path for path in [*ignored, *kept] if ignore.ignores(path)]


def test_invalid_utf8() -> None:
    """A pattern that is not UTF-8 matches a name with the same bytes."""
    ignore = Ignore(b"\xef\xbb\xbfcaf\xe9\n\xc3\xbc*")

    assert ignore.ignores("caf\udce9")
    assert ignore.ignores("übung")
    assert not ignore.ignores("café")


@pytest.mark.parametrize(
    ("text", "number", "line"),
    [
        ("!", 1, "!"),
        ("a\n\n!  \n", 3, "!"),
        ("!/", 1, "!/"),
        ("#\n[", 2, "["),
        ("[]", 1, "[]"),
        ("a\\", 1, "a\\"),
        ("[b-a]", 1, "[b-a]"),
    ],
)
def test_invalid_lines(text: str, number: int, line: str) -> None:
    """The error of an invalid line names the file, the line number and the line."""
    with pytest.raises(WorkspaceError) as caught:
        Ignore(text, "my/.dockerignore")

    assert caught.value.what.startswith(f"my/.dockerignore, line {number}: {line!r} is ")
    assert caught.value.fix


@pytest.mark.parametrize(
    ("text", "entered", "passed"),
    [
        ("", [], ["a"]),
        ("a", [], ["a", "a/b"]),
        ("a\n!b", [], ["a"]),
        ("a\n!a/b/c", ["a", "a/b"], ["a/c"]),
        ("a\n!a/b\na", [], ["a", "a/c"]),
        ("**\n!a/*.py", ["a"], ["b"]),
        ("**\n!**/*.py", ["a", "a/b"], []),
        ("**\n!a/**/b", ["a", "a/c/d"], ["b"]),
        ("**\n![ab]/c", ["a", "x"], ["a/d"]),
    ],
)
def test_ignored_folders_that_are_entered(text: str, entered: list[str], passed: list[str]) -> None:
    """An ignored folder is entered only if a later exception may match a path in it."""
    ignore = Ignore(text)

    assert entered == [folder for folder in [*entered, *passed] if ignore.may_contain_kept(folder)]
