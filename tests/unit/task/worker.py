"""Attempts of one task, on a daemon in memory."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_torchx.core.task.arguments import OnWorkerShutdown
from airflow_torchx.core.task.record import Deferral
from airflow_torchx.schedulers.docker_scheduler import DockerScheduler
from airflow_torchx.specs import AppDef, Role, Workspace
from airflow_torchx.task.context import TaskContext
from airflow_torchx.task.plan import requested
from airflow_torchx.task.runner import AppTask
from tests.unit.task.task_options import OPTIONS

if TYPE_CHECKING:
    from pathlib import Path

    from airflow.sdk import Context
    from airflow.sdk.exceptions import TaskDeferred

    from airflow_torchx.task.options import TaskOptions
    from airflow_torchx.testing import FakeEngine


class Attempt:
    """A task instance with the attributes that a task reads; it keeps its XComs."""

    dag_id, run_id, task_id, map_index, max_tries = "dag", "run", "task", -1, 2

    def __init__(self, number: int) -> None:
        self.try_number, self.start_date = number, datetime.now(UTC)
        self.pushed: dict[str, object] = {}

    def xcom_push(self, key: str, value: object) -> None:
        """Keep an XCom."""
        self.pushed[key] = value


def context_of(attempt: Attempt) -> Context:
    """Return the context that Airflow passes to the process of an attempt."""
    context: Any = {"ti": attempt}
    return context  # type: ignore[no-any-return]


class Worker:
    """Runs attempts of one task on one daemon.

    Args:
        engine: the daemon.
        folder: the workspace of its app.
        waits: for its app, which it leaves running otherwise.
        max_retries: how often a failure restarts its app.
        deferrable: defers to wait for its app.
    """

    def __init__(
        self,
        engine: FakeEngine,
        folder: Path,
        *,
        waits: bool = False,
        max_retries: int = 0,
        deferrable: bool = False,
    ) -> None:
        self._waits, self._is_deferrable = waits, deferrable
        self._scheduler = DockerScheduler("torchx", engine)
        #: When Airflow asked the attempt to end.
        self.killed_at: float | None = None
        workspace = Workspace({str(folder): ""})
        role = Role("main", "base", entrypoint="run", max_retries=max_retries, workspace=workspace)
        self._app = AppDef("app", [role])

    def run(
        self,
        number: int,
        *,
        result_path: str | None = None,
        conn_id: str | None = None,
        **options: object,
    ) -> dict[str, Any]:
        """Run one attempt, and return its XComs."""
        request = requested(self._scheduler, self._app, options, {}, None, lambda: False)
        task_options = replace(
            OPTIONS,
            wait_for_completion=self._waits,
            deferrable=self._is_deferrable,
            on_worker_shutdown=OnWorkerShutdown.KEEP,
            result_path=result_path,
            torchx_conn_id=conn_id,
            execution_timeout=timedelta(hours=1),
        )
        attempt = Attempt(number)
        one = self.task(attempt, task_options)
        with one.shutdown.guard_earlier():
            one.run(request)
        # Its time and its number of the try differ.
        return {key: value for key, value in attempt.pushed.items() if key != "torchx_app"}

    def resume(self, number: int, deferred: TaskDeferred) -> None:
        """Continue an attempt that has deferred, after its app has ended."""
        one = self.task(Attempt(number), replace(OPTIONS, deferrable=True), is_resumed=True)
        with one.shutdown.guard_earlier():
            one.resume({"reason": "ended"}, Deferral.parse(deferred.kwargs or {}))

    def task(
        self, attempt: Attempt, options: TaskOptions = OPTIONS, *, is_resumed: bool = False
    ) -> AppTask:
        """Return one process of an attempt."""
        return AppTask(
            TaskContext(context_of(attempt), is_resumed=is_resumed),
            self._scheduler,
            options,
            lambda: self.killed_at,
        )
