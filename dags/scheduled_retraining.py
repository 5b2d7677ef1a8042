"""Every day: train on the day's data, and promote the model only if it beats the last one.

The models lie in a Docker volume. A promotion updates the asset `spirals-model`; a DAG with
`schedule=[MODEL]` runs whenever that happens.
"""
# ruff: noqa: INP001, T201 -- a script, which prints
# mypy: disable-error-code="import-not-found, arg-type"

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime

from airflow.sdk import DAG, Asset, CronDataIntervalTimetable, task

from airflow_torchx.operators import TorchXDockerOperator

IMAGE = os.environ.get("AIRFLOW_TORCHX_BASE_IMAGE", "pytorch/pytorch:2.9.0-cuda12.8-cudnn9-runtime")
MODEL = Asset("spirals-model")

# A run that somebody triggers without a date has no interval: then it is the last day.
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
    # Two runs at once would compare with the same model.
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
        """Return the losses of both models on a day that neither was trained on."""
        from datetime import date
        from pathlib import Path

        from spirals import loss_of

        unseen = date.fromisoformat(day)
        last = loss_of(promoted, unseen) if Path(promoted).exists() else None
        return {"candidate": loss_of(candidate, unseen), "promoted": last}

    @task.short_circuit
    def is_better(losses: dict[str, float | None]) -> bool:
        """Skip the promotion of a model that is no better than the last one."""
        candidate, last = losses["candidate"], losses["promoted"]
        print(f"loss of the candidate {candidate}, of the promoted model {last}")
        return candidate is not None and (last is None or candidate < last)

    @task.torchx(image=IMAGE, cpu=1, mounts=MOUNTS, outlets=[MODEL])
    def promote(candidate: str, promoted: str) -> str:
        """Put the candidate into the place of the last model, in one step."""
        from pathlib import Path

        Path(candidate).replace(promoted)
        return promoted

    losses = evaluate(CANDIDATE, PROMOTED, UNTIL)
    train >> losses
    is_better(losses) >> promote(CANDIDATE, PROMOTED)

if __name__ == "__main__":
    run = dag.test()
    print(f"\nThe run is a {run.state}.")
    sys.exit(run.state != "success")
