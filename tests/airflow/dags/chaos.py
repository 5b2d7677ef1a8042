"""A gang that a campaign of kills meets in a whole Airflow, in both modes of the operator.

The conf of a run names the gate to the daemon, and the folder in which its
replicas note that they started, and look whether they may end.

A gang with restarts fails in each round of its first app: replica 1 does, once
all of the round have started. Its next app succeeds.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG

from airflow_torchx.operators import TorchXDockerOperator

REPLICAS = 3

# A shell that is the first process of a container handles a signal only with a trap; USR1 wakes
# it for a look.
SCRIPT = r"""
trap 'exit 143' TERM
trap : USR1
echo "${app_id} ${replica_id} r${TORCHX_RESTART:-0}" >> /ran/starts
seq 40 | sed 's/^/line /'
until [ -e /ran/finish ]; do sleep 2 & wait $!; done
read first rest < /ran/starts
if [ -n "$TORCHX_RESTART" ] && [ "$first" = "${app_id}" ]; then
  until [ "${replica_id}" = 1 ]; do sleep 2 & wait $!; done
  until [ "$(grep -c "^$first . r$TORCHX_RESTART" /ran/starts)" = 3 ]; do sleep 0.1; done
  exit 3
fi
seq 41 60 | sed 's/^/line /'
echo "\"${app_id}\"" > /result.json
"""

ROLE: dict[str, Any] = {
    "name": "worker",
    "image": "airflow-torchx/busybox:local",
    "entrypoint": "sh",
    "args": ["-c", SCRIPT],
    "num_replicas": REPLICAS,
    "resource": {"cpu": 0, "gpu": 0, "memMB": 64},
    "mounts": [
        {
            "type": "bind",
            "src_path": "{{ dag_run.conf['folder'] }}",
            "dst_path": "/ran",
            "read_only": False,
        }
    ],
}


def gang(dag_id: str, *, deferrable: bool, max_retries: int = 0) -> DAG:
    """Return a DAG of one mode."""
    with DAG(dag_id, schedule=None, max_active_runs=100) as dag:
        TorchXDockerOperator(
            task_id="gang",
            app={"name": "app", "roles": [{**ROLE, "max_retries": max_retries}]},
            torchx_conn_id="{{ dag_run.conf['gate'] }}",
            result_path="/result.json",
            options={"stop_grace_s": 2},
            # More than the kills take: Airflow's race may take another one.
            retries=5,
            retry_delay=timedelta(seconds=1),
            deferrable=deferrable,
        )
    return dag


chaos_sync = gang("chaos_sync", deferrable=False)
chaos_deferrable = gang("chaos_deferrable", deferrable=True)
chaos_sync_restarts = gang("chaos_sync_restarts", deferrable=False, max_retries=1)
chaos_deferrable_restarts = gang("chaos_deferrable_restarts", deferrable=True, max_retries=1)
