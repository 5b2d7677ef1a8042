"""Tests the output of the command line."""

from __future__ import annotations

import io

import pytest

from airflow_torchx.cli.screen import ReplicaLines, paint_states, sanitize, table, wants_colour


class Terminal(io.StringIO):
    """Simulates a terminal."""

    def isatty(self) -> bool:
        """Return True."""
        return True


@pytest.fixture(autouse=True)
def colours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove environment variables that affect colours."""
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")


@pytest.mark.parametrize(
    ("environ", "is_terminal", "expected"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"NO_COLOR": "1"}, True, False),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, True, False),
        ({"NO_COLOR": ""}, True, True),
        ({"FORCE_COLOR": "1"}, False, True),
        ({"TERM": "dumb"}, True, False),
    ],
)
def test_colours(environ: dict[str, str], is_terminal: bool, expected: bool) -> None:
    """Colours are printed on a terminal, unless environment variables override that."""
    assert expected is wants_colour(environ, is_terminal=is_terminal)


def test_replica_lines_are_aligned() -> None:
    """Lines are prefixed with their replica's name and aligned, without colours in a file."""
    stream = io.StringIO()
    lines = ReplicaLines(stream, ["a/0", "long/10"])

    lines.write("a/0", ["one", "two"])
    lines.write("long/10", ["three"])

    assert "a/0     one\na/0     two\nlong/10 three\n" == stream.getvalue()


def test_replicas_have_different_colours() -> None:
    """Each replica's prefix has its own colour on a terminal."""
    stream = Terminal()
    lines = ReplicaLines(stream, ["a/0", "a/1"])

    lines.write("a/0", ["x"])
    lines.write("a/1", ["x"])

    assert "\033[36ma/0\033[0m x\n\033[32ma/1\033[0m x\n" == stream.getvalue()


def test_columns_are_aligned() -> None:
    """Columns are aligned, and states are coloured only on a terminal."""
    rows = [("app", "SUCCEEDED"), ("longer", "FAILED")]

    assert "A       B\napp     SUCCEEDED\nlonger  FAILED" == table(rows, ("A", "B"), io.StringIO())
    assert "\033[31mFAILED\033[0m" in table(rows, ("A", "B"), Terminal())
    assert "NOT_FAILED" == paint_states("NOT_FAILED", Terminal())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\tb", "a\tb"),
        ("\033[31mred", "\033[31mred\033[0m"),
        ("\033[?1049hx\033[2J", "x"),
        ("\033]0;title\ax", "x"),
        ("\033cx\x00\x9b", "x"),
        ("two\nlines", "twolines"),
    ],
)
def test_control_sequences_are_removed(text: str, expected: str) -> None:
    """On a terminal, control sequences except colours are removed; a file gets them."""
    assert expected == sanitize(text, Terminal())
    assert text == sanitize(text, io.StringIO())
