"""What people read about the GPUs of a daemon."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_torchx.core.engine import labels
from airflow_torchx.core.state.report import age_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from airflow_torchx.core.gpu.ledger import Holder, Ledger
    from airflow_torchx.core.gpu.turn import Wait


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuUse:
    """One GPU and what holds it; empty texts where that is unknown, or nothing does.

    Args:
        state: ``free``, ``held``, or ``claimed`` by an app that is about to start.
        held_by: the app, or the container of another program.
        since: when that container was created.
    """

    host: str
    id: str
    model: str = ""
    state: str = "free"
    held_by: str = ""
    dag_id: str = ""
    run_id: str = ""
    task_id: str = ""
    since: datetime | None = None


def uses(ledger: Ledger, host: str, models: Mapping[str, str]) -> list[GpuUse]:
    """Return what holds each GPU of a daemon, in the daemon's order."""
    holders = {one: holder for holder in ledger.holders for one in holder.ids}
    return [_use(holders.get(one), host, one, models.get(one, "")) for one in ledger.listed]


def _use(holder: Holder | None, host: str, gpu_id: str, model: str) -> GpuUse:
    if holder is None:
        return GpuUse(host=host, id=gpu_id, model=model)
    return GpuUse(
        host=host,
        id=gpu_id,
        model=model,
        state="claimed" if holder.kind == "claim" else "held",
        held_by=holder.app_id or f"container {holder.name}",
        dag_id=holder.labels.get(labels.DAG_ID, ""),
        run_id=holder.labels.get(labels.RUN_ID, ""),
        task_id=holder.labels.get(labels.TASK_ID, ""),
        since=holder.since,
    )


def waiting_text(wait: Wait, host: str, now: datetime) -> str:
    """Return one line about what an app waits for, and who holds it."""
    many = "s" * (wait.wanted != 1)
    causes = [*_held(wait, now), *_queued(wait)]
    return f"waiting for {wait.wanted} GPU{many} on {host}: {'; '.join(causes) or 'none is free'}"


def holders_key(wait: Wait) -> object:
    """Return a value that changes when other apps hold the GPUs, or wait before this one."""
    held = frozenset((one.app_id or one.name, one.ids) for one in wait.holders)
    return held, tuple(one.app_id for one in wait.ahead)


def _held(wait: Wait, now: datetime) -> Iterator[str]:
    for holder in wait.holders:
        who = f"app {holder.app_id}" if holder.app_id else f"container {holder.name}"
        dag = holder.labels.get(labels.DAG_ID)
        age = age_text((now - holder.since).total_seconds())
        are = "is" if len(holder.ids) == 1 else "are"
        context = f"dag {dag}, {age}" if dag else age
        yield f"{', '.join(holder.ids)} {are} held by {who} ({context})"


def _queued(wait: Wait) -> Iterator[str]:
    if wait.ahead:
        count = len(wait.ahead)
        who = ", ".join(one.app_id for one in wait.ahead[:3]) + ", …" * (count > 3)  # noqa: PLR2004
        yield f"{count} app{'s' * (count > 1)} before it: {who}"
