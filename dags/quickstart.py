"""Train a small network with PyTorch's DistributedDataParallel in two containers.

`make demo` runs this DAG once, without a scheduler.
"""
# ruff: noqa: INP001, S108, T201 -- a script that prints; the folder is in the containers

from __future__ import annotations

import os
import sys

from airflow.sdk import DAG

from airflow_torchx.operators import TorchXDockerOperator

IMAGE = os.environ.get("AIRFLOW_TORCHX_BASE_IMAGE", "pytorch/pytorch:2.9.0-cuda12.8-cudnn9-runtime")

with DAG("quickstart", schedule=None, doc_md=__doc__, tags=["torchx"]) as dag:
    TorchXDockerOperator(
        task_id="train",
        component="dist.ddp",
        # Two nodes with one process each. Arguments after -- go to the script.
        component_args=[
            *("-j", "2x1", "--cpu", "1", "--script", "train.py"),
            *("--", "--metrics", "/tmp/metrics.json"),
        ],
        image=IMAGE,
        # This folder is copied into the image: edit train.py, and the next run uses it.
        workspace="workspace",
        # Unbuffered, the log shows lines at once. With more threads than CPUs, a step takes ten
        # times as long.
        env={"PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"},
        result_path="/tmp/metrics.json",
    )


def main() -> int:
    """Run the DAG once and print its result."""
    show_only_the_app()
    print(f"Running DAG {dag.dag_id!r} on {IMAGE} ...")
    run = dag.test()
    if run.state != "success":
        print(f"\nThe run ended as {run.state}, see above.")
        return 1
    task = run.get_task_instance("train")
    metrics = task.xcom_pull(task_ids="train")
    print(f"\nloss    {metrics['first_loss']:.3f} -> {metrics['final_loss']:.3f}", end=" ")
    print(f"in {metrics['epochs']} epochs on {metrics['world_size']} processes")
    app_id = task.xcom_pull(task_ids="train", key="app_id")
    print(
        f"The containers of app {app_id} were removed. Go on: docs/getting-started.md#a-first-dag"
    )
    return 0


def show_only_the_app() -> None:
    """Show only log lines of the operator and the replicas, and errors of Airflow."""
    import logging

    import structlog

    def text(_logger: object, level: str, event: structlog.typing.EventDict) -> str:
        message = str(event["event"])
        is_plan = message.startswith(("::group::", "::endgroup::", "app_id: "))
        is_ours = event.get("logger", "").startswith(("airflow.task.operators", "torchx."))
        if level != "error" and (is_plan or not is_ours):
            raise structlog.DropEvent
        error = sys.exc_info()[1] if event.get("exc_info") else None
        return f"{message}: {str(error) or type(error).__name__}" if error else message

    structlog.configure(processors=[*structlog.get_config()["processors"][:-1], text])
    logging.basicConfig(format="%(message)s", stream=sys.stdout, force=True)
    logging.getLogger("airflow").setLevel(logging.WARNING)
    logging.getLogger("airflow_torchx").setLevel(logging.INFO)


if __name__ == "__main__":
    sys.exit(main())
