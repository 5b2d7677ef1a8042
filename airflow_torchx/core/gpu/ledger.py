"""Who holds which GPUs of a daemon, and who waits, read from its containers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Literal

from airflow_torchx.core.engine import labels
from airflow_torchx.core.engine.containers import DISCARDED_PREFIX
from airflow_torchx.core.gpu import restarts
from airflow_torchx.core.gpu.demand import PREFIX, unasked_name
from airflow_torchx.core.gpu.ids import ALL, GpuIds, are_all
from airflow_torchx.core.gpu.revival import is_revived, may_be_revived
from airflow_torchx.core.plan.option_values import seconds
from airflow_torchx.core.state.describe import exit_code, without_copies

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from airflow_torchx.core.engine.containers import (
        ContainerDetail,
        ContainerEvent,
        ContainerRow,
        GpuRequest,
    )

# https://docs.docker.com/reference/api/engine/ (container list, State). A container that is being
# removed may still run.
_HOLDS: Final = frozenset({"created", "running", "restarting", "paused", "removing"})
#: The longest timeout of a ticket or a claim that a client writes, in seconds.
_MAX_TIMEOUT_S: Final = 600.0
Kind = Literal["replica", "claim", "foreign"]

#: A row has whole seconds; without more, a ticket counts as the last of its second.
_SECOND: Final = timedelta(seconds=1)
#: A replica that has not started by then was left by a launch that was killed, in seconds.
UNSTARTED_S: Final = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Holder:
    """A container that holds GPUs.

    Args:
        ids: ids of the GPUs, as the daemon lists them.
        since: when it was created.
        expires_at: when others may remove it; None while it lives.
    """

    container_id: str
    name: str
    kind: Kind
    ids: tuple[str, ...]
    since: datetime
    labels: Mapping[str, str]
    expires_at: datetime | None = None

    @property
    def app_id(self) -> str:
        """The app; empty for a container of another program."""
        return labels.printable(
            self.labels.get(labels.APP_ID) or self.labels.get(labels.GPU_APP, "")
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Ticket:
    """The place of an app in the queue.

    Args:
        count: number of GPUs that it waits for.
        among: ids of the GPUs of which it waits for some.
        needs_all: it waits until no GPU is held, as it knows no ids.
        respects_foreign: GPUs of other programs are not free for it.
        timeout_s: seconds after which others may remove it, if there are GPUs for it.
        current_name: its name while another client asks if the app still waits, else the same.
    """

    container_id: str
    name: str
    current_name: str
    count: int
    among: tuple[str, ...]
    needs_all: bool
    respects_foreign: bool
    since: datetime
    timeout_s: float
    labels: Mapping[str, str]

    @property
    def is_asked(self) -> bool:
        """Whether another client asks if the app still waits."""
        return self.current_name != self.name

    @property
    def app_id(self) -> str:
        """The app that waits."""
        return labels.printable(self.labels.get(labels.GPU_APP, ""))


@dataclass(frozen=True, kw_only=True, slots=True)
class Ledger:
    """The GPUs of a daemon at one moment.

    Args:
        ids: ids of all GPUs, as far as they are known.
        holders: the containers that hold some.
        tickets: the apps that wait, the oldest first.
        requesting_all: names of running containers that requested all GPUs, and hold none.
        discarded: ids of containers that were left when a client was killed.
        lock: the container of the client that holds the lock; None without one.
    """

    ids: tuple[str, ...]
    holders: tuple[Holder, ...] = ()
    tickets: tuple[Ticket, ...] = ()
    requesting_all: tuple[str, ...] = ()
    discarded: tuple[str, ...] = ()
    lock: ContainerRow | None = None

    def holders_for(self, *, respects_foreign: bool) -> tuple[Holder, ...]:
        """Return the holders that count for an app."""
        return tuple(one for one in self.holders if respects_foreign or one.kind != "foreign")

    def free(self, *, respects_foreign: bool = True) -> tuple[str, ...]:
        """Return the GPUs that are free for an app."""
        holders = self.holders_for(respects_foreign=respects_foreign)
        taken = {one for holder in holders for one in holder.ids}
        return tuple(one for one in self.ids if one not in taken)

    def expired(self, now: datetime) -> tuple[Holder, ...]:
        """Return the holders that others may remove."""
        return tuple(h for h in self.holders if h.expires_at is not None and h.expires_at <= now)

    def without(self, gone: Iterable[Holder]) -> Ledger:
        """Return the ledger without some holders."""
        ids = {holder.container_id for holder in gone}
        return replace(self, holders=tuple(h for h in self.holders if h.container_id not in ids))


def read(
    rows: Sequence[ContainerRow], known: GpuIds, details: Mapping[str, ContainerDetail]
) -> Ledger:
    """Return the ledger of a daemon.

    Args:
        rows: all its containers.
        known: its GPUs, as far as this client knows them.
        details: the results of an inspect of the containers of `needs_inspect`, by container id.
    """
    gpus = _with_others(known, rows)
    waiting = restarts.between_rounds(rows, details)
    live = [
        row
        for row in rows
        if row.state in _HOLDS or row.id in waiting or is_revived(row, details.get(row.id))
    ]
    foreign = {row.id: details[row.id].gpus for row in _others(live) if row.id in details}
    tickets = _tickets(rows, gpus, details)
    return Ledger(
        ids=gpus.ids,
        holders=tuple(_holders(rows, live, gpus, foreign)),
        tickets=tuple(sorted(tickets, key=lambda one: (one.since, one.container_id))),
        requesting_all=tuple(row.name for row in rows if are_all(foreign.get(row.id, ()))),
        discarded=tuple(
            row.id
            for row in rows
            if is_discarded(row.id, row.name) and row.state in {"created", "exited"}
        ),
        lock=next((row for row in rows if marker_of(row) == "lock"), None),
    )


def _with_others(known: GpuIds, rows: Iterable[ContainerRow]) -> GpuIds:
    """Return the known ids, and those that other clients know of a daemon that reports none."""
    if known.is_indexed:
        return known
    named = (_ids(row, label) for row in rows for label in (labels.GPUS, labels.GPU_AMONG))
    others = {
        one
        for ids in named
        for one in ids
        if known.find(one) is None and (known.is_comparable(one) or ALL in known.ids)
    }
    return GpuIds((*known.ids, *sorted(others - {ALL})))


def is_marker(row: ContainerRow) -> bool:
    """Return whether a container is a lock, ticket or claim, which never start, or a probe."""
    return marker_of(row) is not None


def needs_inspect(rows: Iterable[ContainerRow]) -> Iterator[str]:
    """Yield the ids of containers of which `read` needs more than the row.

    These are containers that may hold GPUs although they have no label for it or have ended, and
    tickets, whose order needs more than the whole seconds of a row.
    """
    rows = tuple(rows)
    replicas = _replicas(rows)
    for row in rows:
        has_failed = may_be_revived(row) and exit_code(row) != 0
        is_held = row.id in replicas and has_failed and any(_ids(row, labels.GPUS))
        if is_held or marker_of(row) == "ticket":
            yield row.id
    yield from (row.id for row in _others(rows))
    yield from restarts.needs_inspect(rows)


def _others(rows: Iterable[ContainerRow]) -> Iterator[ContainerRow]:
    """Yield the containers of other programs that may hold GPUs."""
    rows = tuple(rows)
    replicas = _replicas(rows)
    for row in rows:
        is_ours = row.id in replicas or marker_of(row) is not None or is_discarded(row.id, row.name)
        # A container of another program that has not started uses no GPU.
        is_used = row.state in _HOLDS - {"created"} or may_be_revived(row)
        if is_used and not is_ours:
            yield row


def _replicas(rows: Iterable[ContainerRow]) -> set[str]:
    """Return the ids of the replicas whose label says which GPUs they have, also if it is none."""
    own = [row for row in rows if labels.GPUS in row.labels and labels.GPU_MARKER not in row.labels]
    return {row.id for row in without_copies(own)}


def is_discarded(container_id: str, name: str) -> bool:
    """Return whether a client discards a container, or was killed while it did."""
    return name == f"{DISCARDED_PREFIX}{container_id}"


def _holders(
    rows: Sequence[ContainerRow],
    live: Sequence[ContainerRow],
    gpus: GpuIds,
    foreign: Mapping[str, Sequence[GpuRequest]],
) -> Iterator[Holder]:
    for row in rows:
        if marker_of(row) == "claim":
            # In any state: a user may have started it.
            yield from _holder(row, "claim", gpus.held(_ids(row, labels.GPUS)), timeout_s(row))
    replicas = _replicas(live)
    for row in live:
        if row.id in replicas:
            expires_s = UNSTARTED_S if row.state == "created" else None
            yield from _holder(row, "replica", gpus.held(_ids(row, labels.GPUS)), expires_s)
        elif row.id in foreign:
            # An app that a release without this label launched is not of another program.
            kind: Kind = "replica" if labels.LAUNCH_ID in row.labels else "foreign"
            yield from _holder(row, kind, gpus.requested(foreign[row.id]))


def _holder(
    row: ContainerRow, kind: Kind, ids: tuple[str, ...], expires_s: float | None = None
) -> Iterator[Holder]:
    if ids:
        yield Holder(
            container_id=row.id,
            name=row.name,
            kind=kind,
            ids=ids,
            since=row.created_at,
            labels=row.labels,
            expires_at=None if expires_s is None else row.created_at + timedelta(seconds=expires_s),
        )


def _tickets(
    rows: Iterable[ContainerRow],
    gpus: GpuIds,
    details: Mapping[str, ContainerDetail],
) -> Iterator[Ticket]:
    for row in rows:
        among = tuple(_ids(row, labels.GPU_AMONG))
        count, detail = labels.number(row.labels.get(labels.GPU_COUNT, "")), details.get(row.id)
        if marker_of(row) == "ticket" and count is not None:
            yield Ticket(
                container_id=row.id,
                name=unasked_name(row.name),
                current_name=row.name,
                count=count,
                among=gpus.held(among),
                needs_all=ALL in among,
                respects_foreign=row.labels.get(labels.GPU_FOREIGN) != "ignore",
                since=(detail.created_at if detail else None) or row.created_at + _SECOND,
                timeout_s=timeout_s(row),
                labels=row.labels,
            )


def _ids(row: ContainerRow, label: str) -> Iterator[str]:
    return filter(None, labels.printable(row.labels.get(label, "")).split(","))


def marker_of(one: ContainerRow | ContainerEvent) -> str | None:
    """Return the marker of a container; None for a replica, and for a copy under another name."""
    marker = one.labels.get(labels.GPU_MARKER)
    return marker if marker and one.name.startswith(f"{PREFIX}{marker}") else None


def timeout_s(row: ContainerRow) -> float:
    """Return after how many seconds others may remove a ticket with GPUs, a claim, or a lock."""
    try:
        return min(seconds(row.labels.get(labels.GPU_TIMEOUT, "0")), _MAX_TIMEOUT_S)
    except ValueError:  # any client can write a label
        return 0.0
