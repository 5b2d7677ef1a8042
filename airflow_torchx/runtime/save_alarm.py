"""Asks the replicas of an app to save before its task times out."""

from __future__ import annotations

import logging
import time
from functools import partial
from typing import TYPE_CHECKING, Final

from airflow_torchx.core.state.saving import Saving
from airflow_torchx.errors import EngineError
from airflow_torchx.runtime import saving as save
from airflow_torchx.runtime.lifecycle import live, rows_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from airflow_torchx.core.engine.protocol import Engine

_log = logging.getLogger(__name__)

# Between two attempts to send the checkpoint signal.
_ASK_AGAIN_S: Final = 2.0


def ask_to_save(
    engine: Engine, app_id: str, due_s: float, now: Callable[[], float] = time.time
) -> None:
    """Send the checkpoint signal to all replicas, once, because the task will time out soon.

    Does nothing without a checkpoint signal. ``due_s`` is when the signal was due, in seconds since
    1970. The log says how long the replicas have: less than asked for, if this is late, and in a
    worker some seconds more, because Airflow's timeout begins after the start of the try.
    """
    rows = rows_of(engine, app_id)
    saving = Saving.of(rows)
    if saving is not None and (asked := save.ask(engine, live(rows), saving, cancelled=False)):
        left_s = max(0.0, due_s + saving.seconds - now())
        what = "sent %s to %s of app %s, which gets SIGTERM at execution_timeout, in %d s or more"
        _log.info(what, saving.signal, save.counted(asked), app_id, round(left_s))


class SaveAlarm:
    """Asks an app to save when the time comes, in a thread, and again if the daemon refuses.

    Args:
        ask: starts to ask; its argument is the given ``at_s``.
        at_s: when, in seconds since 1970; None for never.
        now: the clock.
    """

    def __init__(
        self,
        ask: Callable[[float], Future[None]],
        at_s: float | None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._ask = partial(ask, at_s or 0.0)
        self._at_s = at_s
        self._now = now
        self._asked: Future[None] | None = None

    def check(self) -> None:
        """Ask if it is time; return at once. Call it several times a second."""
        if self._asked is not None and self._asked.done():
            try:
                self._asked.result()
                self._at_s = None
            except EngineError as error:
                _log.warning("cannot ask the app to save, retrying: %s", error.what)
                self._at_s = self._now() + _ASK_AGAIN_S
            self._asked = None
        if self._at_s is not None and self._asked is None and self._now() >= self._at_s:
            self._asked = self._ask()
