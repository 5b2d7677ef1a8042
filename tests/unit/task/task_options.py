"""The options of the tasks in these tests."""

from __future__ import annotations

from typing import Final

from airflow_torchx.core.task.arguments import OnFinish, OnWorkerShutdown
from airflow_torchx.task.options import TaskOptions

OPTIONS: Final = TaskOptions(
    torchx_conn_id=None,
    docker_conn_ids=(),
    wait_for_completion=True,
    deferrable=False,
    durable=True,
    on_finish=OnFinish.DELETE,
    on_worker_shutdown=OnWorkerShutdown.DEFER,
    result_path=None,
    skip_on_exit_code=frozenset(),
    fail_on_exit_code=frozenset(),
    log_max_bytes=1,
    logging_interval_s=None,
    execution_timeout=None,
    secrets=frozenset,
)
