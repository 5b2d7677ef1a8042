"""What Airflow imports before anything else: the scheduler loads what its tasks will import.

A LocalExecutor forks each task from it. Without this a task takes 0.8 s of a core more, and the
tests run some hundreds.
"""

from __future__ import annotations

import sys

if "scheduler" in sys.argv:
    import docker
    from airflow.sdk.execution_time import task_runner

    from airflow_torchx import docker_engine, hooks, triggers
    from airflow_torchx.runtime import attach
    from airflow_torchx.schedulers import docker_scheduler
    from airflow_torchx.task import runner, shutdown

    assert all((docker, task_runner, docker_engine, hooks, triggers))
    assert all((attach, docker_scheduler, runner, shutdown))
