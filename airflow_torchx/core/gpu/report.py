"""What people read about the GPUs of a daemon."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypedDict

from airflow_torchx.core.engine import labels
from airflow_torchx.core.gpu.ids import ALL
from airflow_torchx.core.gpu.ledger import marker_of, timeout_s
from airflow_torchx.core.plan.gpu_problems import GPU_ID_SOURCES
from airflow_torchx.core.state.report import age_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from airflow_torchx.core.engine.containers import ContainerRow
    from airflow_torchx.core.gpu.ledger import Holder, Ledger, Ticket
    from airflow_torchx.core.gpu.turn import Blocked


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuUse:
    """One GPU and a container that holds it; an empty text is unknown or does not apply.

    Args:
        model: what kind of GPU it is.
        state: ``free``, ``held``, ``claimed`` by an app that is about to start, or ``unavailable``
            on a node of a swarm that takes no replicas now.
        app_id: the app that holds it; empty for a container of another program.
        container: name of the container that holds it.
        map_index: index of a mapped task; None without one.
        since: when that container was created.
    """

    id: str
    model: str = ""
    state: Literal["free", "held", "claimed", "unavailable"] = "free"
    app_id: str = ""
    container: str = ""
    dag_id: str = ""
    run_id: str = ""
    task_id: str = ""
    map_index: int | None = None
    since: datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class WaitingApp:
    """An app that waits for a number of GPUs since it asked for them."""

    app_id: str
    gpus: int
    dag_id: str
    run_id: str
    task_id: str
    map_index: int | None
    since: datetime


def uses(ledger: Ledger, listed: Sequence[str], models: Mapping[str, str]) -> list[GpuUse]:
    """Return what holds each of these GPUs of a daemon.

    A GPU that several apps, or containers of other programs, share has an entry for each of them.
    Of one app, a replica comes before its claim, which a killed launch may have left.
    """
    held = [(holder.ids, holder) for holder in ledger.holders]
    return _uses(listed, held, models)


def uses_without_ids(ledger: Ledger) -> list[GpuUse]:
    """Return what holds GPUs of a daemon whose ids are unknown.

    The ids are those that apps know, for example from a probe. What was requested in another way
    has an empty id, and comes last.
    """
    held = [(_known_ids(holder) or ("",), holder) for holder in ledger.holders]
    listed = sorted({one for ids, _ in held for one in ids}, key=lambda one: (not one, one))
    return _uses(listed, held, {})


def _known_ids(holder: Holder) -> tuple[str, ...]:
    given = labels.printable(holder.labels.get(labels.GPUS, "")).split(",")
    return tuple(one for one in given if one and one != ALL)


def waiting(ledger: Ledger) -> list[WaitingApp]:
    """Return the apps that wait for GPUs, the oldest first."""
    return [
        WaitingApp(app_id=one.app_id, gpus=one.count, since=one.since, **task_of(one.labels))
        for one in ledger.tickets
    ]


def _uses(
    listed: Iterable[str],
    held: Sequence[tuple[tuple[str, ...], Holder]],
    models: Mapping[str, str],
) -> list[GpuUse]:
    return [
        use
        for one in listed
        for use in _uses_of(
            one, models.get(one, ""), [holder for ids, holder in held if one in ids]
        )
    ]


def _uses_of(gpu_id: str, model: str, holders: Sequence[Holder]) -> list[GpuUse]:
    shown: dict[str, Holder] = {}
    for one in sorted(holders, key=lambda one: one.kind == "claim"):
        shown.setdefault(one.app_id or one.container_id, one)
    return [
        GpuUse(
            id=gpu_id,
            model=model,
            state="claimed" if holder.kind == "claim" else "held",
            app_id=holder.app_id,
            container=holder.name,
            since=holder.since,
            **task_of(holder.labels),
        )
        for holder in shown.values()
    ] or [GpuUse(id=gpu_id, model=model)]


class _Task(TypedDict):
    dag_id: str
    run_id: str
    task_id: str
    map_index: int | None


def task_of(given: Mapping[str, str]) -> _Task:
    """Return the task in the labels of a container."""
    index = given.get(labels.MAP_INDEX, "")
    return {
        "dag_id": labels.printable(given.get(labels.DAG_ID, "")),
        "run_id": labels.printable(given.get(labels.RUN_ID, "")),
        "task_id": labels.printable(given.get(labels.TASK_ID, "")),
        # It is -1 for a task that is not mapped.
        "map_index": labels.number(index),
    }


def waiting_text(wait: Blocked, host: str, now: datetime) -> str:
    """Return one line about what an app waits for, and who holds it."""
    what = f"{wait.wanted} GPU{'s' * (wait.wanted != 1)} on {host}"
    if wait.needs_all:
        what = f"the end of all other apps with GPUs on {host}, as the ids of its GPUs are unknown"
    causes = [*_held(wait, now), *_queued(wait)]
    return f"waiting for {what}: {'; '.join(causes) or 'none is free'}"


def locked_text(host: str) -> str:
    """Return what an app waits for that has not seen yet who holds the GPUs."""
    return f"waiting for the lock of the GPUs on {host}, which another client has"


def unlaunched_text(app_id: str, marker: ContainerRow, now: datetime) -> tuple[str, str]:
    """Return what an app without replicas does, which a marker shows, and what a user can do."""
    age = age_text((now - marker.created_at).total_seconds())
    if marker_of(marker) == "claim":
        what = f"app {app_id!r} claimed GPUs {age} ago, and has no replicas yet"
        fix = "If it was killed, nothing needs to be done: the next app that needs these GPUs frees"
        fix += f" them {age_text(timeout_s(marker))} after the claim. `airflow-torchx gpus` shows"
        return f"{what}: it is about to start, or its process was killed", f"{fix} them."
    what = f"app {app_id!r} has waited for GPUs for {age}, and is not launched yet"
    fix = "`airflow-torchx gpus` shows the queue. To end the wait, end the command of the app, or"
    return what, f"{fix} clear or mark its task."


def removed_ticket_text(ticket: Ticket, waited_s: float) -> str:
    """Return why an app loses its place in the queue."""
    return (
        f"app {ticket.app_id} has not responded for {waited_s:g} s; its process was probably"
        " killed. Removing it from the queue; if it lives, it queues again"
    )


def lost_place_text(app_id: str) -> str:
    """Return that an app that waited is the last one in the queue; the cause is unknown here."""
    return (
        f"app {app_id} has lost its place in the queue for GPUs: its ticket is gone. It queues"
        " again at the end"
    )


def requested_all_text(names: Iterable[str]) -> str:
    """Return why containers, which requested all GPUs and hold none, are warned of."""
    return f"these containers may use the same GPUs, as they requested all: {', '.join(names)}"


def removed_holder_text(holder: Holder) -> str:
    """Return why a claim, or a replica that has not started, is removed."""
    return (
        f"app {holder.app_id} has not started in time; its process was probably killed."
        f" Removing container {holder.name} to free its GPUs"
    )


def unknown_ids_text(app_id: str, host: str) -> str:
    """Return why other apps wait while an app runs on a host whose GPUs have no known ids."""
    return (
        f"the ids of the GPUs of {host} are unknown, so app {app_id} runs alone on them, and all"
        f" other apps with GPUs wait until it ends; {GPU_ID_SOURCES}"
    )


def shared_text(app_id: str, count: int, host: str) -> str:
    """Return which GPUs an app with ``auto_set_gpus=False`` uses."""
    which = "first GPU" if count == 1 else f"first {count} GPUs"
    return (
        f"app {app_id} uses the {which} of {host}, which other apps may use at the same time"
        " (auto_set_gpus=False)"
    )


def holders_key(wait: Blocked) -> object:
    """Return a value that changes when other apps hold the GPUs, or wait before this one."""
    held = frozenset((who, _ids(wait, holders)) for who, holders in _by_owner(wait).items())
    return held, tuple(one.app_id for one in wait.ahead)


def _by_owner(wait: Blocked) -> dict[str, list[Holder]]:
    """Return what holds GPUs by app, or container of another program, the oldest first."""
    found: dict[str, list[Holder]] = {}
    for holder in sorted(wait.holders, key=lambda one: (one.since, one.name)):
        who = f"app {holder.app_id}" if holder.app_id else f"container {holder.name}"
        found.setdefault(who, []).append(holder)
    return found


def _ids(wait: Blocked, holders: Sequence[Holder]) -> tuple[str, ...]:
    """Return the GPUs of these holders in the order in which they are listed."""
    order = {one: index for index, one in enumerate(wait.listed)}
    held = {one for holder in holders for one in holder.ids}
    return tuple(sorted(held, key=lambda one: (order.get(one, len(order)), one)))


def _held(wait: Blocked, now: datetime) -> Iterator[str]:
    for who, holders in _by_owner(wait).items():
        dag = labels.printable(holders[0].labels.get(labels.DAG_ID, ""))
        age = age_text((now - holders[0].since).total_seconds())
        context = f"dag {dag}, {age}" if dag else age
        ids = _ids(wait, holders)
        verb = "claimed" if all(one.kind == "claim" for one in holders) else "held"
        many = f"{', '.join(ids)} {'is' if len(ids) == 1 else 'are'} {verb} by "
        yield f"{'' if wait.needs_all else many}{who} ({context})"


def _queued(wait: Blocked) -> Iterator[str]:
    if wait.ahead:
        count = len(wait.ahead)
        who = ", ".join(one.app_id for one in wait.ahead[:3]) + ", …" * (count > 3)  # noqa: PLR2004
        many = "apps are" if count > 1 else "app is"
        yield f"{count} {many} ahead in the queue: {who}"
