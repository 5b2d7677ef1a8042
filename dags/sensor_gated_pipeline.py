"""Launch an app in one DAG, and wait in another DAG until it runs and until it succeeds.

`launch` ends when the app runs, and passes its handle to `gated`. `gated` accepts the handle of any
app, for example one that TorchX's command line launched.
"""
# ruff: noqa: INP001, T201 -- a script that prints

from __future__ import annotations

import os
import sys

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import DAG, Param, task, teardown

from airflow_torchx.hooks import TorchXDockerHook
from airflow_torchx.operators import TorchXDockerOperator
from airflow_torchx.sensors import TorchXDockerSensor

IMAGE = os.environ.get("AIRFLOW_TORCHX_BASE_IMAGE", "pytorch/pytorch:2.9.0-cuda12.8-cudnn9-runtime")

with DAG(
    "sensor_gated_launch", schedule=None, params={"epochs": 10}, doc_md=__doc__, tags=["torchx"]
) as launch:
    handle = TorchXDockerOperator(
        task_id="launch",
        component="dist.ddp",
        component_args=[
            *("-j", "2x1", "--cpu", "1", "--script", "train.py"),
            *("--", "--epochs", "{{ params.epochs }}"),
        ],
        image=IMAGE,
        workspace="workspace",
        env={"PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"},
        wait_for_completion=False,
    ).output
    TriggerDagRunOperator(
        task_id="hand_over", trigger_dag_id="sensor_gated_pipeline", conf={"app_handle": handle}
    )

with DAG(
    "sensor_gated_pipeline",
    schedule=None,
    params={"app_handle": Param(type="string")},
    doc_md=__doc__,
    tags=["torchx"],
) as gated:
    APP = "{{ params.app_handle }}"

    # A deferred sensor holds no worker slot.
    runs = TorchXDockerSensor(
        task_id="runs", app_handle=APP, target_states={"RUNNING"}, deferrable=True
    )

    @task
    def first_line(app_handle: str) -> str:
        """Return the first log line of the running app, as an example of using it."""
        with TorchXDockerHook().get_conn() as scheduler:
            return next(scheduler.log_iter(app_handle, "train", should_tail=True))

    done = TorchXDockerSensor(
        task_id="done", app_handle=APP, target_states={"SUCCEEDED"}, deferrable=True
    )

    @teardown
    def remove(app_handle: str) -> None:
        """Remove the app's containers, in any state."""
        with TorchXDockerHook().get_conn() as scheduler:
            scheduler.delete(app_handle)

    runs >> first_line(APP) >> done >> remove(APP)

if __name__ == "__main__":
    # Without a scheduler, the triggered DAG would not run, so the task is skipped.
    run = launch.test(mark_success_pattern="hand_over")
    if run.state == "success":
        app_handle = run.get_task_instance("launch").xcom_pull(task_ids="launch")
        run = gated.test(run_conf={"app_handle": app_handle})
    print(f"\nThe run ended as {run.state}.")
    sys.exit(run.state != "success")
