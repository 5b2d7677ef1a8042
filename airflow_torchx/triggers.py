"""`TorchXDockerTrigger`: waits for an app in Airflow's triggerer, without a worker."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from airflow_torchx.airflow_compat import task_state, xcom
from airflow_torchx.core.state.app_ref import app_ref
from airflow_torchx.core.state.condition import Condition
from airflow_torchx.core.state.trigger_event import FORMAT_VERSION, TRIGGER_CLASS, WaitFor
from airflow_torchx.core.task.shutdown import may_stop
from airflow_torchx.errors import AppNotFoundError
from airflow_torchx.hooks import TorchXDockerHook
from airflow_torchx.runtime import lifecycle
from airflow_torchx.runtime.watch import Watches
from airflow_torchx.runtime.watch.app_endings import Endings
from airflow_torchx.runtime.watch.app_wait import OUTAGE_S, Alarms, AppWait

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Sequence

    from airflow_torchx.core.connection.endpoint import Endpoint
    from airflow_torchx.runtime.watch import Watch

_Answer = TypeVar("_Answer")

#: States in which an app has ended.
ENDED: Final = ("SUCCEEDED", "FAILED", "CANCELLED")
#: XCom key under which every try of a task names its app.
APP_ID_KEY: Final = "app_id"

#: All triggers of this process share them.
_WATCHES: Final = Watches()
# Airflow's own look-ups block; the default threads of the loop belong to other triggers too.
_LOOKUPS: Final = ThreadPoolExecutor(4, "torchx-airflow")
#: Set when a trigger of this process has asked for its task. A triggerer's first such question may
#: take half a minute (37 s were seen under load), and a trigger that is killed has that once.
_ASKED: Final = threading.Event()
# The longest time for which an event is kept back.
_MAX_HOLD_S: Final = 60.0
#: What goes on although Airflow has given its trigger up.
_STOPPING: Final[set[asyncio.Task[None]]] = set()


class TorchXDockerTrigger(BaseEventTrigger):
    """Fires when an app has come as far as somebody waits for.

    All triggers of a triggerer share one stream of events for each daemon, and none of them polls.
    The event is a mapping with ``app_id``, ``reason`` (see `core.state.trigger_event.Reason`),
    ``state`` and ``message``.

    Args:
        app_id: the app to wait for, or its handle; fires once.
        app_name: instead, every app of this name: fires for each one that ends in a state of
            ``target_states``, and never finishes. That is for an ``AssetWatcher``.
        torchx_conn_id: connection to the daemon; None for the one that the docker command line
            would use.
        target_states: names of the states to wait for.
        role: only this role's replicas count.
        min_replicas: so many replicas in a target state are enough.
        failed_states: names of the states that end the wait as a failure.
        owned: the app is the task's own: wait until every replica has ended, stop the others when
            the failure policy says so, and stop the app when a user kills the task. Without it
            nothing is ever stopped.
        delete_on_finish: and remove its containers then, since nobody comes back for them.
        deadline: at this time, in seconds since 1970, it fires ``timeout``.
        flush_at: at this time it fires ``flush``.
        not_before: it fires nothing before this time, in seconds since 1970, but for a minute at
            most; None fires at once. See `task.deferral.not_before`.
        wait_for_launch: an app that is not there is waited for; otherwise it is ``gone``.
        format_version: stored by `serialize`. With it, unknown arguments are ignored: Airflow makes
            a trigger of what another release stored, before an upgrade or a downgrade.

    Raises:
        TypeError: arguments are unknown, or both or neither of ``app_id`` and ``app_name`` are set.
    """

    supports_triggerer_queue = True

    def __init__(  # noqa: PLR0913 - the interface of three users
        self,
        *,
        app_id: str | None = None,
        app_name: str | None = None,
        torchx_conn_id: str | None = None,
        target_states: Sequence[str] = ENDED,
        role: str | None = None,
        min_replicas: int | None = None,
        failed_states: Sequence[str] = (),
        owned: bool = False,
        delete_on_finish: bool = False,
        deadline: float | None = None,
        flush_at: float | None = None,
        not_before: float | None = None,
        wait_for_launch: bool = False,
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
        self.target_states = list(target_states)
        self.role = role
        self.min_replicas = min_replicas
        self.failed_states = list(failed_states)
        self.owned = owned
        self.delete_on_finish = delete_on_finish
        self.deadline = deadline
        self.flush_at = flush_at
        self.not_before = not_before
        self.wait_for_launch = wait_for_launch
        #: How long the daemon may be down, in seconds.
        self.outage_s = OUTAGE_S
        #: The watches to share.
        self.watches = _WATCHES
        #: Returns state and app id of the task instance, as Airflow knows them; it may block.
        self.evidence: Callable[[], tuple[str | None, str | None]] = self._ask_airflow
        self._held = contextlib.ExitStack()
        self._fired = False

    def _ignore(self, unknown: Collection[str], format_version: int | None) -> None:
        """Accept unknown arguments only if they were stored."""
        names = ", ".join(sorted(unknown))
        if format_version is None:
            raise TypeError(f"TorchXDockerTrigger has no argument {names}")
        self.log.warning("ignoring %s: stored by another release of airflow-torchx", names)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what makes this trigger again elsewhere."""
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
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield the event of the app, or one for each app of the name that ends."""
        if self.app_id is not None:
            # Not before: what `start_from_trigger` hands over is rendered after `__init__`.
            self.app_id, self.torchx_conn_id = app_ref(self.app_id, self.torchx_conn_id)
        if self.owned and self.task_instance is not None and not _ASKED.is_set():
            _ASKED.set()
            _LOOKUPS.submit(contextvars.copy_context().run, self.evidence)
        with self._held:
            watch = await self._watch(self._held)
            if self.app_name is not None:
                endings = Endings(self.app_name, self.target_states, self.asset_state_store)
                async for event in endings.events(watch):
                    yield TriggerEvent(event)  # type: ignore[no-untyped-call]
            elif self.app_id is not None:
                event = await self._wait(self.app_id).event(watch)
                await self._hold()
                self._fired = True
                yield TriggerEvent(event)  # type: ignore[no-untyped-call]

    async def _hold(self) -> None:
        """Keep the event back until ``not_before``; a kill still stops the app meanwhile."""
        if self.not_before is not None:
            # The clock of the worker that deferred may be wrong.
            await asyncio.sleep(min(self.not_before - time.time(), _MAX_HOLD_S))

    async def cleanup(self) -> None:
        """Give the share in the watch back."""
        self._held.close()

    async def on_kill(self) -> None:
        """Stop the app because a user marked or cleared the task.

        Airflow calls this also when another triggerer has taken the trigger over; then, and when
        Airflow does not tell the state of the task, the app is left alone.
        """
        if self.app_id is None or not self.owned or self._fired:
            return
        # Airflow cancels this after 30 s, and calls `cleanup` at once.
        stopping = asyncio.create_task(self._stop(self.app_id))
        _STOPPING.add(stopping)
        stopping.add_done_callback(_STOPPING.discard)
        await asyncio.shield(stopping)

    async def _stop(self, app_id: str) -> None:
        state, current = await _in_thread(self.evidence)
        if not may_stop(app_id, state=state, current_app_id=current):
            self.log.info("app %s is left alone: its task is %s", app_id, state)
            return
        self.log.info("stopping app %s: its task is %s", app_id, state)
        end = lifecycle.delete if self.delete_on_finish else lifecycle.cancel
        with contextlib.ExitStack() as held, contextlib.suppress(AppNotFoundError):
            watch = await self._watch(held)
            await watch.ask(partial(end, app_id=app_id))

    async def _watch(self, held: contextlib.ExitStack) -> Watch:
        """Return the watch on the daemon, until ``held`` is closed."""
        from airflow_torchx.docker_engine import DockerEngine

        endpoint = await _in_thread(self._endpoint)
        return held.enter_context(
            self.watches.on(endpoint, partial(DockerEngine.connect, endpoint))
        )

    def _endpoint(self) -> Endpoint:
        # Blocking, in a thread: aget_connection() does not work under dag.test().
        return TorchXDockerHook(self.torchx_conn_id).endpoint()

    def _wait(self, app_id: str) -> AppWait:
        condition = None
        if not self.owned:
            condition = Condition.parse(
                self.target_states, self.failed_states, self.role, self.min_replicas
            )
        alarms = Alarms(deadline_s=self.deadline, flush_s=self.flush_at, outage_s=self.outage_s)
        return AppWait(
            app_id, WaitFor(condition=condition, wait_for_launch=self.wait_for_launch), alarms
        )

    def _ask_airflow(self) -> tuple[str | None, str | None]:
        ti = self.task_instance
        if ti is None:
            raise RuntimeError("this trigger belongs to no task instance")
        asked = (ti.dag_id, ti.run_id, ti.task_id, ti.map_index)
        return task_state(*asked), xcom(APP_ID_KEY, *asked)


async def _in_thread(call: Callable[[], _Answer]) -> _Answer:
    """Make a call of Airflow's that blocks, with the context that routes its log lines."""
    context = contextvars.copy_context()
    return await asyncio.wrap_future(_LOOKUPS.submit(context.run, call))
