"""Runs a DAG in this process, and leaves the process as it was."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Final

from airflow.sdk.execution_time import task_runner

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun
    from airflow.sdk import DAG

#: Threads of a task that ask the API server or send metrics, and that may outlive the task.
_THREADS: Final = {"task-state", "requests", "torchx-metrics"}


def run_dag(dag: DAG) -> DagRun:
    """Run a DAG by `dag.test()`, and take back what that leaves in the process.

    It leaves its handler of SIGTERM. Its `set_supervisor_comms` is not made for several threads: a
    request that is answered after the task has ended puts the connection of the ended task back,
    and later tests of the process then get answers from the database. A task waits 0.2 s for its
    metrics; those that are sent later would be lost for a test, or come in the next one.
    """
    on_term = signal.getsignal(signal.SIGTERM)
    try:
        run: DagRun = dag.test()
        return run
    finally:
        signal.signal(signal.SIGTERM, on_term)
        for thread in threading.enumerate():
            if thread.name in _THREADS:
                thread.join()
        vars(task_runner).pop("SUPERVISOR_COMMS", None)
