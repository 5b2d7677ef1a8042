"""Stops an app that makes no progress, after its stacks were written into its log."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

from airflow_torchx.concurrency.parallel import map_concurrently
from airflow_torchx.core.engine.containers import LogQuery
from airflow_torchx.core.plan.identity import stalled_name
from airflow_torchx.core.state import stall
from airflow_torchx.core.state.report import replica_name
from airflow_torchx.errors import EngineError, EngineUnreachableError
from airflow_torchx.runtime import lifecycle
from airflow_torchx.runtime.stops import Stops
from airflow_torchx.runtime.usage import UsageMonitor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_torchx.core.engine.containers import ContainerRow
    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.runtime.usage import Reading
    from airflow_torchx.specs import DescribeAppResponse, ReplicaStatus

_log = logging.getLogger(__name__)

_COMMAND_S: Final = 10.0
_COMMAND_BYTES: Final = 65_536

# Writes the stacks of all Python processes into the log of the container. py-spy leaves them
# running. Without it, `faulthandler`, which PYTHONFAULTHANDLER enables, does that at SIGABRT,
# and ends the process; then its log has `Fatal Python error: Aborted`, like that of a crash.
# All of them get it in one call: when torchrun sees that a worker has ended, it ends the others.
# Process 1 comes last, because its workers end with it.
_DUMP_STACKS: Final = r"""
said= read= aborts=
say() {
  echo "airflow-torchx: the app has stalled; $1" >/proc/1/fd/2
}
title() {
  [ "$said" ] || say "these stacks were asked for, also by 'Fatal Python error: Aborted':"
  said=1
}
dump() {
  case "$(readlink /proc/$1/exe)" in *python*) ;; *) return ;; esac
  if command -v py-spy >/dev/null 2>&1; then
    title
    py-spy dump --pid $1 >/proc/1/fd/2 2>&1 && read=1 && return
  fi
  grep -q PYTHONFAULTHANDLER= /proc/$1/environ && aborts="$aborts $1"
}
abort() {
  [ "$aborts" ] && title && read=1 && kill -ABRT $aborts
  aborts=
}
for folder in /proc/[0-9]*; do
  [ "$folder" = /proc/1 ] || [ "$folder" = /proc/$$ ] || dump "${folder#/proc/}"
