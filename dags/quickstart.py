"""Train a small network with PyTorch's DistributedDataParallel, in two containers.

A DAG like any other; `make demo` runs it once, without a scheduler.
"""
# ruff: noqa: INP001, S108, T201 -- a script, which prints; the folder is the containers'

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
        # Two nodes with one process each; what follows the -- goes to the script.
        component_args=[
            *("-j", "2x1", "--cpu", "1", "--script", "train.py"),
            *("--", "--metrics", "/tmp/metrics.json"),
        ],
        image=IMAGE,
        # This folder is laid over the image: edit train.py, and the next run trains with it.
        workspace="workspace",
        # torchrun passes on what its workers print, line by line if it is unbuffered; and more
        # threads than CPUs would make each step ten times as slow.
        env={"PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"},
        result_path="/tmp/metrics.json",
    )


def main() -> int:
    """Run the DAG once and end the screen with what came out of it."""
    show_only_the_app()
    print(f"Running the DAG {dag.dag_id!r} once, on {IMAGE} ...")
    run = dag.test()
    if run.state != "success":
        print(f"\nThe run ended as {run.state}; the reason is above.")
        return 1
    task = run.get_task_instance("train")
    metrics = task.xcom_pull(task_ids="train")
    print(f"\nloss    {metrics['first_loss']:.3f} -> {metrics['final_loss']:.3f}", end=" ")
    print(f"in {metrics['epochs']} epochs on {metrics['world_size']} processes")
    print(f"handle  {task.xcom_pull(task_ids='train', key='app_handle')}")
    return 0


def show_only_the_app() -> None:
    """Show what the operator and the app's replicas say, and of Airflow its errors."""
    import logging

    import structlog

    def text(_logger: object, level: str, event: structlog.typing.EventDict) -> str:
        shown = str(event["event"])
        is_plan = shown.startswith(("::group::", "::endgroup::", "app_id: "))
        is_ours = event.get("logger", "").startswith(("airflow.task.operators", "torchx."))
        if level != "error" and (is_plan or not is_ours):
            raise structlog.DropEvent
        error = sys.exc_info()[1] if event.get("exc_info") else None
        return f"{shown}: {str(error) or type(error).__name__}" if error else shown

    structlog.configure(processors=[*structlog.get_config()["processors"][:-1], text])
    logging.basicConfig(format="%(message)s", stream=sys.stdout, force=True)
    logging.getLogger("airflow").setLevel(logging.WARNING)
    logging.getLogger("airflow_torchx").setLevel(logging.INFO)


if __name__ == "__main__":
    sys.exit(main())
