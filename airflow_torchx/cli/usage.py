"""What the replicas of an app use at this moment, and how far its program is."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Final

from airflow_torchx.concurrency.daemons import call_each
from airflow_torchx.runtime.progress import read_once
from airflow_torchx.runtime.usage import UsageMonitor, running_replicas

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.core.state.progress import Progress
    from airflow_torchx.specs import DescribeAppResponse, ReplicaStatus

# Docker 20.10 takes a second for one reading, and as many are made at once.
_THREADS: Final = 16
_LIMIT_S: Final = 4.0
# The CPU time between two readings is what is used now.
_APART_S: Final = 0.5


def with_usage(
    engine: Engine, app: DescribeAppResponse, limit_s: float = _LIMIT_S
) -> tuple[DescribeAppResponse, Progress | None]:
    """Return an app with what its running replicas use, and how far its program is.

    What cannot be read in time is left out.
    """
    found: list[Progress | None] = []
    monitor = UsageMonitor()
    until_s = time.monotonic() + limit_s

    def read_twice(replica: ReplicaStatus) -> None:
        read = partial(monitor.refresh, engine, replica, 0.0)
        read()
        pause_s = min(_APART_S, until_s - time.monotonic())
        if pause_s > 0:
            time.sleep(pause_s)
            read()

    calls: list[Callable[[], None]] = [lambda: found.append(read_once(engine, app))]
    calls += [partial(read_twice, one) for one in running_replicas(app)]
    call_each(lambda call: call(), calls, threads=_THREADS, timeout_s=limit_s)
    return monitor.mark(app), next(iter(found), None)
