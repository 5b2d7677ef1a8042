"""What the page in Airflow's UI gets of a running app, as JSON data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_torchx.core.engine import labels
from airflow_torchx.core.state.snapshot import Owner, View, snapshot
from airflow_torchx.core.state.timeline import Timeline
from airflow_torchx.core.state.usage import UsageHistory

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from airflow_torchx.core.engine.containers import ContainerRow
    from airflow_torchx.core.engine.usage import ContainerUsage
    from airflow_torchx.specs import DescribeAppResponse, ReplicaStatus


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskApp:
    """An app of one Airflow task instance.

    Args:
        app_id: the app; a reader may name any, so `labels` also has the task's own.
        handle: its handle, as the page knows it.
    """

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    app_id: str
    handle: str

    @property
    def labels(self) -> dict[str, str | None]:
        """The labels of its containers, all of which are needed to find them."""
        return {
            labels.DAG_ID: self.dag_id,
            labels.RUN_ID: self.run_id,
            labels.TASK_ID: self.task_id,
            labels.MAP_INDEX: str(self.map_index),
            labels.APP_ID: self.app_id,
        }


def attempt_of(rows: Iterable[ContainerRow]) -> tuple[int, int]:
    """Return the try that launched an app, and its ``max_tries``; zeros without these labels."""
    found: Mapping[str, str] = next((row.labels for row in rows), {})
    attempt, epoch = (
        labels.number(found.get(name, "")) or 0 for name in (labels.TRY_NUMBER, labels.MAX_TRIES)
    )
    return attempt, epoch


def live_snapshot(
    task_app: TaskApp, app: DescribeAppResponse, rows: Iterable[ContainerRow], now_s: float
) -> dict[str, Any]:
    """Return the snapshot of an app that was looked at once.

    It has no history, and no text of a program or of the daemon: the web server does not know the
    secrets of the task.
    """
    timeline = Timeline()
    timeline.see(app, now_s)
    attempt, epoch = attempt_of(rows)
    owner = Owner(
        handle=task_app.handle,
        dag_id=task_app.dag_id,
        run_id=task_app.run_id,
        task_id=task_app.task_id,
        map_index=task_app.map_index,
        try_number=attempt,
        epoch=epoch,
    )
    view = View(
        app=app,
        owner=owner,
        writer="server",
        now_s=now_s,
        seq=timeline.next_seq(now_s),
        timeline=timeline,
        usage=UsageHistory(),
    )
    return snapshot(view)


def usage_counters(replica: ReplicaStatus, usage: ContainerUsage) -> dict[str, Any]:
    """Return the counters of a replica; the CPUs in use are ``cpu_ns`` over ``t`` of two readings.

    ``t`` is in seconds since 1970, on the daemon's clock.
    """
    return {
        "role": replica.role,
        "id": replica.id,
        "container": replica.container_id[:12],
        "t": usage.read_at.timestamp(),
        "cpu_ns": usage.cpu_ns,
        "mem": usage.memory_bytes,
        "limit": usage.memory_limit_bytes,
        "rx": usage.received_bytes,
        "tx": usage.sent_bytes,
    }
