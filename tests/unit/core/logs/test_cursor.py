"""A position in a log as a text."""

from __future__ import annotations

import pytest

from airflow_torchx.core.logs.cursor import Cursor


@pytest.mark.parametrize("cursor", [Cursor(0, 0), Cursor(10**18, 3, 10**18 + 5), Cursor(5, 1)])
def test_a_cursor_as_text(cursor: Cursor) -> None:
    """A later request of a browser continues where an earlier one has ended."""
    found = Cursor.parse(cursor.text)

    assert (cursor.time_ns, cursor.seen) == (found.time_ns, found.seen)
    assert cursor.newest_ns in {None, found.newest_ns}


@pytest.mark.parametrize(
    "text", ["", "1-2", "1-2-3-4", "-1-2-3", "1-2-x", "1-2-3\n", "\N{SUPERSCRIPT TWO}-1-1"]
)
def test_a_text_that_is_not_a_cursor(text: str) -> None:
    """A text of another form, or with numbers that no log has, is refused."""
    with pytest.raises(ValueError, match="not a position in a log"):
        Cursor.parse(text)
