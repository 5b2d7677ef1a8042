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
            parts = re.findall(r"(\d+)([smhd])", text)
            return now - timedelta(**{_UNITS[unit]: int(count) for count, unit in parts})
        time = datetime.fromisoformat(text)
        time.timestamp()  # raises if it is out of range
    except (ValueError, OverflowError):
        fix = "Use a duration like 10m or 1h30m, or a date and time like 2026-01-31T12:00."
        raise UsageError(f"invalid time {text!r}", fix=fix) from None
    return time
