"""Remove each minute what has no owner on a Docker daemon, like apps whose task is over.

The task asks Airflow which tasks are over. It needs the daemon, and no access to the database.
"""
# ruff: noqa: INP001 -- a script
# mypy: disable-error-code="call-arg"

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import DAG, task

with DAG(
    "prune",
    schedule="* * * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    params={
        # A connection of type torchx_docker; empty for the default one. Use a DAG for each daemon.
        "conn_id": "",
        "older_than_hours": 24,
        # Also apps of DAG runs that this Airflow does not have. Set it only if no other Airflow
        # uses the daemon: it would remove the apps of that one.
        "gone": False,
        # Also volumes with checkpoints of a URL, of runs that ended before that time.
        "checkpoints": False,
        "dry_run": False,
    },
    doc_md=__doc__,
    tags=["torchx"],
) as dag:

    @task(retries=0, execution_timeout=timedelta(minutes=10))
    def remove(params: dict[str, Any]) -> dict[str, Any]:
        """Return what was found and removed."""
        from airflow_torchx.hooks import TorchXDockerHook

        hook = TorchXDockerHook(params["conn_id"] or None)
        older_than = timedelta(hours=params["older_than_hours"])
        options = {name: params[name] for name in ("gone", "checkpoints", "dry_run")}
        return hook.prune(older_than, **options)

    remove()
