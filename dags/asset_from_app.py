"""Run a DAG whenever an app with a given name succeeds, no matter who launched it.

The triggerer watches the daemon and updates the asset with the app's id and state.
"""
# ruff: noqa: INP001 -- a script

from __future__ import annotations

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, Asset, AssetWatcher

from airflow_torchx.triggers import TorchXDockerTrigger

MODEL = Asset(
    "nightly-model",
    watchers=[
        AssetWatcher(
            name="nightly-training",
            trigger=TorchXDockerTrigger(app_name="nightly", target_states=["SUCCEEDED"]),
        )
    ],
)

with DAG("asset_from_app", schedule=[MODEL], doc_md=__doc__, tags=["torchx"]):
    EmptyOperator(task_id="publish")
