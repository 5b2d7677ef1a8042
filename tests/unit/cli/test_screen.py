"""What a person sees."""

from __future__ import annotations

import io

import pytest

from airflow_torchx.cli.screen import ReplicaLines, paint_states, table, tame, wants_colour


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        """Return True."""
        return True


@pytest.fixture(autouse=True)
def colours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away what the environment of the tests says about colours."""
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
    """Where there is a terminal, unless the user says otherwise."""
    assert expected is wants_colour(environ, is_terminal=is_terminal)


def test_lines_of_all_replicas_begin_in_one_column() -> None:
    """Each with its replica's name in front, and nothing else where there is no terminal."""
    stream = io.StringIO()
    lines = ReplicaLines(stream, ["a/0", "long/10"])

    lines.write("a/0", ["one", "two"])
    lines.write("long/10", ["three"])

    assert "a/0     one\na/0     two\nlong/10 three\n" == stream.getvalue()


def test_replicas_have_colours_of_their_own() -> None:
    """The line itself keeps its own."""
    stream = Terminal()
    lines = ReplicaLines(stream, ["a/0", "a/1"])

    lines.write("a/0", ["x"])
    lines.write("a/1", ["x"])

    assert "\033[36ma/0\033[0m x\n\033[32ma/1\033[0m x\n" == stream.getvalue()


def test_columns_are_as_wide_as_they_must_be() -> None:
    """A state has its colour on a terminal only, and takes no more room for it."""
    rows = [("app", "SUCCEEDED"), ("longer", "FAILED")]

    assert "A       B\napp     SUCCEEDED\nlonger  FAILED" == table(rows, ("A", "B"), io.StringIO())
    assert "\033[31mFAILED\033[0m" in table(rows, ("A", "B"), Terminal())
    assert "NOT_FAILED" == paint_states("NOT_FAILED", Terminal())


class Screen(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        """Return True."""
        return True


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
def test_a_line_does_no_more_than_colour_a_terminal(text: str, expected: str) -> None:
    """A file gets it as it is."""
    assert expected == tame(text, Screen())
    assert text == tame(text, io.StringIO())
