"""When the trigger of a task that defers may fire."""

from __future__ import annotations

import time
from typing import Final

from airflow.sdk import conf

from airflow_torchx.airflow_compat import has_supervisor

# A scheduler that sleeps 3 s between two loops, and a second for the loop and a busy worker. With
# 3 s, Airflow still failed 1 of 120 attempts on 2 cores with a load of 18.
_SCHEDULER_LOOP_S: Final = 4.0


def not_before() -> float | None:
    """Return the earliest time for the event of a deferral that begins now.

    Airflow 3.3 fails an attempt whose next process is queued, or runs, when the scheduler learns
    that the process that deferred has ended. A worker may notice that end late by ``[workers]
    min_heartbeat_interval``, and the scheduler learns of it in its next loop.

    Returns:
        Seconds since 1970; None if the task has no supervisor, as under ``dag.test()``: then no
        scheduler waits for the end of a process.
    """
    if not has_supervisor():
        return None
    noticed_s = conf.getint("workers", "min_heartbeat_interval", fallback=5)
    return time.time() + noticed_s + _SCHEDULER_LOOP_S
