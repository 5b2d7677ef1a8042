"""Decides whether an app may take GPUs now, and which."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_torchx.core.engine import labels

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airflow_torchx.core.gpu.demand import GpuDemand
    from airflow_torchx.core.gpu.ledger import Holder, Ledger, Ticket


@dataclass(frozen=True, slots=True)
class Claimed:
    """The claim of this app, made by this process or by an earlier try."""

    claim: Holder


@dataclass(frozen=True, slots=True)
class Claimable:
    """These GPUs can be claimed."""

    ids: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Blocked:
    """The app has to wait.

    Args:
        wanted: number of GPUs that it waits for.
        needs_all: it waits until no GPU is held, as the ids are unknown.
        listed: ids of the GPUs of which it waits for some, in their order.
        holders: what holds GPUs.
        ahead: the tickets before it, oldest first.
        served: the oldest ticket, if it could take its GPUs now.
        blocking: the oldest ticket, if it could not, but this app could.
        again_s: in how many seconds to try again although nothing changed; None for never.
    """

    wanted: int
    needs_all: bool = False
    listed: tuple[str, ...] = ()
    holders: tuple[Holder, ...]
    ahead: tuple[Ticket, ...] = ()
    served: Ticket | None = None
    blocking: Ticket | None = None
    again_s: float | None = None


def decide(
    ledger: Ledger, demand: GpuDemand, expired: Sequence[Holder] = ()
) -> Claimed | Claimable | Blocked:
    """Return what an app does next; the oldest ticket is served first.

    An app that waits for many GPUs is not overtaken by those that need few. GPUs that only
    ``expired`` holders have are given away after those that are free, and GPUs that containers of
    other programs use come last.
    """
    if (claim := _own_claim(ledger, demand)) and unusable_claim(ledger, demand) is None:
        return Claimed(claim)
    unused, unheld = ledger.without(expired).free(), ledger.free(respects_foreign=False)
    ledger = ledger.without(expired)
    ahead = _ahead(ledger, demand)
    holders = ledger.holders_for(respects_foreign=demand.respects_foreign)
    left = ledger.free(respects_foreign=demand.respects_foreign)
    free = sorted(
        (one for one in demand.listed if one in left),
        key=lambda one: (one not in unused, one not in unheld),
    )
    if not ahead and len(free) >= demand.claims:
        return Claimable(tuple(free[: demand.claims]))
    first = ahead[0] if ahead else None
    is_served = first is not None and _is_served(ledger, first)
    return Blocked(
        wanted=demand.count,
        needs_all=demand.needs_all,
        listed=demand.listed,
        holders=tuple(one for one in holders if not set(one.ids).isdisjoint(demand.listed)),
        ahead=ahead,
        served=first if is_served else None,
        blocking=None if is_served or len(free) < demand.claims else first,
    )


def unusable_claim(ledger: Ledger, demand: GpuDemand) -> Holder | None:
    """Return the claim of an app if it is for another number of GPUs, for others, or for held ones.

    A client that was killed before it knew whether it still held the lock left a claim for GPUs
    that are held. Others were left when the app or ``gpu_ids`` of its connection was changed.
    """
    claim = _own_claim(ledger, demand)
    if claim is None:
        return None
    holders = ledger.holders_for(respects_foreign=demand.respects_foreign)
    others = {one for holder in holders if holder is not claim for one in holder.ids}
    number = 1 if demand.needs_all else len(claim.ids)
    is_listed = demand.needs_all or set(claim.ids) <= set(demand.listed)
    is_usable = number == demand.claims and is_listed and others.isdisjoint(claim.ids)
    return None if is_usable else claim


def is_taken(ledger: Ledger, demand: GpuDemand, ids: Sequence[str]) -> bool:
    """Return whether a container that has started holds some of these GPUs.

    A launch that has claimed them asks this before it starts its replicas, and removes them if so.
    Only what has started counts, and it never expires. So two launches never both give way to the
    replicas of the other one.
    """
    holders = ledger.holders_for(respects_foreign=demand.respects_foreign)
    return any(one.expires_at is None and not set(one.ids).isdisjoint(ids) for one in holders)


def own_ticket(ledger: Ledger, demand: GpuDemand) -> Ticket | None:
    """Return the ticket of an app; None if it has none for this demand."""
    return next(own_tickets(ledger, demand), None)


def own_tickets(ledger: Ledger, demand: GpuDemand) -> Iterator[Ticket]:
    """Yield the tickets of an app for this demand, the oldest first, which counts.

    Two tries of a task may have created one each, because the name is free while one is asked.
    """
    for one in ledger.tickets:
        if one.name == demand.name("ticket") and _is_for(one, demand):
            yield one


def _is_for(ticket: Ticket, demand: GpuDemand) -> bool:
    """Return whether a ticket waits for the same GPUs as an app."""
    among = ticket.labels.get(labels.GPU_AMONG, "").split(",")
    return (
        ticket.count == demand.count
        and ticket.respects_foreign == demand.respects_foreign
        and set(among) == set(demand.listed)
    )


def _own_claim(ledger: Ledger, demand: GpuDemand) -> Holder | None:
    return next((one for one in ledger.holders if one.name == demand.name("claim")), None)


def _ahead(ledger: Ledger, demand: GpuDemand) -> tuple[Ticket, ...]:
    """Return the older tickets of apps that may have GPUs which this app may have, too."""
    mine = own_ticket(ledger, demand)
    older = ledger.tickets[: ledger.tickets.index(mine)] if mine else ledger.tickets
    listed = ledger.ids if demand.needs_all else demand.listed
    return tuple(
        one
        for one in older
        if one.name != demand.name("ticket") and not set(one.among).isdisjoint(listed)
    )


def _is_served(ledger: Ledger, ticket: Ticket) -> bool:
    """Return whether an app that waits could take GPUs now."""
    older = ledger.tickets[: ledger.tickets.index(ticket)]
    if any(not set(one.among).isdisjoint(ticket.among) for one in older):
        return False
    free = ledger.free(respects_foreign=ticket.respects_foreign)
    needed = len(ledger.ids) if ticket.needs_all else ticket.count
    return needed <= len(set(ticket.among).intersection(free))
