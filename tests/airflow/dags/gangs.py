"""Gangs that the tests run in a whole Airflow: one DAG each, with one task called ``gang``."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG

from airflow_torchx.operators import TorchXDockerOperator
from airflow_torchx.specs import AppDef, Resource, Role

# A shell that is the first process of a container ignores a signal until it has a trap for it: so
# it says when it has one.
FOREVER = "trap 'exit 143' TERM; echo up; sleep 600 & wait"
DEAF = "trap '' TERM; while true; do sleep 1; done"
# Longer than Airflow waits for a task that it has asked to end.
SAVES = "trap 'sleep 6; echo saved; exit 3' TERM; echo up; while true; do sleep 0.2; done"

SAVES_ON_SIGNAL = "trap 'sleep 8; echo saved; exit 3' USR1; echo up; while true; do sleep 0.2; done"

# Two reports with one write, and the last one after a signal: of reports within a minute, the log
# has the first one that a process reads.
STEPS = r"""
trap 'ending=1' USR1
report() {
  printf '{"step": %d, "total": 9, "metrics": {"loss": 0.5}}\n' "$@" >>$TORCHX_PROGRESS_FILE
}
report 1 2
while [ -z "$ending" ]; do sleep 0.1; done
report 9
"""

# 5,000 lines, a long one, one that would fold the log in Airflow's UI, and one that is no UTF-8.
CHATTY = r"""
seq 5000 | sed 's/^/line /'
head -c 20000 /dev/zero | tr '\0' x; echo
echo '::group::folded'; echo '::endgroup::'
printf 'not \377 UTF-8\n' >&2
printf 'no newline'
"""

# The word comes out backwards: Airflow does not know it that way, so it does not mask it.
WHISPER = """
echo "the word is $MAGIC_WORD"
echo "the word is $(echo "$MAGIC_WORD" | tr a-z A-Z)"
echo "the word is $(echo -n "user:$MAGIC_WORD" | base64)"
echo "\\"$(echo "$MAGIC_WORD" | rev)\\"" > /word.json
"""


def gang(
    dag_id: str,
    script: str,
    *,
    replicas: int = 2,
    max_retries: int = 0,
    **arguments: Any,  # noqa: ANN401 - the operator's arguments
) -> DAG:
    """Return a DAG of one task, whose replicas run a shell script."""
    role = Role(
        name="worker",
        image="airflow-torchx/busybox:local",
        entrypoint="sh",
        args=["-c", script],
        num_replicas=replicas,
        max_retries=max_retries,
        resource=Resource(cpu=0, gpu=0, memMB=64),
    )
    with DAG(dag_id, schedule=None) as dag:
        TorchXDockerOperator(task_id="gang", app=AppDef("app", [role]), **arguments)
    return dag


forever = gang("forever", FOREVER)
steps = gang("steps", STEPS, replicas=1)
steps_deferrable = gang("steps_deferrable", STEPS, replicas=1, deferrable=True)
forever_deferrable = gang("forever_deferrable", FOREVER, deferrable=True)
half, half_deferrable = (
    gang(
        f"half{'_deferrable' * is_deferrable}",
        FOREVER,
        deferrable=is_deferrable,
        options={"failure_policy": "wait_all"},
        retries=0,
    )
    for is_deferrable in (False, True)
)
# Fails at a signal, and succeeds after a restart.
RESTARTED = """
[ "$TORCHX_RESTART" = 1 ] && exit 0
trap 'exit 7' USR1
trap 'exit 143' TERM
echo up
while true; do sleep 0.2; done
"""
restarted, restarted_deferrable = (
    gang(
        f"restarted{'_deferrable' * is_deferrable}",
        RESTARTED,
        max_retries=2,
        deferrable=is_deferrable,
    )
    for is_deferrable in (False, True)
)
# The next round of its last try is made by no other process.
last_round = gang(
    "last_round",
    RESTARTED,
    max_retries=2,
    retries=0,
    torchx_conn_id="{{ dag_run.conf['conn_id'] }}",
)
last_try = gang("last_try", FOREVER, retries=0)
# Between its tries, no process has its app.
slow_retry = gang(
    "slow_retry",
    FOREVER,
    torchx_conn_id="{{ dag_run.conf['conn_id'] }}",
    retries=1,
    retry_delay=timedelta(hours=1),
)
saves = gang("saves", SAVES, options={"stop_grace_s": 30}, on_finish="keep")
saves_on_signal = gang(
    "saves_on_signal",
    SAVES_ON_SIGNAL,
    options={
        "checkpoint_signal": "SIGUSR1",
        "checkpoint_before_timeout_s": 60,
        "stop_grace_s": 1,
    },
    on_finish="keep",
)
overtime = gang(
    "overtime",
    DEAF,
    execution_timeout=timedelta(seconds=3),
    options={"stop_grace_s": 1},
    retries=0,
)
chatty = gang("chatty", CHATTY)
whisper = gang(
    "whisper",
    WHISPER,
    private_env={"MAGIC_WORD": "{{ 'emases-nepo' | reverse }}"},
    result_path="/word.json",
    on_finish="keep",
)
numbered_sync = gang("numbered_sync", "seq 2000 | sed 's/^/line /'", replicas=4)
numbered_deferrable = gang(
    "numbered_deferrable", "seq 2000 | sed 's/^/line /'", replicas=4, deferrable=True
)
# Ends on SIGTERM, and prints something before and after.
TALKS = """
trap 'ending=1' USR1
seq 500 | sed 's/^/line /'
while [ -z "$ending" ]; do sleep 0.1; done
seq 501 1000 | sed 's/^/line /'
"""
patient = gang("patient", TALKS, deferrable=False)
elsewhere, elsewhere_deferrable = (
    gang(
        f"elsewhere{'_deferrable' * is_deferrable}",
        f"{TALKS}echo '{{\"replica\": ${{replica_id}}}}' >/result.json",
        replicas=3,
        deferrable=is_deferrable,
        torchx_conn_id="{{ dag_run.conf['conn_id'] }}",
        result_path="/result.json",
    )
    for is_deferrable in (False, True)
)
ends_deferrable = gang(
    "ends_deferrable",
    "trap 'exit 0' USR1; trap 'exit 143' TERM; echo up; while true; do sleep 0.2; done",
    replicas=3,
    deferrable=True,
)

retried = gang(
    "retried",
    'echo "\\"${app_id}\\"" > /result.json',
    result_path="/result.json",
    retries=1,
    # The process of the first attempt has ended before the second one starts.
    retry_delay=timedelta(seconds=10),
    deferrable=False,
)
