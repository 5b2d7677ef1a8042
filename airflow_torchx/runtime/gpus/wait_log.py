"""Logs what an app waits for."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from airflow_torchx.core.gpu.report import holders_key, waiting_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_torchx.core.gpu.turn import Blocked

_log = logging.getLogger(__name__)

# While GPUs change hands, each of several looks within a second shows other holders.
_SETTLED_S: Final = 5.0


class WaitLog:
    """Logs who holds the GPUs that an app waits for: at once, and after a change.

    Args:
        host: name of the daemon's host.
    """

    def __init__(self, host: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._host = host
        self._clock = clock
        self._shown: object = None
        self._shown_s = clock() - _SETTLED_S

    def note(self, wait: Blocked) -> str:
        """Return for what the app waits, in one line, and log it if that is news."""
        text = waiting_text(wait, self._host, datetime.now(UTC))
        key, now_s = holders_key(wait), self._clock()
        if key != self._shown and now_s >= self._shown_s + _SETTLED_S:
            self._shown, self._shown_s = key, now_s
            _log.info("%s", text)
        return text
