"""Apps of one GPU that wait for each other in a whole Airflow, in both modes of the operator.

The conf of a run names the folder in which its app notes that it started, and looks whether it may
end. An app takes its GPU by making a folder, which fails if another one has it.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG

from airflow_torchx.operators import TorchXDockerOperator

SCRIPT = r"""
gpu=/ran/${NVIDIA_VISIBLE_DEVICES:?}
mkdir "$gpu" || echo "${app_id} ${gpu}" >> /ran/twice
trap 'rmdir "$gpu"; exit 143' TERM
trap : USR1
echo "${AIRFLOW_CTX_DAG_RUN_ID} ${app_id}" >> /ran/starts
until [ -e /ran/finish ]; do sleep 2 & wait $!; done
rmdir "$gpu"
"""

APP = {
    "name": "app",
    "roles": [
        {
            "name": "worker",
            "image": "airflow-torchx/busybox:local",
            "entrypoint": "sh",
            "args": ["-c", SCRIPT],
            "resource": {"cpu": 0, "gpu": 1, "memMB": 64},
            "mounts": [
                {
                    "type": "bind",
                    "src_path": "{{ dag_run.conf['folder'] }}",
                    "dst_path": "/ran",
                    "read_only": False,
                }
            ],
        }
    ],
}


def gang(dag_id: str, gpu_wait_timeout_s: float | None = None, **arguments: Any) -> DAG:  # noqa: ANN401 - the operator's arguments
    """Return a DAG of one task."""
    limit = {} if gpu_wait_timeout_s is None else {"gpu_wait_timeout_s": gpu_wait_timeout_s}
    with DAG(dag_id, schedule=None, max_active_runs=100) as dag:
        TorchXDockerOperator(
            task_id="gang",
            app=APP,
            torchx_conn_id="gpu_host",
            options={"stop_grace_s": 5, **limit},
            **arguments,
        )
    return dag


AGAIN: dict[str, Any] = {"retries": 5, "retry_delay": timedelta(seconds=1)}
for mode in ("sync", "deferrable"):
    is_deferrable = mode == "deferrable"
    for dag in (
        gang(f"gpus_{mode}", deferrable=is_deferrable, **AGAIN),
        gang(f"gpus_{mode}_busy", 15, deferrable=is_deferrable, retries=0),
        gang(
            f"gpus_{mode}_late",
            deferrable=is_deferrable,
            retries=0,
            # From the start of the try on.
            execution_timeout=timedelta(seconds=30),
        ),
    ):
        globals()[dag.dag_id] = dag
