"""PyTorch over three nodes, once for each way to wait."""

from __future__ import annotations

import os
from pathlib import Path

from airflow.sdk import DAG

from airflow_torchx.operators import TorchXDockerOperator

METRICS = "/tmp/metrics.json"  # noqa: S108 - in the container

for is_deferrable in (False, True):
    with DAG(f"torchrun{'_deferrable' * is_deferrable}", schedule=None):
        TorchXDockerOperator(
            task_id="gang",
            torchx_conn_id="{{ dag_run.conf['conn_id'] }}",
            component="dist.ddp",
            component_args=[
                *("-j", "3x1", "--cpu", "1", "--memMB", "1024", "--script", "train.py"),
                *("--", "--metrics", METRICS),
            ],
            image=os.environ.get("AIRFLOW_TORCHX_BASE_IMAGE", "airflow-torchx/pytorch:local"),
            workspace=str(Path(__file__).parents[3] / "dags" / "workspace"),
            env={"PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"},
            result_path=METRICS,
            deferrable=is_deferrable,
        )
