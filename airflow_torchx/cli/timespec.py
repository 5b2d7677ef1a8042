"""Moments as people write them on a command line; pure."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Final

from airflow_torchx.errors import UsageError

_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_AGO: Final = re.compile(r"(?:\d+[smhd])+")


def moment(text: str, now: datetime) -> datetime:
    """Return the moment that a text means.

    Args:
        text: how long ago, like ``90s``, ``10m`` or ``1h30m``, or a date and time in ISO 8601,
            local unless it names a zone.
        now: the current time, with its zone.

    Raises:
        UsageError: it means none.
    """
    try:
        if _AGO.fullmatch(text):
            parts = re.findall(r"(\d+)([smhd])", text)
            return now - timedelta(**{_UNITS[unit]: int(count) for count, unit in parts})
        found = datetime.fromisoformat(text)
        found.timestamp()  # raises for days that no clock can tell
    except (ValueError, OverflowError):
        what = f"{text!r} is no moment."
        fix = "Write how long ago, like 10m or 1h30m, or a date and time, like 2026-01-31T12:00."
        raise UsageError(what, fix=fix) from None
    return found
