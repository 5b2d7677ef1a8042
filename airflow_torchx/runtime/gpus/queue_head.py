"""Whether the app whose turn it is in the queue for GPUs is still there."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Final

from airflow_torchx.core.gpu.demand import ASKED_SUFFIX
from airflow_torchx.core.gpu.report import removed_ticket_text
from airflow_torchx.errors import EngineError
from airflow_torchx.runtime.gpus.lock import TIMEOUT_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.core.gpu.ledger import Ledger, Ticket
    from airflow_torchx.core.gpu.turn import Blocked

_log = logging.getLogger(__name__)

# Until an app that could run without the first one asks whether that one is there, and asks again.
_ASK_S: Final = 30.0
# For the answer; an app that waits looks every five seconds.
_ANSWER_S: Final = 15.0


class QueueHead:
    """Removes the oldest ticket if its app was killed.

    If there are GPUs for it, it has to take them within the timeout of its ticket. If there are
    not, but there are some for the app behind it, that one asks: it renames the ticket, and an app
    that waits renames its ticket back. A container cannot show otherwise that its client lives.
    """

    def __init__(self, engine: Engine, clock: Callable[[], float]) -> None:
        self._engine = engine
        self._clock = clock
        #: The ticket and its situation, and since when this client sees it.
        self._first: object = None
        self._since_s = 0.0
        #: The container of another client that holds the lock, and since when it is seen.
        self.lock = "", 0.0

    def observe(self, ledger: Ledger) -> None:
        """Note who holds the lock."""
        if ledger.lock != self.lock[0]:
            self.lock = ledger.lock, self._clock()

    def is_passed_over(self, wait: Blocked) -> bool:
        """Return whether the oldest ticket was removed, after a look that resulted in a wait."""
        first = wait.served or wait.blocking
        found = (first.container_id, wait.served is None, first.is_asked) if first else None
        if found != self._first or (wait.served and self._is_lock_held):
            self._first, self._since_s = found, self._clock()
            return False
        if first is None or self._clock() < self._since_s + self._timeout_s(wait, first):
            return False
        if wait.served or first.is_asked:
            _log.warning("%s", removed_ticket_text(first, self._timeout_s(wait, first)))
            self._engine.discard(first.container_id)
            return True
        self._rename(first, first.name + ASKED_SUFFIX)
        return False

    def answer(self, own: Ticket | None) -> None:
        """Show that the app of this client waits, if another client asks."""
        if own is not None and own.is_asked:
            self._rename(own, own.name)

    def again_s(self, wait: Blocked) -> float | None:
        """Return in how many seconds to look again although nothing was announced."""
        if wait.served is None:
            return None
        return max(0.0, self._since_s + wait.served.timeout_s - self._clock())

    @property
    def _is_lock_held(self) -> bool:
        """Whether the first app may have to wait, perhaps for what a killed client has left."""
        container_id, since_s = self.lock
        return bool(container_id) and self._clock() < since_s + TIMEOUT_S

    def _timeout_s(self, wait: Blocked, first: Ticket) -> float:
        if wait.served:
            return first.timeout_s
        return max(_ANSWER_S, first.timeout_s) if first.is_asked else _ASK_S

    def _rename(self, ticket: Ticket, name: str) -> None:
        # It may be gone, or another client removes it.
        with contextlib.suppress(EngineError):
            self._engine.rename(ticket.container_id, name)
