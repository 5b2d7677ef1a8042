"""Training that the tests of the page show: apps that go on until a test sends them SIGUSR1."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG

from airflow_torchx.operators import TorchXDockerOperator
from airflow_torchx.specs import AppDef, Resource, Role

# `HOW` is "oom", where trainer/2 needs more memory with each step, or "retried", where trainer/1
# fails in the first try. A line of the log has what a page must neither run nor obey.
TRAIN = r"""
trap 'told=1' USR1
trap 'echo "saved a checkpoint"; exit 143' TERM
step=0
report() {
  echo "step $step/5000 loss 0.$((4000000 / ($step + 400)))"
  [ $TORCHX_REPLICA_IDX = 0 ] || return 0
  printf '{"step": %d, "total": 5000, "metrics": {"loss": 0.%d}}\n' \
    $step $((4000000 / ($step + 400))) >>$TORCHX_PROGRESS_FILE
}
while [ -z "$told" ]; do
  step=$((step + 20))
  report
  case "$HOW/$ROLE/$TORCHX_REPLICA_IDX" in
    oom/trainer/2) heap="$heap$(head -c 10000000 /dev/zero | tr '\0' x)" ;;
    retried/trainer/1)
      if [ "$AIRFLOW_CTX_TRY_NUMBER" = 1 ] && [ $step = 80 ]; then
        echo "ConnectionResetError: shard 7" >&2
        exit 1
      fi ;;
  esac
  sleep 0.7 & wait $!
done
printf '<img src=x onerror="window.hacked=1"> \033[31mdone\033[0m\n'
step=5000
report
"""


def app(trainers: int, *others: str) -> AppDef:
    """Return an app of trainers, and of one replica of each other role."""
    how = "{{ dag_run.conf.get('how', '') }}"
    args = ["-c", TRAIN]
    resource = Resource(cpu=1, gpu=0, memMB=128)
    roles = [
        Role(
            name,
            "airflow-torchx/busybox:local",
            entrypoint="sh",
            args=args,
            num_replicas=count,
            env={"HOW": how, "ROLE": name},
            resource=resource,
        )
        for name, count in {"trainer": trainers, **dict.fromkeys(others, 1)}.items()
    ]
    return AppDef("train", roles)


with DAG("train_nightly", schedule=None):
    TorchXDockerOperator(task_id="train", app=app(4, "reader"), retries=0)

with DAG("finetune_llm", schedule=None):
    TorchXDockerOperator(
        task_id="finetune", app=app(3), retries=1, retry_delay=timedelta(seconds=1)
    )

# The test wants the first and the last of these, and marks the others before it unpauses the DAG.
with DAG("tune_ranker", schedule=None, is_paused_upon_creation=True):
    TorchXDockerOperator.partial(task_id="train", app=app(2), deferrable=True).expand(
        env=[{"LR": f"{1 / 2**number:.5f}"} for number in range(13)]
    )
