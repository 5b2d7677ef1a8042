"""Whether the app whose turn it is in the queue for GPUs is still there."""

from __future__ import annotations

import contextlib
import logging
import secrets
from typing import TYPE_CHECKING, Final

from airflow_torchx.core.engine.containers import DISCARDED_PREFIX
from airflow_torchx.core.gpu.demand import asked_name
from airflow_torchx.core.gpu.report import removed_ticket_text
from airflow_torchx.errors import EngineConflictError, EngineError, EngineNotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.core.gpu.ledger import Ledger, Ticket
    from airflow_torchx.core.gpu.turn import Blocked
    from airflow_torchx.runtime.gpus.lock import GpuLock

_log = logging.getLogger(__name__)

# Until an app that could run without the first one asks whether that one is there, and asks again.
_ASK_S: Final = 30.0
# For the answer; an app that waits reads the ledger every five seconds.
_ANSWER_S: Final = 15.0


class QueueHead:
    """Removes the oldest ticket if its app was killed.

    If there are GPUs for it, it has to take them within the timeout of its ticket. If there are
    not, but there are some for the app behind it, that one asks: it renames the ticket, and an app
    that waits renames its ticket back. A container cannot show otherwise that its client lives.

    Both rename the ticket by its name, not by its id: if two clients rename it at once, the second
    one finds no container of that name. So a ticket is not removed after the answer, and an answer
    does not bring a removed one back.
    """

    def __init__(self, engine: Engine, lock: GpuLock, clock: Callable[[], float]) -> None:
        self._engine = engine
        self._lock = lock
        self._clock = clock
        #: The ticket and its situation, and since when this client sees it.
        self._first: object = None
        self._since_s = 0.0
        #: When the last read began. A client that was paused later knows nothing of the pause.
        self._read_s = 0.0

    def observe(self, ledger: Ledger, read_s: float) -> None:
        """Note who holds the lock, after a read that began at ``read_s``."""
        self._read_s = read_s
        self._lock.observe(ledger.lock)

    def is_passed_over(self, wait: Blocked) -> bool:
        """Return whether the oldest ticket was removed, after a read that resulted in a wait."""
        first = wait.served or wait.blocking
        found = (first.container_id, wait.served is None, first.current_name) if first else None
        # While the lock is held, the first app may have to wait for it.
        if found != self._first or (wait.served and self._lock.is_respected):
            self._first, self._since_s = found, self._clock()
            return False
        if first is None or self._read_s < self._since_s + self._timeout_s(wait, first):
            return False
        if wait.served or first.is_asked:
            return self._is_removed(first, self._timeout_s(wait, first))
        self._rename(first, asked_name(first.name, secrets.token_hex(2)))
        return False

    def answer(self, own: Sequence[Ticket]) -> None:
        """Show that the app of this client waits, if another client asks.

        Only the first one of its own tickets counts. A second one has the name that it needs.
        """
        for second in own[1:]:
            self._engine.discard(second.container_id)
        if own and own[0].is_asked:
            self._rename(own[0], own[0].name)

    def again_s(self, wait: Blocked) -> float | None:
        """Return in how many seconds to try again although nothing was announced."""
        if wait.served is None:
            return None
        return max(0.0, self._since_s + wait.served.timeout_s - self._clock())

    def _timeout_s(self, wait: Blocked, first: Ticket) -> float:
        if wait.served:
            return first.timeout_s
        return max(_ANSWER_S, first.timeout_s) if first.is_asked else _ASK_S

    def _is_removed(self, ticket: Ticket, waited_s: float) -> bool:
        """Remove a ticket; return False if its app has answered, or another client was faster."""
        try:
            discarded = f"{DISCARDED_PREFIX}{ticket.container_id}"
            self._engine.rename(ticket.current_name, discarded)
        except (EngineNotFoundError, EngineConflictError):
            self._first = None
            return False
        _log.warning("%s", removed_ticket_text(ticket, waited_s))
        try:
            self._engine.discard(ticket.container_id)
        except EngineConflictError as error:
            # A user has started it. Without its name, it is not in the queue any more.
            _log.warning("%s", error)
        return True

    def _rename(self, ticket: Ticket, name: str) -> None:
        # It may be gone, or another client has renamed it.
        with contextlib.suppress(EngineError):
            self._engine.rename(ticket.current_name, name)
