"""Train on each day's data, and promote the model if it beats the last one.

The models are in a Docker volume. A promotion updates the asset `spirals-model`, on which a DAG can
be scheduled with `schedule=[MODEL]`.
"""
# ruff: noqa: INP001, T201 -- a script that prints
# mypy: disable-error-code="import-not-found, arg-type"

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime

from airflow.sdk import DAG, Asset, CronDataIntervalTimetable, task

from airflow_torchx.operators import TorchXDockerOperator

IMAGE = os.environ.get("AIRFLOW_TORCHX_BASE_IMAGE", "pytorch/pytorch:2.9.0-cuda12.8-cudnn9-runtime")
MODEL = Asset("spirals-model")

# A manually triggered run may have no interval; it uses the last day.
SINCE = "{{ (dag_run.data_interval_start or dag_run.run_after - macros.timedelta(days=1)) | ds }}"
UNTIL = "{{ (dag_run.data_interval_end or dag_run.run_after) | ds }}"
CANDIDATE = "/models/candidates/{{ run_id }}.pt"
PROMOTED = "/models/promoted.pt"
MOUNTS = ["type=volume", "src={{ params.volume }}", "dst=/models"]

with DAG(
    "scheduled_retraining",
    schedule=CronDataIntervalTimetable("@daily", timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    # Concurrent runs would compare with the same model.
    max_active_runs=1,
    params={"epochs": 200, "volume": "spirals-models"},
    doc_md=__doc__,
    tags=["torchx"],
) as dag:
    train = TorchXDockerOperator(
        task_id="train",
        component="dist.ddp",
        component_args=[
            *("-j", "2x1", "--cpu", "1", "--script", "train.py", "--mounts", ",".join(MOUNTS)),
            *("--", "--since", SINCE, "--until", UNTIL),
            *("--epochs", "{{ params.epochs }}", "--model", CANDIDATE),
        ],
        image=IMAGE,
        workspace="retraining",
        env={"PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"},
    )

    @task.torchx(image=IMAGE, cpu=1, workspace="retraining", mounts=MOUNTS)
    def evaluate(candidate: str, promoted: str, day: str) -> dict[str, float | None]:
        """Return both models' losses on a day that neither was trained on."""
        from datetime import date
        from pathlib import Path

        from spirals import loss_of

        unseen = date.fromisoformat(day)
        last = loss_of(promoted, unseen) if Path(promoted).exists() else None
        return {"candidate": loss_of(candidate, unseen), "promoted": last}

    @task.short_circuit
    def is_better(losses: dict[str, float | None]) -> bool:
        """Return whether the candidate beats the promoted model."""
        candidate, last = losses["candidate"], losses["promoted"]
        print(f"loss: candidate {candidate}, promoted model {last}")
        return candidate is not None and (last is None or candidate < last)

    @task.torchx(image=IMAGE, cpu=1, mounts=MOUNTS, outlets=[MODEL])
    def promote(candidate: str, promoted: str) -> str:
        """Replace the promoted model with the candidate, atomically."""
        from pathlib import Path

        Path(candidate).replace(promoted)
        return promoted

    losses = evaluate(CANDIDATE, PROMOTED, UNTIL)
    train >> losses
    is_better(losses) >> promote(CANDIDATE, PROMOTED)

if __name__ == "__main__":
    run = dag.test()
    print(f"\nThe run ended as {run.state}.")
    sys.exit(run.state != "success")
