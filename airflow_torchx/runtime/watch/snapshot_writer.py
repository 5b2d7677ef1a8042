"""Writes the snapshots of an app while a triggerer waits for it, as far as that delays nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from copy import deepcopy
from typing import TYPE_CHECKING, Any, Final

from airflow_torchx.core.state.snapshot import Owner, View, as_stopped, snapshot
from airflow_torchx.core.state.timeline import Timeline
from airflow_torchx.core.state.usage import UsageHistory
from airflow_torchx.core.state.usage_json import is_number

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from airflow_torchx.runtime.usage import UsageMonitor
    from airflow_torchx.specs import DescribeAppResponse

#: Seconds between two snapshots of an app, at least.
PAUSE_S: Final = 2.0
#: Seconds between two snapshots of an app whose replicas keep their states.
REFRESH_S: Final = 60.0
#: Seconds for which an event waits for the last snapshot, and for the one before it, at most.
CLOSE_S: Final = 1.0
# A snapshot takes the triggerer up to 50 ms, and so long it serves no other trigger.
_SNAPSHOTS_PER_S: Final = 1.0

#: The writers of this process; only the event loop uses it.
_WRITERS: Final[set[object]] = set()


class SnapshotWriter:
    """The snapshots of one app.

    Args:
        stored: what a worker stored, see `task.snapshots.Snapshots.to_json`.
        push: stores a snapshot; an error of it costs this snapshot.
    """

    def __init__(
        self,
        stored: Mapping[str, Any],
        push: Callable[[dict[str, Any]], Awaitable[object]],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._owner = _owner(stored.get("owner"))
        self._timeline = Timeline.parse(stored)
        self._push = push
        self._now = now
        self._app: DescribeAppResponse | None = None
        self._usage: UsageMonitor | None = None
        self._changed = asyncio.Event()
        self._writing: asyncio.Task[None] | None = None
        self._pushing: asyncio.Future[object] | None = None
        self._stopping: asyncio.Task[None] | None = None

    def look(self, app: DescribeAppResponse, usage: UsageMonitor) -> None:
        """Have a snapshot written soon if a replica has changed; return at once."""
        self._app, self._usage = app, usage
        if self._timeline.see(app, self._now()):
            self._changed.set()
        if self._writing is None and self._owner is not None:
            _WRITERS.add(self)
            self._writing = asyncio.create_task(self._write(self._owner))

    def to_json(self) -> dict[str, Any]:
        """Return what the next process needs to go on."""
        return self._timeline.to_json()

    def is_continued(self, app_id: str, latest: object) -> bool:
        """Return whether another process has written a later snapshot of the app.

        ``latest`` is what the XCom ``torchx_app`` has; None without one.
        """
        found = latest if isinstance(latest, Mapping) else {}
        seq = found.get("seq")
        return found.get("app_id") == app_id and is_number(seq) and seq > self._timeline.seq

    async def finish(self) -> None:
        """Write what has changed since the last snapshot, and no more after it.

        The task may wait minutes for a worker that writes the next one. A snapshot that takes
        longer than `CLOSE_S` is not waited for. It is lost if its request has not begun; else it
        may overwrite what the next process writes.
        """
        try:
            async with asyncio.timeout(CLOSE_S):
                if self._pushing is not None and not self._pushing.done():
                    await asyncio.wait({self._pushing})
                self.close()
                if self._changed.is_set() and self._app is not None and self._owner is not None:
                    await self._write_one(self._app, self._owner)
        except TimeoutError:
            self.close()

    def close(self) -> None:
        """Write no more."""
        _WRITERS.discard(self)
        if self._writing is not None:
            self._writing.cancel()

    def stopping(self) -> None:
        """Have the app written as stopped, without a wait; `write_last` replaces that.

        A stop takes up to the grace period of the replicas.
        """
        self.close()
        if self._app is not None and self._owner is not None:
            app = as_stopped(self._app)
            # The replicas end later than that.
            timeline = deepcopy(self._timeline)
            timeline.see(app, self._now())
            self._stopping = asyncio.create_task(self._write_one(app, self._owner, timeline))

    async def write_last(self, app: DescribeAppResponse | None) -> None:
        """Write the snapshot of an app that the trigger has stopped, and no other one after it.

        If the app could not be described, None, the one of `stopping` stays.
        """
        self.close()
        if self._stopping is not None:
            await asyncio.wait({self._stopping}, timeout=CLOSE_S)
            self._stopping.cancel()
        if app is None:
            return
        self._timeline.see(app, self._now())
        if self._owner is not None:
            await self._write_one(app, self._owner)

    async def _write(self, owner: Owner) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(max(REFRESH_S, len(_WRITERS) / _SNAPSHOTS_PER_S)):
                    await self._changed.wait()
            self._changed.clear()
            if self._app is not None:
                await self._write_one(self._app, owner)
            await asyncio.sleep(PAUSE_S)

    async def _write_one(
        self, app: DescribeAppResponse, owner: Owner, timeline: Timeline | None = None
    ) -> None:
        now_s = self._now()
        made = snapshot(
            View(
                app=app,
                owner=owner,
                writer="trigger",
                now_s=now_s,
                seq=self._timeline.next_seq(now_s),
                timeline=timeline or self._timeline,
                usage=self._usage.history() if self._usage else UsageHistory(),
            )
        )
        # It comes from internals of Airflow and from the API server, of any type.
        with suppress(Exception):
            self._pushing = asyncio.ensure_future(self._push(made))
            await self._pushing


def _owner(stored: object) -> Owner | None:
    """Return a stored owner; None if another release has stored something else."""
    try:
        return Owner(**stored)  # type: ignore[arg-type]
    except TypeError:
        return None
