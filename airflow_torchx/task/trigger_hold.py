"""Computes when the trigger of a deferred task may fire."""

from __future__ import annotations

import time
from typing import Final

from airflow.sdk import conf

from airflow_torchx.airflow_compat import has_supervisor

# The scheduler sleeps 3 s between two loops; the loop and a busy worker may take 1 s. With 3 s,
# Airflow still failed 1 of 120 attempts on 2 cores with a load of 18.
_SCHEDULER_LOOP_S: Final = 4.0
#: Time in which a triggerer starts a trigger; the process that defers stays for it. On 2 idle
#: cores, Airflow dropped the triggers of tasks that were marked up to 0.2 s after the deferral.
PICK_UP_S: Final = 2.0


def not_before(stays_s: float = 0.0) -> float | None:
    """Return when the trigger of a task that defers now may fire, in seconds since 1970.

    Airflow 3.3 fails a try if its next process is queued or running before the scheduler knows that
    the process that deferred has ended, ``stays_s`` seconds after it has deferred. The worker may
    notice that end ``[workers] min_heartbeat_interval`` late, and the scheduler handles it in its
    next loop. None without a supervisor, as under ``dag.test()``, where this race cannot happen.
    """
    if not has_supervisor():
        return None
    noticed_s = conf.getint("workers", "min_heartbeat_interval", fallback=5)
    return time.time() + stays_s + noticed_s + _SCHEDULER_LOOP_S
