"""Tests times of a command line."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from airflow_torchx.cli.timespec import parse_time
from airflow_torchx.errors import UsageError

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90s", NOW - timedelta(seconds=90)),
        ("10m", NOW - timedelta(minutes=10)),
        ("1h30m", NOW - timedelta(minutes=90)),
        ("2d", NOW - timedelta(days=2)),
        ("2026-01-31T11:00:00+00:00", NOW - timedelta(hours=1)),
        ("2026-01-31T11:00", datetime(2026, 1, 31, 11, 0)),  # noqa: DTZ001 - local time
        ("2026-01-31", datetime(2026, 1, 31)),  # noqa: DTZ001
    ],
)
def test_times(text: str, expected: datetime) -> None:
    """A time is a duration before now, or a date and time."""
    assert expected == parse_time(text, NOW)


@pytest.mark.parametrize("text", ["", "soon", "10", "10x", "m", "2026-13-01", f"{10**12}d"])
def test_invalid_times(text: str) -> None:
    """The error of an invalid time shows both forms."""
    with pytest.raises(UsageError, match=r"10m or 1h30m.*2026-01-31T12:00"):
        parse_time(text, NOW)
