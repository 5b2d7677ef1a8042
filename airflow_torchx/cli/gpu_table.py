"""The table and the JSON of GPUs and of the apps that wait for some."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from airflow_torchx.cli.screen import table
from airflow_torchx.core.state.report import age_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime
    from typing import TextIO

    from airflow_torchx.core.gpu.report import GpuUse, WaitingApp


def gpu_table(
    uses: Iterable[tuple[str, GpuUse]],
    waiting: Iterable[WaitingApp],
    now: datetime,
    stream: TextIO,
) -> str:
    """Return the GPUs, each with its host, and the apps that wait; empty if there are none."""
    held = [
        {
            "HOST": host,
            "GPU": use.id or "unknown",
            "MODEL": use.model,
            "STATE": use.state,
            "HELD BY": use.app_id or (f"container {use.container}" if use.container else ""),
            **_context(use, now),
        }
        for host, use in uses
    ]
    queue = [
        {"WAITING APP": one.app_id, "GPUS": str(one.gpus), **_context(one, now)} for one in waiting
    ]
    return "\n\n".join(_columns(rows, stream) for rows in (held, queue) if rows)


def gpu_entry(host: str, use: GpuUse) -> dict[str, Any]:
    """Return a GPU as JSON data; no key is ever removed."""
    return {"host": host, **_entry(use)}


def waiting_entry(one: WaitingApp) -> dict[str, Any]:
    """Return an app that waits as JSON data; no key is ever removed."""
    return _entry(one)


def _context(one: GpuUse | WaitingApp, now: datetime) -> dict[str, str]:
    index = "" if one.map_index is None else f"[{one.map_index}]"
    return {
        "DAG": one.dag_id,
        "RUN": one.run_id,
        "TASK": f"{one.task_id}{index}",
        "AGE": age_text((now - one.since).total_seconds()) if one.since else "",
    }


def _columns(rows: Sequence[dict[str, str]], stream: TextIO) -> str:
    """Return a table without columns that are empty."""
    titles = [title for title in rows[0] if any(row[title] for row in rows)]
    return table([[row[title] for title in titles] for row in rows], titles, stream)


def _entry(one: GpuUse | WaitingApp) -> dict[str, Any]:
    since = one.since.isoformat() if one.since else None
    return {key: None if value == "" else value for key, value in asdict(one).items()} | {
        "since": since
    }
