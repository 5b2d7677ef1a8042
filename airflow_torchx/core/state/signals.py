"""The signal in an exit code."""

from __future__ import annotations

import signal
from typing import Final

# The exit code of a process killed by a signal is this plus the signal's number.
_SIGNAL_BASE: Final = 128


def signal_name(code: int | None) -> str | None:
    """Return the name of the signal in an exit code, like ``SIGKILL`` for 137."""
    if code is None or code <= _SIGNAL_BASE:
        return None
    try:
        return signal.Signals(code - _SIGNAL_BASE).name
    except ValueError:
        return None
