"""Defers a task: Airflow's triggerer waits for its app, or for GPUs, without a worker slot."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, NoReturn

from airflow.sdk.exceptions import TaskDeferred

from airflow_torchx.core.task.arguments import OnFinish
from airflow_torchx.core.task.record import Deferral
from airflow_torchx.task.trigger_hold import PICK_UP_S, not_before

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_torchx.core.gpu.demand import GpuDemand
    from airflow_torchx.core.task.record import LaunchedApp
    from airflow_torchx.runtime.gang_log import Cursors
    from airflow_torchx.task.context import TaskContext
    from airflow_torchx.task.options import TaskOptions

# Airflow's timeout of a deferral comes after the trigger's own: it is for a trigger that was lost.
_PAD_S: Final = 60.0


def hand_over(
    task: TaskContext,
    options: TaskOptions,
    app: LaunchedApp,
    cursors: Cursors,
    upload_at_s: float | None = None,
    known: Mapping[str, Any] | None = None,
) -> NoReturn:
    """Defer the task until its app has ended, or a worker must copy logs or checkpoints.

    ``known`` are arguments of the trigger: what was seen of the app until now.
    """
    from airflow_torchx.triggers import TorchXDockerTrigger

    now, interval = time.time(), options.logging_interval_s
    flushes = [now + interval] if interval else []
    if upload_at_s is not None:
        flushes.append(upload_at_s)
    deadline = task.deadline_s(options.execution_timeout)
    raise TaskDeferred(
        trigger=TorchXDockerTrigger(
            app_id=app.app_id,
            torchx_conn_id=options.torchx_conn_id,
            docker_conn_ids=options.docker_conn_ids,
            owned=True,
            delete_on_finish=options.on_finish is OnFinish.DELETE,
            deadline=deadline,
            save_at=save_at_s(task, options, app),
            flush_at=min(flushes, default=None),
            not_before=not_before(PICK_UP_S),
            **(known or {}),
        ),
        method_name="execute_complete",
        kwargs=Deferral(
            app, cursors, upload_at_s=upload_at_s, wait_since_s=task.telemetry.wait_since_s
        ).to_json(),
        timeout=_padded(deadline, now),
    )


def save_at_s(task: TaskContext, options: TaskOptions, app: LaunchedApp) -> float | None:
    """Return when the replicas of an app are asked to save, in seconds since 1970; None if never.

    The alarm is for ``execution_timeout``, which counts from the start of the try.
    """
    timeout = options.execution_timeout
    deadline = task.deadline_s(timeout)
    return app.save_at_s(deadline, timeout.total_seconds() if timeout else 0.0)


def hand_over_gpu_wait(
    task: TaskContext, options: TaskOptions, app_id: str, demand: GpuDemand
) -> NoReturn:
    """Defer the task until GPUs are claimed for its app; then a worker launches it."""
    from airflow_torchx.triggers import TorchXDockerTrigger

    deadline = task.deadline_s(options.execution_timeout)
    raise TaskDeferred(
        trigger=TorchXDockerTrigger(
            app_id=app_id,
            torchx_conn_id=options.torchx_conn_id,
            owned=True,
            deadline=deadline,
            gpu_demand=demand.to_json(),
            not_before=not_before(PICK_UP_S),
        ),
        method_name="execute_complete",
        kwargs=Deferral(gpu_demand=demand).to_json(),
        timeout=_padded(deadline, time.time()),
    )


def _padded(deadline_s: float | None, now_s: float) -> timedelta | None:
    return None if deadline_s is None else timedelta(seconds=deadline_s - now_s + _PAD_S)
