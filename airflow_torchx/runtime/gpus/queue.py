"""The place of one app in the queue for the GPUs of a daemon."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from airflow_torchx.concurrency.parallel import StopRequested
from airflow_torchx.core.engine import labels
from airflow_torchx.core.gpu.demand import unasked_name
from airflow_torchx.core.gpu.report import lost_place_text, removed_holder_text, requested_all_text
from airflow_torchx.core.gpu.turn import (
    Blocked,
    Claimable,
    Claimed,
    decide,
    is_taken,
    own_ticket,
    own_tickets,
    unusable_claim,
)
from airflow_torchx.errors import EngineConflictError, EngineError
from airflow_torchx.runtime.gpus.ledger_reader import LedgerReader
from airflow_torchx.runtime.gpus.lock import GpuLock
from airflow_torchx.runtime.gpus.queue_head import QueueHead

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.core.gpu.demand import GpuDemand
    from airflow_torchx.core.gpu.ledger import Holder, Ledger

_log = logging.getLogger(__name__)

# Between two attempts while a claim or a replica that has not started holds GPUs.
_EXPIRY_CHECK_S: Final = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Timeouts:
    """How long other clients respect what an app left on the daemon, in seconds.

    Args:
        ticket: how long they let it take GPUs that are free.
        claim: how long they leave GPUs to it that it has claimed.
    """

    ticket: float
    claim: float


#: Of a process that waits itself: it takes GPUs within milliseconds, and then launches.
PRESENT: Final = Timeouts(ticket=1.0, claim=30.0)
#: Of a deferred task: a triggerer may have to take over, and a worker to become free.
DEFERRED: Final = Timeouts(ticket=60.0, claim=600.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """GPUs that an app has claimed, by a container that holds them until its replicas do."""

    container_id: str
    ids: tuple[str, ...]


class MustWait(Exception):  # noqa: N818 - not an error
    """An app has to wait for GPUs, and keeps its place in the queue meanwhile.

    Args:
        demand: what it waits for.
        message: who holds the GPUs, in one line.
    """

    def __init__(self, demand: GpuDemand, message: str) -> None:
        super().__init__(message)
        self.demand = demand
        self.message = message


class TicketLost(Exception):  # noqa: N818 - not an error
    """Another client has removed the place of an app in the queue.

    A later attempt of its task did, or a client that waited for the app to take GPUs.
    """


class GpuQueue:
    """Takes GPUs for one app, or keeps its place in the queue.

    Args:
        demand: what the app needs.
        timeouts: how long others respect its ticket and its claim.
        should_stop: called often while other clients hold the lock.
    """

    def __init__(
        self,
        engine: Engine,
        demand: GpuDemand,
        timeouts: Timeouts = PRESENT,
        *,
        should_stop: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._engine = engine
        self._demand = demand
        self._timeouts = timeouts
        self._lock = threading.Lock()
        self._is_released = False
        self._should_stop = lambda: self._is_released or should_stop()
        self._clock = clock
        self._reader = LedgerReader(engine, demand.gpus)
        #: The daemon's time at 0 of the clock.
        self._epoch: datetime | None = None
        self._gpu_lock = GpuLock(engine, demand, self._should_stop, clock, sleep)
        self._head = QueueHead(engine, self._gpu_lock, clock)
        #: Whether the app had a ticket at the last read, or has queued up since.
        self._had_ticket = False

    def attempt(self, *, may_join: bool = True) -> Claim | Blocked:
        """Claim GPUs if it is this app's turn, else keep its place in the queue.

        It makes one request if the app has to wait, and about eight if not. With ``may_join``, an
        app without a place gets one, or GPUs at once.

        Raises:
            EngineError: the daemon refused a request; the place in the queue may be kept.
            TicketLost: the app may not join, and another client has removed its place.
            StopRequested: ``should_stop`` returned True, or `release` was called.
        """
        with self._lock:
            return self._attempt(may_join=may_join)

    def _attempt(self, *, may_join: bool) -> Claim | Blocked:
        while not self._is_released:
            ledger = self._read_ledger()
            step = self._decided(ledger)
            if not (may_join or self._has_place(ledger, step)):
                self._had_ticket = False
                raise TicketLost
            if isinstance(step, Claimed | Claimable):
                if (claim := self._take(may_join=may_join)) is not None:
                    return claim
            elif own_ticket(ledger, self._demand) is None and self._queue_up(ledger):
                # GPUs may have become free before the ticket was there.
                continue
            elif not self._head.is_passed_over(step):
                return replace(step, again_s=self._again_s(step))
        raise StopRequested

    def commit(self, claim: Claim) -> bool:
        """Remove the claim, after the replicas that hold its GPUs were created.

        Returns:
            True if the replicas can start. False if another client removed the claim, or a
            container was started without one, as by `docker restart`: then it has the GPUs.
        """
        if not self._engine.discard(claim.container_id):
            return False
        return not is_taken(self._reader.read(), self._demand, claim.ids)

    def release(self) -> None:
        """Remove the place of the app in the queue, and its claim. Idempotent.

        It waits for an attempt that another thread makes, and ends all later ones.
        """
        self._is_released = True
        with self._lock:
            self._release()

    def _release(self) -> None:
        for marker in ("ticket", "claim"):
            name = self._demand.name(marker)
            for row in self._engine.rows({labels.GPU_MARKER: marker}):
                if unasked_name(row.name) == name:
                    self._engine.discard(row.id)

    def _read_ledger(self) -> Ledger:
        """Return the ledger, after the removal of a claim that this app cannot use."""
        while True:
            read_s = self._clock()
            ledger = self._reader.read()
            self._head.observe(ledger, read_s)
            own = tuple(own_tickets(ledger, self._demand))
            self._had_ticket = self._had_ticket or bool(own)
            self._head.answer(own)
            if (claim := unusable_claim(ledger, self._demand)) is None:
                return ledger
            self._engine.discard(claim.container_id)

    def _decided(self, ledger: Ledger) -> Claimed | Claimable | Blocked:
        """Return the next step; GPUs of launches that have not gone on come last."""
        step = decide(ledger, self._demand)
        if isinstance(step, Blocked) and (expired := self._expired(ledger)):
            return decide(ledger, self._demand, expired)
        return step

    def _expired(self, ledger: Ledger) -> tuple[Holder, ...]:
        """Return what killed launches have left; no container that runs, or of another program."""
        if all(one.expires_at is None for one in ledger.holders):
            return ()
        if self._epoch is None and (now := self._engine.info().system_time):
            self._epoch = now - timedelta(seconds=self._clock())
        return ledger.expired(self._epoch + timedelta(seconds=self._clock())) if self._epoch else ()

    def _has_place(self, ledger: Ledger, step: Claimed | Claimable | Blocked) -> bool:
        return isinstance(step, Claimed) or own_ticket(ledger, self._demand) is not None

    def _take(self, *, may_join: bool) -> Claim | None:
        """Claim GPUs where no other client decides; None if another one was faster.

        An app that may not join exchanges its ticket for the claim: one client removes a ticket.
        """
        # The daemon's clock may have been set, or this client suspended, since the last time.
        self._epoch = None
        with self._gpu_lock as lock:
            ledger = self._read_ledger()
            step = self._decided(ledger)
            if not (may_join or self._has_place(ledger, step)):
                return None
            claim = self._claimed(ledger, step)
            if claim is None:
                return None
            if not lock.is_held:
                if isinstance(step, Claimable):
                    self._engine.discard(claim.container_id)
                return None
        if ledger.requesting_all:
            _log.warning("%s", requested_all_text(ledger.requesting_all))
        self._sweep(ledger.discarded)
        is_exchanged = self._drop_ticket(ledger)
        if isinstance(step, Claimable) and not (may_join or is_exchanged):
            self._engine.discard(claim.container_id)
            return None
        return claim

    def _sweep(self, discarded: Sequence[str]) -> None:
        """Finish removals at which other clients were killed; a later launch may do it as well."""
        for one in discarded:
            try:
                self._engine.discard(one)
            except EngineError as error:
                _log.warning("cannot remove what another client has discarded: %s", error)

    def _claimed(self, ledger: Ledger, step: Claimed | Claimable | Blocked) -> Claim | None:
        """Return the claim of this app, or create it; None if neither is possible now."""
        if isinstance(step, Claimed):
            return Claim(container_id=step.claim.container_id, ids=step.claim.ids)
        if isinstance(step, Blocked) or not self._freed(ledger, step.ids):
            return None
        spec = self._demand.spec("claim", ids=step.ids, timeout_s=self._timeouts.claim)
        try:
            return Claim(container_id=self._engine.create(spec), ids=step.ids)
        except EngineConflictError:
            return None

    def _freed(self, ledger: Ledger, ids: Sequence[str]) -> bool:
        """Remove containers of launches that have not gone on and hold these GPUs.

        Returns False if one of these launches has gone on meanwhile: a claim has been handed over
        to replicas that the ledger does not show.
        """
        expired = self._expired(ledger)
        return all(self._removed(one) for one in expired if not set(one.ids).isdisjoint(ids))

    def _removed(self, expired: Holder) -> bool:
        _log.warning("%s", removed_holder_text(expired))
        if expired.kind == "claim":
            return self._engine.discard(expired.container_id)
        # It may start at this moment: then it is killed, and its launch fails.
        self._engine.remove(expired.container_id)
        return self._engine.inspect(expired.container_id) is None

    def _drop_ticket(self, ledger: Ledger) -> bool:
        """Remove the ticket of this app; return False if it has none, or another client did."""
        name = self._demand.name("ticket")
        own = (one.container_id for one in ledger.tickets if one.name == name)
        dropped = [self._engine.discard(one) for one in own]
        return any(dropped)

    def _queue_up(self, ledger: Ledger) -> bool:
        """Create a ticket, and return whether that was possible."""
        if self._had_ticket:
            _log.warning("%s", lost_place_text(self._demand.labels.get(labels.GPU_APP, "")))
        self._drop_ticket(ledger)  # one for another demand
        try:
            self._engine.create(self._demand.spec("ticket", timeout_s=self._timeouts.ticket))
        except EngineConflictError:
            return False
        self._had_ticket = True
        return True

    def _again_s(self, wait: Blocked) -> float | None:
        """Return in how many seconds to try again although nothing was announced."""
        if (again_s := self._head.again_s(wait)) is not None:
            return again_s
        return _EXPIRY_CHECK_S if any(one.expires_at for one in wait.holders) else None
