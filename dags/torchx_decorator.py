"""Train in two containers with a function of the DAG file."""
# ruff: noqa: INP001, T201 -- a script that prints
# mypy: disable-error-code="import-not-found, arg-type"

from __future__ import annotations

import os
import sys

from airflow.sdk import DAG, task

IMAGE = os.environ.get("AIRFLOW_TORCHX_BASE_IMAGE", "pytorch/pytorch:2.9.0-cuda12.8-cudnn9-runtime")

with DAG("torchx_decorator", schedule=None, doc_md=__doc__, tags=["torchx"]) as dag:

    @task.torchx(image=IMAGE, num_replicas=2, cpu=1, nproc_per_node=1)
    def fit(slope: float, *, steps: int = 20) -> dict[str, float]:
        """Fit a line to noisy points on all processes, and return rank 0's result."""
        # Only this function is copied into the containers, so its imports are inside it.
        import torch
        import torch.distributed as dist
        from torch.nn.parallel import DistributedDataParallel

        dist.init_process_group("gloo")
        torch.manual_seed(dist.get_rank())
        x = torch.linspace(-1, 1, 100)[:, None]
        y = slope * x + 0.1 * torch.randn_like(x)
        model = DistributedDataParallel(torch.nn.Linear(1, 1))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        for step in range(steps):
            loss = ((model(x) - y) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            # One write: torchrun copies what it finds at the time, even half a line.
            print(f"rank {dist.get_rank()} step {step} loss {loss.item():.4f}\n", end="")
        fitted = model.module.weight.item()
        dist.barrier()
        dist.destroy_process_group()
        return {"slope": fitted, "error": abs(fitted - slope)}

    @task
    def report(fits: list[dict[str, float]]) -> float:
        """Return the largest error."""
        return max(result["error"] for result in fits)

    report(fit.expand(slope=[1.0, -2.0]))

if __name__ == "__main__":
    run = dag.test()
    if run.state == "success":
        worst = run.get_task_instance("report").xcom_pull(task_ids="report")
        print(f"\nlargest error: {worst:.3f}")
    sys.exit(run.state != "success")
