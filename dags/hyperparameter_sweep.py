"""Train with several learning rates, one app per rate, and pick the best.

The apps of the mapped task share one workspace image. At most two run at once.
"""
# ruff: noqa: INP001, S108, T201 -- a script that prints; the folder is in the containers
# mypy: disable-error-code="arg-type"

from __future__ import annotations

import os
import sys
from typing import Any

from airflow.sdk import DAG, task

from airflow_torchx.operators import TorchXDockerOperator

IMAGE = os.environ.get("AIRFLOW_TORCHX_BASE_IMAGE", "pytorch/pytorch:2.9.0-cuda12.8-cudnn9-runtime")

RATES = [0.03, 0.01, 0.001]
# One node with one process. Arguments after -- go to the script.
COMMAND = ["-j", "1x1", "--cpu", "1", "--script", "train.py", "--"]
COMMAND += ["--epochs", "{{ params.epochs }}", "--metrics", "/tmp/metrics.json"]

with DAG(
    "hyperparameter_sweep",
    schedule=None,
    params={"epochs": 5},
    doc_md=__doc__,
    tags=["torchx"],
) as dag:
    runs = TorchXDockerOperator.partial(
        task_id="train",
        component="dist.ddp",
        image=IMAGE,
        workspace="workspace",
        env={"PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"},
        result_path="/tmp/metrics.json",
        map_index_template="lr={{ task.component_args[-1] }}",
        max_active_tis_per_dagrun=2,
    ).expand(component_args=[[*COMMAND, "--lr", str(rate)] for rate in RATES])

    @task
    def pick_best(runs: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the metrics of the run with the lowest loss."""
        return min(runs, key=lambda run: run["final_loss"])

    pick_best(runs.output)

if __name__ == "__main__":
    run = dag.test()
    if run.state == "success":
        best = run.get_task_instance("pick_best").xcom_pull(task_ids="pick_best")
        print(f"\nbest: lr={best['lr']}, loss {best['final_loss']:.3f}")
    sys.exit(run.state != "success")
