"""A process of an Airflow task on a swarm, which a test may kill, or whose task a user ends.

It takes JSON: the attempt, the shell script of its replicas, and whether it defers. It writes how
it has ended as JSON. A line that it reads is the state that a user gives the task, null for a
clear. While it runs, Airflow then asks it to end; after a deferral, the triggerer kills its
trigger.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
from dataclasses import replace
from typing import Any

from airflow_torchx.operators import TorchXDockerOperator
from airflow_torchx.specs import Resource
from airflow_torchx.triggers import TorchXDockerTrigger
from tests.airflow.apps import shell
from tests.airflow.supervisor import Ended, Supervisor


def _end_when_told(supervisor: Supervisor) -> None:
    if line := sys.stdin.readline():
        supervisor.state = json.loads(line)
        os.kill(os.getpid(), signal.SIGTERM)


def _kill_trigger(deferred: Ended) -> None:
    trigger = TorchXDockerTrigger(**json.loads(json.dumps(deferred.message.trigger_kwargs)))
    state = json.loads(sys.stdin.readline())
    trigger.evidence = lambda: (state, trigger.app_id)
    asyncio.run(trigger.on_kill())


def main(
    run_id: str,
    try_number: int,
    max_tries: int,
    script: str,
    *,
    deferrable: bool,
    cpu: float = 0,
) -> None:
    """Run the process; each replica asks for so many CPUs."""
    app = shell(script, replicas=3)
    resource = Resource(cpu=cpu, gpu=0, memMB=64)
    app = replace(app, roles=[replace(role, resource=resource) for role in app.roles])

    def write(**of: Any) -> None:  # noqa: ANN401 - any JSON
        sys.stdout.write(f"{json.dumps(of)}\n")
        sys.stdout.flush()

    task = TorchXDockerOperator(
        task_id="gang",
        app=app,
        torchx_conn_id="gpu_cluster",
        deferrable=deferrable,
    )
    supervisor = Supervisor(task, max_tries=max_tries, run_id=run_id)
    if not deferrable:
        threading.Thread(target=_end_when_told, args=(supervisor,), daemon=True).start()
    ended = supervisor.run(try_number)
    write(report=ended.report, error=type(ended.error).__name__)
    if ended.report == "DeferTask":
        _kill_trigger(ended)
        write(report="killed", error="")


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
