"""Who holds which GPUs of a daemon, and who waits, read from its containers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Literal

from airflow_torchx.core.engine import labels
from airflow_torchx.core.gpu.demand import PREFIX
from airflow_torchx.core.gpu.ids import are_all, held_ids, requested_ids
from airflow_torchx.core.plan.option_values import seconds
from airflow_torchx.core.state.describe import without_copies

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from airflow_torchx.core.engine.containers import ContainerDetail, ContainerRow, GpuRequest

# https://docs.docker.com/reference/api/engine/ (container list, State). A container that is being
# removed may still run.
_HOLDS: Final = frozenset({"created", "running", "restarting", "paused", "removing"})
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
        lapses_at: when others may remove it; None while it lives.
    """

    container_id: str
    name: str
    kind: Literal["replica", "claim", "foreign"]
    ids: tuple[str, ...]
    since: datetime
    labels: Mapping[str, str]
    lapses_at: datetime | None = None

    @property
    def app_id(self) -> str:
        """The app; empty for a container of another program."""
        return self.labels.get(labels.APP_ID) or self.labels.get(labels.GPU_APP, "")


@dataclass(frozen=True, kw_only=True, slots=True)
class Ticket:
    """A place in the queue; ``patience_s`` is how long others let it take GPUs that are free."""

    container_id: str
    name: str
    count: int
    since: datetime
    patience_s: float
    labels: Mapping[str, str]

    @property
    def app_id(self) -> str:
        """The app that waits."""
        return self.labels.get(labels.GPU_APP, "")


@dataclass(frozen=True, kw_only=True, slots=True)
class Ledger:
    """The GPUs of a daemon at one moment.

    Args:
        listed: ids of all GPUs.
        holders: the containers that hold some.
        tickets: the apps that wait, the oldest first.
        unbounded: names of running containers that requested all GPUs, and hold none.
    """

    listed: tuple[str, ...]
    holders: tuple[Holder, ...] = ()
    tickets: tuple[Ticket, ...] = ()
    unbounded: tuple[str, ...] = ()

    @property
    def free(self) -> tuple[str, ...]:
        """The GPUs that no container holds."""
        taken = {one for holder in self.holders for one in holder.ids}
        return tuple(one for one in self.listed if one not in taken)

    def lapsed(self, now: datetime) -> tuple[Holder, ...]:
        """Return the holders that others may remove."""
        return tuple(h for h in self.holders if h.lapses_at is not None and h.lapses_at <= now)

    def without(self, gone: Iterable[Holder]) -> Ledger:
        """Return the ledger without some holders."""
        ids = {holder.container_id for holder in gone}
        return replace(self, holders=tuple(h for h in self.holders if h.container_id not in ids))


def read(
    rows: Sequence[ContainerRow],
    listed: Sequence[str],
    details: Mapping[str, ContainerDetail],
) -> Ledger:
    """Return the ledger of a daemon.

    Args:
        rows: all its containers.
        listed: ids of its GPUs.
        details: the results of an inspect of the containers of `needs_inspect`, by container id.
    """
    requests = {row.id: detail.gpus for row in rows if (detail := details.get(row.id))}
    foreign = {row.id: requests[row.id] for row in rows if _is_other(row) and row.id in requests}
    return Ledger(
        listed=tuple(listed),
        holders=tuple(_holders(rows, listed, foreign)),
        tickets=tuple(
            sorted(_tickets(rows, details), key=lambda one: (one.since, one.container_id))
        ),
        unbounded=tuple(row.name for row in rows if row.id in foreign and are_all(foreign[row.id])),
    )


def labelled_ids(rows: Iterable[ContainerRow]) -> tuple[str, ...]:
    """Return the ids of the GPUs that replicas and claims hold, in order."""
    texts = (row.labels.get(labels.GPUS, "") for row in rows if row.state in _HOLDS)
    return tuple(sorted({one for text in texts for one in text.split(",") if one}))


def is_place(row: ContainerRow) -> bool:
    """Return whether a container stands for a place in the queue for GPUs, and never starts."""
    return _place(row) is not None


def needs_inspect(rows: Iterable[ContainerRow], *, respects_foreign: bool) -> Iterator[str]:
    """Yield the ids of containers of which `read` needs more than the row.

    These are containers that may hold GPUs although they have no label for it, and tickets, whose
    order needs more than the whole seconds of a row.
    """
    for row in rows:
        if _place(row) == "ticket" or (respects_foreign and _is_other(row)):
            yield row.id


def _is_other(row: ContainerRow) -> bool:
    return labels.GPUS not in row.labels and row.state in _HOLDS


def _holders(
    rows: Sequence[ContainerRow],
    listed: Sequence[str],
    foreign: Mapping[str, Sequence[GpuRequest]],
) -> Iterator[Holder]:
    replicas = {row.id for row in without_copies(row for row in rows if _place(row) is None)}
    for row in rows:
        lapses_at = None
        if row.state not in _HOLDS:
            continue
        if _place(row) == "claim":
            kind: Literal["replica", "claim", "foreign"] = "claim"
            lapses_at = row.created_at + timedelta(seconds=_seconds(row))
        elif labels.GPUS in row.labels and row.id in replicas:
            kind = "replica"
            if row.state == "created":
                lapses_at = row.created_at + timedelta(seconds=UNSTARTED_S)
        elif row.state != "created" and row.id in foreign:
            kind = "foreign"
        else:
            continue
        text = row.labels.get(labels.GPUS, "")
        ids = (
            requested_ids(foreign[row.id], listed)
            if kind == "foreign"
            else held_ids(filter(None, text.split(",")), listed)
        )
        if ids:
            yield Holder(
                container_id=row.id,
                name=row.name,
                kind=kind,
                ids=ids,
                since=row.created_at,
                labels=row.labels,
                lapses_at=lapses_at,
            )


def _tickets(
    rows: Iterable[ContainerRow], details: Mapping[str, ContainerDetail]
) -> Iterator[Ticket]:
    for row in rows:
        count, detail = row.labels.get(labels.GPU_COUNT, ""), details.get(row.id)
        if _place(row) == "ticket" and count.isdecimal():
            yield Ticket(
                container_id=row.id,
                name=row.name,
                count=int(count),
                since=(detail.created_at if detail else None) or row.created_at + _SECOND,
                patience_s=_seconds(row),
                labels=row.labels,
            )


def _place(row: ContainerRow) -> str | None:
    """Return the place of a container; None for a replica, and for a copy under another name."""
    place = row.labels.get(labels.GPU_PLACE)
    return place if place and row.name.startswith(f"{PREFIX}{place}") else None


def _seconds(row: ContainerRow) -> float:
    try:
        return seconds(row.labels.get(labels.GPU_PATIENCE, "0"))
    except ValueError:  # any client can write a label
        return 0.0
