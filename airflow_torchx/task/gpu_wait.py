"""Continues a task's wait for GPUs in another of its processes."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import structlog
from airflow.sdk.exceptions import AirflowTaskTimeout

from airflow_torchx.errors import AppCancelledError, EngineUnreachableError, GpuWaitTimeoutError
from airflow_torchx.runtime.gpus import task_places
from airflow_torchx.runtime.outage import patiently

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.core.gpu.demand import GpuDemand
    from airflow_torchx.core.task.record import LaunchedApp
    from airflow_torchx.runtime.gpus.queue import MustWait
    from airflow_torchx.task.context import TaskContext
    from airflow_torchx.task.shutdown import TaskShutdown

_log = structlog.get_logger("airflow_torchx.task")


class TaskGpuWait:
    """The wait of one task for GPUs, which may begin in one process and end in another."""

    def __init__(
        self, task: TaskContext, engine: Engine, shutdown: TaskShutdown, *, is_durable: bool
    ) -> None:
        self._task = task
        self._engine = engine
        self._shutdown = shutdown
        self._is_durable = is_durable
        #: When a wait that began in an earlier process began, and when it has lasted too long.
        self._since_s: float | None = None
        self._until_s: float | None = None

    def resume(self, event: Mapping[str, Any], demand: GpuDemand | None) -> None:
        """Return if this task can launch its app, or has to ask for GPUs again.

        ``demand`` is None if another release has stored it, and it cannot be read.

        Raises:
            AirflowTaskTimeout: ``execution_timeout`` is over.
            GpuWaitTimeoutError: ``gpu_wait_timeout_s`` is over.
            EngineUnreachableError: the daemon did not answer for too long.
        """
        reason, message = event.get("reason"), event.get("message") or ""
        if demand is not None:
            self._since_s, self._until_s = demand.since_s, demand.until_s
        self._task.telemetry.gpu_wait_since_s = self._since_s
        if reason == "unreachable" and demand is not None:
            raise EngineUnreachableError(message, fix=self._after_outage)
        if reason in {"timeout", "busy"}:
            self._leave_queue()
            if reason == "timeout":
                raise AirflowTaskTimeout
            timeout_s = demand.wait_timeout_s if demand else None
            raise GpuWaitTimeoutError(message, timeout_s=timeout_s)

    def defer(self, app: LaunchedApp, wait: MustWait) -> NoReturn:
        """Defer the task, which keeps its place in the queue unless a user ended it."""
        _log.info("%s", wait.message)
        demand = wait.demand
        if self._until_s is not None:
            demand = replace(demand, until_s=self._until_s)
        if self._since_s is not None:
            demand = replace(demand, since_s=self._since_s)
        try:
            self._shutdown.defer_for_gpus(app, demand)
        except AppCancelledError:
            self._leave_queue()
            raise

    def _leave_queue(self) -> None:
        leave = partial(task_places.leave_queue, self._engine, self._task.attempt)
        patiently(leave, self._shutdown.should_stop)

    @property
    def _after_outage(self) -> str:
        if not self._task.retry_left:
            return "Clear the task to run it again."
        if self._is_durable:
            return "The next try keeps its place in the queue."
        return "The next try queues up again."