done
abort
sleep 0.5
dump 1
abort
[ "$read" ] || say "stacks could not be read: only those of Python processes can"
"""


class StallDetector:
    """Looks at the progress of one app, and stops the app if it makes none.

    It does nothing for an app without ``stalled_after_s``. ``clock`` returns seconds that never
    decrease. What it reads about the use of CPUs and GPUs is also kept by ``usage``.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, usage: UsageMonitor | None = None
    ) -> None:
        self._clock = clock
        self._usage = usage or UsageMonitor()
        self._seen: Mapping[str, stall.Seen] = {}
        self._next_s = clock()
        self._has_warned = False
        #: The containers of an app that has stalled, which the daemon may have refused to stop.
        self._stopping: frozenset[str] = frozenset()
        #: Those of them that no other client stops.
        self._own = set[str]()

    def check(self, engine: Engine, app: DescribeAppResponse) -> bool:
        """Read what the replicas did, if it is time; return whether it has stopped the app.

        Raises:
            EngineUnreachableError: the daemon does not answer; that time does not count.
        """
        after_s = stall.stalled_after(app)
        if after_s is None or self._clock() < self._next_s:
            return False
        began_s = self._clock()
        self._next_s = began_s + stall.interval(after_s)
        try:
            replicas = stall.watched_replicas(app)
            found = map_concurrently(partial(self._activity, engine), replicas)
        except EngineUnreachableError:
            self._seen = {}
            raise
        at_s = self._clock()
        now: dict[str, stall.Activity | None] = {}
        for replica, activity in zip(replicas, found, strict=True):
            if isinstance(activity, str):
                self._warn(replica, activity)
            now[replica.container_id] = None if isinstance(activity, str) else activity
        # A daemon that is slow to answer may have kept the replicas waiting, too.
        waited = stall.delayed(self._seen, at_s - began_s)
        self._seen = stall.advance(waited, now, at_s)
        ids = frozenset(now)
        if ids and ids <= self._stopping:
            return self._stop(engine, app.app_id, ids, lambda _: None)
        if not stall.is_stalled(self._seen.values(), at_s, after_s):
            return False
        _log.error(
            "app %s has stalled: for %g s (stalled_after_s), no replica wrote a line or used a "
            "CPU or GPU; the stacks of its Python processes go to its log, if they can be read, "
            "then it is stopped",
            app.app_id,
            after_s,
        )
        self._stopping = ids
        return self._stop(engine, app.app_id, ids, partial(dump_stacks, engine))

    def _stop(
        self,
        engine: Engine,
        app_id: str,
        ids: frozenset[str],
        before_stop: Callable[[str], None],
    ) -> bool:
        """Stop an app that has stalled; return False if the daemon refuses, until the next look."""
        try:
            self._stop_stalled(engine, app_id, ids, before_stop)
        except EngineUnreachableError:
            raise
        except EngineError as why:
            _log.warning("cannot stop the stalled app %s, retrying: %s", app_id, why)
            return False
        return True

    def _stop_stalled(
        self,
        engine: Engine,
        app_id: str,
        ids: frozenset[str],
        before_stop: Callable[[str], None],
    ) -> None:
        """Stop these containers with one grace period, so that every client reads FAILED.

        ``before_stop`` is called with the id of each one that no other client stops.
        """

        def look() -> list[ContainerRow]:
            return [
                row for row in lifecycle.live(lifecycle.rows_of(engine, app_id)) if row.id in ids
            ]

        rows, stops = look(), Stops(engine, look, self._own)
        stops.rename(rows, stalled_name)
        own = [row for row in rows if stops.is_own(row)]
        map_concurrently(lambda row: before_stop(row.id), own)
        stops.stop(rows, lifecycle.grace_of(rows))

    def _activity(self, engine: Engine, replica: ReplicaStatus) -> stall.Activity | str | None:
        """Return what a replica did until now, or why that cannot be read; None if it has ended."""
        try:
            reading = self._usage.read(engine, replica)
            if reading is None:
                return None
            query = LogQuery(tail=1, timestamps=True)
            last_line = b"".join(engine.logs(replica.container_id, query))
            gpu_percent = _gpu_percent(reading) if replica.gpus else None
        except EngineUnreachableError:
            raise
        except (EngineError, ValueError) as why:
            return str(why)
        return stall.Activity(
            at_s=reading.usage.read_at.timestamp(),
            cpu_ns=reading.usage.cpu_ns,
            last_line=last_line,
            gpu_percent=gpu_percent,
        )

    def _warn(self, replica: ReplicaStatus, why: str) -> None:
        if not self._has_warned:
            _log.warning("replica %s counts as active: %s", replica_name(replica), why)
        self._has_warned = True


def _gpu_percent(reading: Reading) -> float:
    """Return how busy the busiest GPU of a replica is.

    Raises:
        ValueError: it cannot be read.
    """
    percents = [gpu.percent for gpu in reading.gpus if gpu.percent is not None]
    if reading.gpu_problem or not percents or len(percents) < len(reading.gpus):
        raise ValueError(reading.gpu_problem or "nvidia-smi does not show the use of its GPUs")
    return max(percents)


def dump_stacks(engine: Engine, container_id: str) -> None:
    """Write the stacks of a container's Python processes into its log, as far as it can."""
    with suppress(EngineError):
        command = ("sh", "-c", _DUMP_STACKS)
        engine.execute(container_id, command, timeout_s=_COMMAND_S, max_bytes=_COMMAND_BYTES)
