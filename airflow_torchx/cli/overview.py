"""What ``list`` shows of each app beside its state: why it failed, or how far it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from airflow_torchx.concurrency.daemons import call_each
from airflow_torchx.concurrency.parallel import map_concurrently
from airflow_torchx.core.engine import labels
from airflow_torchx.core.state.blame import blamed_replica
from airflow_torchx.core.state.describe import by_app, describe, needing_detail, summaries
from airflow_torchx.core.state.out_of_memory import ran_out_of_memory
from airflow_torchx.core.state.report import replica_name
from airflow_torchx.runtime import lifecycle
from airflow_torchx.runtime.progress import read_once
from airflow_torchx.specs import AppState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_torchx.core.engine.containers import ContainerRow
    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.core.state.progress import Progress
    from airflow_torchx.specs import ListAppResponse, ReplicaStatus

# Apps that failed stay until they are deleted; the newest matter.
_MOST_FAILED: Final = 50
_THREADS: Final = 16
_LIMIT_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Listed:
    """An app of the list.

    Args:
        failed: the replica that failed first; None unless its app is one of the newest that failed.
        progress: how far its program is; None unless it runs, and says so.
    """

    app: ListAppResponse
    failed: ReplicaStatus | None = None
    progress: Progress | None = None

    def note(self, now_s: float) -> str:
        """Return why it failed, or how far it is, in a few words."""
        if self.failed is not None:
            return f"{replica_name(self.failed)}: {_end(self.failed)}"
        return self.progress.text(now_s) if self.progress else ""

    def failure(self) -> dict[str, Any] | None:
        """Return why it failed, as JSON data."""
        one = self.failed
        if one is None:
            return None
        return {
            "replica": replica_name(one),
            "exit_code": one.exit_code,
            "signal": one.signal,
            "out_of_memory": ran_out_of_memory(one),
            "error": one.error or None,
        }


def overview(engine: Engine, limit_s: float = _LIMIT_S) -> list[Listed]:
    """Return all apps on the daemon, with one request for their states.

    Of the newest apps that failed, each replica that failed costs one more. So does each app that
    runs, for at most ``limit_s`` seconds.
    """
    rows = engine.rows({labels.APP_ID: None})
    found, of_apps = summaries(rows, lifecycle.details_of(engine, rows)), by_app(rows)
    failed = _failures(engine, found, of_apps)
    progress: dict[str, Progress | None] = {}

    def read(app_id: str) -> None:
        app = describe(app_id, of_apps[app_id], {})
        if app is not None:
            progress[app_id] = read_once(engine, app)

    running = [one.app_id for one in found if one.state is AppState.RUNNING]
    call_each(read, running, threads=_THREADS, timeout_s=limit_s)
    return [Listed(one, failed.get(one.app_id), progress.get(one.app_id)) for one in found]


def _failures(
    engine: Engine, found: Sequence[ListAppResponse], of_apps: dict[str, list[ContainerRow]]
) -> dict[str, ReplicaStatus]:
    """Return the replica that failed first, by app."""
    failed = [one.app_id for one in found if one.state is AppState.FAILED]
    failed.sort(key=lambda app_id: min(row.created_at for row in of_apps[app_id]))
    shown = failed[-_MOST_FAILED:]
    wanted = [one for app_id in shown for one in needing_detail(of_apps[app_id])]
    details = {one.id: one for one in map_concurrently(engine.inspect, wanted) if one is not None}
    blamed = {}
    for app_id in shown:
        app = describe(app_id, of_apps[app_id], details)
        first = None if app is None else blamed_replica(app)
        if first is not None:
            blamed[app_id] = first
    return blamed


def _end(replica: ReplicaStatus) -> str:
    code = replica.exit_code
    if code is None:
        return replica.error or "no exit code"
    signal = f" ({replica.signal})" if replica.signal else ""
    oom = ", out of memory" if ran_out_of_memory(replica) else ""
    stalled = ", stalled" if replica.stalled else ""
    return f"exit code {code}{signal}{oom}{stalled}"
