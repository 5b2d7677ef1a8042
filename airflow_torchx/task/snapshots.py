"""Writes the snapshots of an app as an XCom, while a worker waits for it and at its end."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from copy import deepcopy
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from airflow_torchx.airflow_compat import has_supervisor, masked
from airflow_torchx.concurrency.daemons import in_daemon
from airflow_torchx.core.plan.redact import redact
from airflow_torchx.core.state.failure_key import failure_xcoms
from airflow_torchx.core.state.snapshot import SNAPSHOT_KEY, Owner, View, as_stopped, snapshot
from airflow_torchx.core.state.timeline import Timeline
from airflow_torchx.core.state.usage import UsageHistory
from airflow_torchx.errors import AirflowRequestError, AirflowTorchXError
from airflow_torchx.runtime.usage import UsageMonitor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow_torchx.specs import DescribeAppResponse
    from airflow_torchx.task.context import TaskContext

#: Seconds between two snapshots, at least.
PAUSE_S: Final = 2.0
# Between two snapshots of an app whose replicas keep their states.
_REFRESH_S: Final = 15.0
# Airflow kills a task 5 s after SIGTERM.
_CLOSE_S: Final = 0.5


class Snapshots:
    """The snapshots of one app of a task. Thread-safe.

    Args:
        secrets: returns what is masked in each text.
        clock: returns seconds that never decrease.
        pause: waits for an event, up to so many seconds, and returns whether it is set.
    """

    def __init__(
        self,
        task: TaskContext,
        secrets: Callable[[], frozenset[str]],
        timeline: Timeline | None = None,
        usage: UsageMonitor | None = None,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[threading.Event, float], bool] = threading.Event.wait,
    ) -> None:
        self._task = task
        self._secrets = secrets
        self._timeline = timeline or Timeline()
        #: What the replicas use.
        self.usage = usage or UsageMonitor()
        self._lock = threading.Lock()
        self._clock = clock
        self._pause = pause
        #: The handle of the app.
        self.handle = ""
        self._unwritten: DescribeAppResponse | None = None
        #: The last one of the try, once it is made.
        self._last: dict[str, Any] | None = None
        self._written_s = 0.0
        self._changed = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def to_json(self) -> dict[str, Any]:
        """Return what a trigger needs to go on, without what the replicas use."""
        with self._lock:
            return {"owner": asdict(self._owner), **self._timeline.to_json()}

    @property
    def _owner(self) -> Owner:
        attempt = self._task.attempt
        return Owner(
            handle=self.handle,
            dag_id=attempt.dag_id,
            run_id=attempt.run_id,
            task_id=attempt.task_id,
            map_index=attempt.map_index,
            try_number=attempt.try_number,
            epoch=attempt.max_tries,
        )

    def make(self, app: DescribeAppResponse, lines: Sequence[str] = ()) -> dict[str, Any]:
        """Return the next snapshot; ``lines`` are the last ones of the replica that failed."""
        secrets = self._secrets()
        with self._lock:
            self._timeline.see(app, time.time())
            return self._next(app, secrets, lines)

    def _next(
        self,
        app: DescribeAppResponse,
        secrets: frozenset[str],
        lines: Sequence[str] = (),
        timeline: Timeline | None = None,
    ) -> dict[str, Any]:
        """Return the next snapshot of an app that the timeline has seen, and nothing after it."""
        now_s = time.time()
        self._written_s = self._clock()
        return snapshot(
            View(
                app=app,
                owner=self._owner,
                seq=self._timeline.next_seq(now_s),
                writer="worker",
                now_s=now_s,
                timeline=timeline or self._timeline,
                usage=self.usage.history(),
                mask=lambda text: masked(redact(text, secrets)),
                lines=lines,
            )
        )

    def look(self, app: DescribeAppResponse) -> None:
        """Have a snapshot written soon if a replica has changed, or if it is time; return at once.

        Without a supervisor, as under ``dag.test()``, Airflow's interface is not thread-safe.
        """
        with self._lock:
            changed = self._timeline.see(app, time.time())
            is_old = self._clock() >= self._written_s + _REFRESH_S
            if not (changed or is_old) or not has_supervisor():
                return
            self._unwritten = app
        self._changed.set()
        if self._thread is None:
            self._thread = in_daemon(self._write, "torchx-snapshots")

    def close(self) -> None:
        """Write no more, and wait a moment for the snapshot that is being written."""
        self._closing.set()
        self._changed.set()
        if self._thread is not None:
            self._thread.join(_CLOSE_S)

    def stopping(self, look: Callable[[], DescribeAppResponse]) -> None:
        """Have the app written as stopped, without a wait; `finish` replaces that.

        Airflow may kill this process before the replicas have ended, and no other one writes.
        """
        if has_supervisor():
            in_daemon(partial(self._write_stopped, look), "torchx-stopped")

    def _write_stopped(self, look: Callable[[], DescribeAppResponse]) -> None:
        self._closing.set()
        with suppress(AirflowTorchXError):
            app, secrets = as_stopped(look()), self._secrets()
            with self._lock:
                if self._last is not None:
                    return
                # The replicas end later than that.
                timeline = deepcopy(self._timeline)
                timeline.see(app, time.time())
                made = self._last = self._next(app, secrets, timeline=timeline)
            self._save(made)
            if self._last is not made:
                self._save(self._last)

    def finish(self, app: DescribeAppResponse, lines: Sequence[str] = ()) -> dict[str, Any]:
        """Push the last snapshot of a try, keep it beside those of other tries, and return it."""
        self.close()
        last = self._last = self.make(app, lines)
        self._save(last)
        return last

    def _save(self, last: dict[str, Any]) -> None:
        with suppress(AirflowRequestError):
            self._task.store(f"{SNAPSHOT_KEY}:{self._task.attempt.try_number}", last)
        for key, value in {SNAPSHOT_KEY: last, **failure_xcoms(last)}.items():
            self._task.push(key, value)

    def _write(self) -> None:
        while not self._closing.is_set():
            self._changed.wait()
            # Transitions of one moment, as at a launch, are one snapshot.
            left_s = max(0.0, self._written_s + PAUSE_S - self._clock())
            if self._pause(self._closing, left_s):
                return
            self._changed.clear()
            secrets = self._secrets()
            with self._lock:
                app, self._unwritten = self._unwritten, None
                if app is None or self._last is not None:
                    continue
                made = self._next(app, secrets)
            self._push(made)

    def _push(self, made: dict[str, Any]) -> None:
        """Push a snapshot, and the last one again if that was pushed meanwhile."""
        with suppress(AirflowRequestError):
            self._task.push(SNAPSHOT_KEY, made)
        if self._last is not None:
            with suppress(AirflowRequestError):
                self._task.push(SNAPSHOT_KEY, self._last)


def resumed(
    task: TaskContext,
    secrets: Callable[[], frozenset[str]],
    event: Mapping[str, Any],
    handle: str,
) -> Snapshots:
    """Return the snapshots of an app that a trigger has waited for."""
    usage = UsageMonitor(UsageHistory.parse(event.get("usage")))
    found = Snapshots(task, secrets, Timeline.parse(event.get("snapshot")), usage)
    found.handle = handle
    return found
