"""What Airflow imports before anything else: the scheduler loads what its tasks will import.

A LocalExecutor forks each task from it. Without this a task takes 0.8 s of a core more, and the
tests run some hundreds.
"""

from __future__ import annotations

import sys

if "scheduler" in sys.argv:
    import docker
    from airflow.sdk.execution_time import task_runner

    from airflow_torchx import app_task, docker_engine, hooks, parting, task_run, triggers
    from airflow_torchx.schedulers import docker_scheduler

    assert all((docker, task_runner, app_task, docker_engine, hooks, parting, task_run, triggers))
    assert docker_scheduler
