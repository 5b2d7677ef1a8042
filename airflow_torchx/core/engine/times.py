"""Times of the Engine API."""

from __future__ import annotations

from datetime import datetime
from typing import Final

#: Docker writes "never" like this.
_ZERO_TIME: Final = "0001-01-01T00:00:00Z"


def parse_time(text: str | None) -> datetime | None:
    """Return a time of the Engine API, truncated to microseconds; None for Docker's zero time."""
    if not text or text == _ZERO_TIME:
        return None
    return datetime.fromisoformat(text)
