"""Sensors that the tests run in a whole Airflow: one DAG each, with one task called ``gang``.

The app that they wait for is in the configuration of the run.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG

from airflow_torchx.operators import TorchXDockerOperator
from airflow_torchx.sensors import TorchXDockerSensor
from airflow_torchx.specs import AppDef, Resource, Role

# Airflow takes a task that is back within a second for one that has ended.
MODES: dict[str, dict[str, Any]] = {
    "reschedule": {"mode": "reschedule", "poke_interval": 5},
    "deferrable": {"deferrable": True},
    "from_trigger": {"start_from_trigger": True},
}
HANDLE = "{{ dag_run.conf['app_handle'] }}"


def waiting(dag_id: str, **arguments: Any) -> DAG:  # noqa: ANN401 - the sensor's arguments
    """Return a DAG of one sensor."""
    with DAG(dag_id, schedule=None) as dag:
        TorchXDockerSensor(task_id="gang", app_handle=HANDLE, **arguments)
    return dag


for mode, how in MODES.items():
    for softly in ("hard", "soft_fail", "never_fail"):
        dag_id = f"wait_{mode}_{softly}"
        softness = {} if softly == "hard" else {softly: True}
        globals()[dag_id] = waiting(dag_id, **how, **softness, retries=1)
    globals()[mode] = waiting(f"wait_{mode}_briefly", **how, never_fail=True, timeout=3)

# Names of states are the only arguments that the triggerer renders in no mode.
with DAG("wait_for_role", schedule=None) as wait_for_role:
    TorchXDockerSensor(
        task_id="gang",
        app_id="{{ dag_run.conf['app_handle'].rpartition('/')[2] }}",
        target_states={"RUNNING"},
        role="{{ 'work' }}er",
        min_replicas="{{ 1 + 1 }}",
        torchx_conn_id="{{ dag_run.conf['torchx_conn_id'] }}",
        start_from_trigger=True,
    )

with DAG("wait_for_each", schedule=None) as wait_for_each:
    TorchXDockerSensor.partial(task_id="gang", start_from_trigger=True).expand(
        app_handle=[HANDLE, HANDLE]
    )

with DAG("launch_and_wait", schedule=None) as launch_and_wait:
    role = Role(
        name="worker",
        image="airflow-torchx/busybox:local",
        entrypoint="sleep",
        args=["5"],
        resource=Resource(cpu=0, gpu=0, memMB=64),
    )
    launched = TorchXDockerOperator(
        task_id="launch", app=AppDef("app", [role]), wait_for_completion=False
    )
    TorchXDockerSensor(task_id="gang", app_handle=launched.output, start_from_trigger=True)
