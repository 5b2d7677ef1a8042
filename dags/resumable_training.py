"""Train for longer than one try may take: save before the timeout, and continue after it.

Each try has a few minutes. The replicas are asked to save half a minute before that, and the next
try continues with the checkpoint. They also save every few steps, so a replica or a host that fails
costs only these.
"""
# ruff: noqa: INP001, S108, T201 -- a script that prints; the folder is in the containers
# mypy: disable-error-code="arg-type"

from __future__ import annotations

import os
import sys
from datetime import timedelta

from airflow.sdk import DAG

from airflow_torchx.operators import TorchXDockerOperator

IMAGE = os.environ.get("AIRFLOW_TORCHX_BASE_IMAGE", "pytorch/pytorch:2.9.0-cuda12.8-cudnn9-runtime")

with DAG(
    "resumable_training",
    schedule=None,
    params={"steps": 200, "volume": "resumable-training"},
    doc_md=__doc__,
    tags=["torchx"],
) as dag:
    TorchXDockerOperator(
        task_id="train",
        component="dist.ddp",
        component_args=[
            *("-j", "2x1", "--cpu", "1", "--script", "train.py", "--"),
            *("--steps", "{{ params.steps }}", "--metrics", "/tmp/metrics.json"),
        ],
        image=IMAGE,
        workspace="resumable",
        env={"PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"},
        # Retries of a run continue in one folder. Another run, and a cleared task, start afresh.
        checkpoint="{{ params.volume }}",
        options={
            "checkpoint_signal": "SIGUSR1",
            "checkpoint_before_timeout_s": 30,
            "stop_grace_s": 30,
        },
        execution_timeout=timedelta(minutes=5),
        retries=3,
        retry_delay=timedelta(seconds=5),
        result_path="/tmp/metrics.json",
    )

if __name__ == "__main__":
    run = dag.test()
    if run.state == "success":
        metrics = run.get_task_instance("train").xcom_pull(task_ids="train")
        print(f"\nstep {metrics['step']}, loss {metrics['loss']:.3f}")
    sys.exit(run.state != "success")
