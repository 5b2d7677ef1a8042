"""Parses times of a command line; pure."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Final

from airflow_torchx.errors import UsageError

_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_AGO: Final = re.compile(r"(?:\d+[smhd])+")


def parse_time(text: str, now: datetime) -> datetime:
    """Return the time that a text describes.

    The text is a duration before ``now``, like ``90s``, ``10m`` or ``1h30m``, or a date and time in
    ISO 8601, local unless it has a time zone.

    Raises:
        UsageError: the text is not a time.
    """
    try:
        if _AGO.fullmatch(text):
            return now - _duration(text)
        time = datetime.fromisoformat(text)
        time.timestamp()  # raises if it is out of range
    except (ValueError, OverflowError):
        fix = "Use a duration like 10m or 1h30m, or a date and time like 2026-01-31T12:00."
        raise UsageError(f"invalid time {text!r}", fix=fix) from None
    return time


def parse_duration(text: str) -> timedelta:
    """Return a duration like ``90s``, ``10m``, ``1h30m`` or ``2d``.

    Raises:
        UsageError: the text is not a duration.
    """
    try:
        if _AGO.fullmatch(text):
            return _duration(text)
    except OverflowError:
        pass
    raise UsageError(f"invalid duration {text!r}", fix="Use one like 10m, 1h30m or 2d.") from None


def _duration(text: str) -> timedelta:
    parts = re.findall(r"(\d+)([smhd])", text)
    return timedelta(**{_UNITS[unit]: int(count) for count, unit in parts})
