"""`TorchXDockerTrigger`: waits for an app in Airflow's triggerer, without a worker."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import math
import threading
import time
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, TypeVar

from airflow.sdk.exceptions import AirflowRuntimeError
from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from airflow_torchx.airflow_compat import LOOKUPS, in_thread, push_snapshot, task_state, xcom
from airflow_torchx.concurrency.outliving import outlive
from airflow_torchx.core.gpu.demand import GpuDemand
from airflow_torchx.core.state.app_ref import app_ref
from airflow_torchx.core.state.condition import Condition
from airflow_torchx.core.state.snapshot import SNAPSHOT_KEY
from airflow_torchx.core.state.trigger_event import (
    FORMAT_VERSION,
    TRIGGER_CLASS,
    WaitFor,
    make_event,
)
from airflow_torchx.core.state.usage import UsageHistory
from airflow_torchx.core.task.shutdown import is_resuming, may_stop
from airflow_torchx.errors import AppNotFoundError, EngineError
from airflow_torchx.hooks import TorchXDockerHook
from airflow_torchx.runtime.attach import stopped
from airflow_torchx.runtime.watch import Watches
from airflow_torchx.runtime.watch.app_endings import Endings
from airflow_torchx.runtime.watch.app_wait import OUTAGE_S, Alarms, AppWait
from airflow_torchx.runtime.watch.gpu_wait import GpuWait
from airflow_torchx.runtime.watch.snapshot_writer import SnapshotWriter
from airflow_torchx.telemetry import count_end

if TYPE_CHECKING:
    from collections.abc import (
        AsyncIterator,
        Awaitable,
        Callable,
        Collection,
        Mapping,
        Sequence,
    )

    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.core.state.trigger_event import AppEvent
    from airflow_torchx.runtime.watch import Watch
    from airflow_torchx.specs import DescribeAppResponse

_Answer = TypeVar("_Answer")

#: States in which an app has ended.
ENDED: Final = ("SUCCEEDED", "FAILED", "CANCELLED")
#: XCom key of the app id.
APP_ID_KEY: Final = "app_id"

#: Shared by all triggers of this process.
_WATCHES: Final = Watches()
#: Set once a trigger of this process has requested the state of its task. The first such request
#: may take half a minute (measured: 37 s under load), which a killed trigger does not have.
_ASKED: Final = threading.Event()
# Longest time for which an event is held back.
_MAX_HOLD_S: Final = 60.0
# Longest time between two looks at a task that waits for a worker.
_LAST_LOOK_S: Final = 60.0


class TorchXDockerTrigger(BaseEventTrigger):
    """Fires when an app reaches a state, or whenever an app of a given name ends.

    Example::

        from airflow.sdk import Asset, AssetWatcher
        from airflow_torchx.triggers import TorchXDockerTrigger

        trigger = TorchXDockerTrigger(app_name="nightly", target_states=["SUCCEEDED"])
        model = Asset("model", watchers=[AssetWatcher(name="nightly", trigger=trigger)])

    All triggers of a triggerer share one stream of events for each daemon; none of them polls.
    The event is a mapping with ``app_id``, ``reason`` (see `core.state.trigger_event.Reason`),
    ``state`` and ``message``.

    Args:
        app_id: id or handle of the app to wait for; the trigger fires once.
        app_name: used instead of ``app_id``, by an ``AssetWatcher``: the trigger fires for each app
            of this name that ends in one of ``target_states``, and never finishes.
        torchx_conn_id: connection to the daemon; None for the one that the docker command line
            would use.
        docker_conn_ids: logins of registries, for what a node of a swarm pulls in a restart.
        target_states: names of the states to wait for.
        role: role whose replicas count; None for all roles.
        min_replicas: how many replicas in a target state are enough.
        failed_states: names of the states that end the wait as a failure.
        owned: the app belongs to the task: wait until every replica has ended, act on its failure
            policy, and stop it if a user ends or clears the task. False never stops an app.
        delete_on_finish: when a user ends or clears the task, remove the containers, too.
        deadline: when to fire ``timeout``, in seconds since 1970.
        flush_at: when to fire ``flush``, in seconds since 1970.
        save_at: when to send the checkpoint signal to the replicas, in seconds since 1970; None for
            never.
        not_before: earliest time to fire, in seconds since 1970, one minute from now at most; None
            fires at once. See `task.trigger_hold.not_before`.
        wait_for_launch: wait for an app that is not on the daemon; False fires ``gone``.
        gpu_demand: wait for GPUs instead, which a task needs before it launches the app; the
            trigger claims them and fires ``claimed``.
        usage: what an app that is ``owned`` has used until now; its event says what it used then.
        snapshot: when its replicas changed until now, and whose it is, for the XCom ``torchx_app``.
        format_version: stored by `serialize`. With it, unknown arguments are ignored: Airflow makes
            a trigger of what another release stored, before an upgrade or a downgrade.

    Raises:
        TypeError: arguments are unknown, or both or neither of ``app_id`` and ``app_name`` are set.
    """

    supports_triggerer_queue = True

    def __init__(  # noqa: PLR0913, PLR0915 - the interface of three users
        self,
        *,
        app_id: str | None = None,
        app_name: str | None = None,
        torchx_conn_id: str | None = None,
        docker_conn_ids: Sequence[str] = (),
        target_states: Sequence[str] = ENDED,
        role: str | None = None,
        min_replicas: int | None = None,
        failed_states: Sequence[str] = (),
        owned: bool = False,
        delete_on_finish: bool = False,
        deadline: float | None = None,
        flush_at: float | None = None,
        save_at: float | None = None,
        not_before: float | None = None,
        wait_for_launch: bool = False,
        gpu_demand: Mapping[str, Any] | None = None,
        usage: Mapping[str, Any] | None = None,
        snapshot: Mapping[str, Any] | None = None,
        format_version: int | None = None,
        **unknown: Any,  # noqa: ANN401 - see above
    ) -> None:
        if (app_id is None) == (app_name is None):
            # Not a ValueError, which ends the triggerer.
            raise TypeError("give exactly one of app_id and app_name")
        super().__init__()  # type: ignore[no-untyped-call]
        if unknown:
            self._ignore(unknown, format_version)
        self.app_id = app_id
        self.app_name = app_name
        self.torchx_conn_id = torchx_conn_id
        self.docker_conn_ids = list(docker_conn_ids)
        self.target_states = list(target_states)
        self.role = role
        self.min_replicas = min_replicas
        self.failed_states = list(failed_states)
        self.owned = owned
        self.delete_on_finish = delete_on_finish
        self.deadline = deadline
        self.flush_at = flush_at
        self.save_at = save_at
        self.not_before = not_before
        self.wait_for_launch = wait_for_launch
        self.gpu_demand = gpu_demand
        self.usage, self.snapshot = usage, snapshot
        #: How long the daemon may be unreachable, in seconds.
        self.outage_s = OUTAGE_S
        #: When to look first whether the task resumes after the event, in seconds.
        self.first_look_s = 2.0
        #: The shared watches.
        self.watches = _WATCHES
        #: Returns the state and the app id of the task instance according to Airflow; may block.
        self.evidence: Callable[[], tuple[str | None, str | None]] = self._ask_airflow
        #: Returns the last snapshot of the task's app according to Airflow; may block.
        self.latest: Callable[[], object] = lambda: xcom(SNAPSHOT_KEY, *self._own_task)
        #: Stores a snapshot of the app.
        self.push: Callable[[dict[str, Any]], Awaitable[object]] = push_snapshot
        self._stack = contextlib.ExitStack()
        self._fired = False

    def _ignore(self, unknown: Collection[str], format_version: int | None) -> None:
        """Accept unknown arguments only if they were stored."""
        names = ", ".join(sorted(unknown))
        if format_version is None:
            raise TypeError(f"TorchXDockerTrigger has no argument {names}")
        self.log.warning("ignoring %s: stored by another release of airflow-torchx", names)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments that Airflow stores."""
        # Only if they are set, so that releases without them read the rest.
        some: dict[str, Any] = (
            {} if self.gpu_demand is None else {"gpu_demand": dict(self.gpu_demand)}
        )
        if self.save_at is not None:
            some["save_at"] = self.save_at
        if self.docker_conn_ids:
            some["docker_conn_ids"] = self.docker_conn_ids
        some |= {
            name: dict(value)
            for name, value in (("usage", self.usage), ("snapshot", self.snapshot))
            if value
        }
        return (
            TRIGGER_CLASS,
            {
                "app_id": self.app_id,
                "app_name": self.app_name,
                "torchx_conn_id": self.torchx_conn_id,
                "target_states": list(self.target_states),
                "role": self.role,
                "min_replicas": self.min_replicas,
                "failed_states": list(self.failed_states),
                "owned": self.owned,
                "delete_on_finish": self.delete_on_finish,
                "deadline": self.deadline,
                "flush_at": self.flush_at,
                "not_before": self.not_before,
                "wait_for_launch": self.wait_for_launch,
                "format_version": FORMAT_VERSION,
                **some,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield the event of the app, or one event for each app of the name that ends."""
        if self.app_id is not None:
            # Not in `__init__`: Airflow renders arguments of `start_from_trigger` after it.
            self.app_id, self.torchx_conn_id, _ = app_ref(self.app_id, self.torchx_conn_id)
        if self.owned and self.task_instance is not None and not _ASKED.is_set():
            _ASKED.set()
            LOOKUPS.submit(contextvars.copy_context().run, self.evidence)
        with self._stack:
            watch = await self._watch(self._stack)
            if self.app_name is not None:
                endings = Endings(self.app_name, self.target_states, self.asset_state_store)
                async for event in endings.events(watch):
                    yield TriggerEvent(event)  # type: ignore[no-untyped-call]
            elif self.app_id is not None:
                event = await self._wait_on(watch, self.app_id)
                await self._hold()
                self._fired = True
                if self.owned:
                    outlive(self._await_resumption(self.app_id))
                yield TriggerEvent(event)  # type: ignore[no-untyped-call]

    async def _wait_on(self, watch: Watch, app_id: str) -> AppEvent:
        if self.gpu_demand is None:
            return await self._wait(app_id).event(watch)
        if self._gpu_wait is None:
            what = f"cannot read what app {app_id!r} needs; another release has stored it."
            return make_event(app_id, "unreachable", None, what)
        return await self._gpu_wait.event(watch)

    @cached_property
    def _gpu_wait(self) -> GpuWait | None:
        demand = GpuDemand.parse(self.gpu_demand)
        if demand is None:
            return None
        return GpuWait(self.app_id or "", demand, self._alarms(), self._is_awaited)

    async def _is_awaited(self) -> bool:
        """Return whether the task is deferred until it has GPUs, as far as is known.

        Once its app was launched, the task has pushed the id, and may be deferred for the app.
        """
        # A RuntimeError without a task instance, as under `dag.test()`.
        with contextlib.suppress(AirflowRuntimeError, RuntimeError):
            state, current = await in_thread(self.evidence)
            return state == "deferred" and current != self.app_id
        return True

    async def _hold(self) -> None:
        """Hold the event back until ``not_before``; a kill in that time still stops the app."""
        if self.not_before is not None and math.isfinite(self.not_before):
            # Bounded, because the clock of the worker that deferred may be wrong.
            await asyncio.sleep(min(self.not_before - time.time(), _MAX_HOLD_S))

    async def cleanup(self) -> None:
        """Release the shared watch."""
        self._stack.close()

    async def on_kill(self) -> None:
        """Stop the app, or leave the queue for GPUs, if a user ended or cleared the task.

        Airflow also calls this when the trigger has moved to another triggerer. Then, and when the
        state of the task is unknown, the app keeps running.
        """
        if self.app_id is None or not self.owned or self._fired:
            return
        # Airflow cancels this method after 30 s, and calls `cleanup` at once.
        await asyncio.shield(outlive(self._stop(self.app_id)))

    async def _stop(self, app_id: str) -> None:
        state, current = await self._through_outage(lambda: in_thread(self.evidence))
        is_waiting = self.gpu_demand is not None
        if not may_stop(app_id, state=state, current_app_id=current):
            what = "is left to its task" if is_waiting else "keeps running"
            self.log.info("app %s %s (task state: %s)", app_id, what, state)
            return
        what = "leaving the queue for GPUs: app" if is_waiting else "stopping app"
        self.log.info("%s %s (task state: %s)", what, app_id, state)
        await self._end(app_id)

    async def _await_resumption(self, app_id: str) -> None:
        """Stop the app if a user ends the task before its next process has started.

        Airflow drops the event of a task that is not deferred any more, and starts no process of a
        task that a user has ended. A process that ends between two looks writes a later snapshot.
        """
        fired_s, pause_s = time.monotonic(), self.first_look_s
        while True:
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LAST_LOOK_S)
            with contextlib.suppress(AirflowRuntimeError):
                state, current = await in_thread(self.evidence)
                if not is_resuming(state, time.monotonic() - fired_s):
                    break
        if not may_stop(app_id, state=state, current_app_id=current):
            return
        latest = await self._through_outage(lambda: in_thread(self.latest))
        if not self.snapshots.is_continued(app_id, latest):
            await self._end(app_id)

    async def _end(self, app_id: str) -> None:
        """Stop the app, and remove its containers unless they are kept; or leave the queue."""
        if self.gpu_demand is not None:
            if self._gpu_wait is not None:
                with contextlib.ExitStack() as stack:
                    await self._gpu_wait.release(await self._watch(stack))
                self.log.info("app %s has left the queue for GPUs", app_id)
            return

        def stop(engine: Engine) -> tuple[DescribeAppResponse | None, str]:
            app, table = stopped(engine, app_id, removes=self.delete_on_finish)
            if app is not None:
                count_end(self.task_instance, self.torchx_conn_id, app)
            return app, table

        with contextlib.ExitStack() as stack, contextlib.suppress(AppNotFoundError):
            watch = await self._watch(stack)
            self.snapshots.stopping()
            app, table = await self._through_outage(lambda: watch.ask(stop))
            # Without last lines: the triggerer does not know which secrets to mask in them.
            self.log.info("cleaned up app %s\n%s", app_id, table)
            await self.snapshots.write_last(app)

    async def _through_outage(self, ask: Callable[[], Awaitable[_Answer]]) -> _Answer:
        """Return an answer of Airflow or of the daemon; repeat the request through an outage."""
        until_s, pause_s = time.monotonic() + self.outage_s, self.first_look_s
        while True:
            try:
                return await ask()
            except (AirflowRuntimeError, EngineError) as error:
                if time.monotonic() > until_s:
                    raise
                self.log.warning("retrying in %g s: %s", pause_s, error)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LAST_LOOK_S)

    async def _watch(self, stack: contextlib.ExitStack) -> Watch:
        """Return the watch on the daemon; it is released when ``stack`` closes."""
        hook = TorchXDockerHook(self.torchx_conn_id, self.docker_conn_ids)
        # Blocking, in a thread: aget_connection() does not work under dag.test().
        return stack.enter_context(self.watches.on_engine(*await in_thread(hook.access)))

    def _wait(self, app_id: str) -> AppWait:
        condition = None
        if not self.owned:
            found = (self.target_states, self.failed_states, self.role, self.min_replicas)
            condition = Condition.parse(*found)
        wait_for = WaitFor(condition=condition, wait_for_launch=self.wait_for_launch)
        usage = UsageHistory.parse(self.usage)
        some = self.snapshots if self.owned and self.snapshot else None
        return AppWait(app_id, wait_for, self._alarms(), usage=usage, snapshots=some)

    @cached_property
    def snapshots(self) -> SnapshotWriter:
        """The snapshots of its app."""
        return SnapshotWriter(self.snapshot or {}, self.push)

    def _alarms(self) -> Alarms:
        return Alarms(
            deadline_s=self.deadline,
            flush_s=self.flush_at,
            save_s=self.save_at,
            outage_s=self.outage_s,
        )

    def _ask_airflow(self) -> tuple[str | None, str | None]:
        return task_state(*self._own_task), xcom(APP_ID_KEY, *self._own_task)

    @property
    def _own_task(self) -> tuple[str, str, str, int | None]:
        if (ti := self.task_instance) is None:
            raise RuntimeError("the trigger has no task instance")
        return ti.dag_id, ti.run_id, ti.task_id, ti.map_index
