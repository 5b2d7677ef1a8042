"""Watches on fake daemons, and what they report."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from airflow_torchx.core.plan.job_plan import LaunchContext, plan
from airflow_torchx.core.plan.options import Opts
from airflow_torchx.core.state.describe import replicas_of
from airflow_torchx.runtime import launching, lifecycle
from airflow_torchx.runtime.watch import AppSnapshot
from airflow_torchx.testing import Program
from tests.unit.apps import app

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.runtime.watch import Mailbox, Notification
    from airflow_torchx.specs import AppState
    from airflow_torchx.testing import ManualClock

FOREVER = Program(runs_for_s=None)
#: How much time passes at once.
_STEP_S: Final = 0.1
#: Of real time, between two looks at what the threads of a watch have done.
_MOMENT_S: Final = 0.002


def launch(
    engine: Engine,
    app_id: str = "app-1",
    *,
    replicas: int = 1,
    name: str = "app",
    **options: object,
) -> str:
    """Launch an app of one role, and return its id."""
    launched = LaunchContext(app_id=app_id, handle=f"t://t/{app_id}", launch_id=app_id, environ={})
    named = replace(app(replicas), name=name)
    launching.launch(engine, plan(named, Opts.parse(options), launched))
    return app_id


async def until(
    mailbox: Mailbox, happened: Callable[[Notification], bool], clock: ManualClock
) -> Notification:
    """Read until a notification matches; time advances while nothing arrives."""
    while True:
        reading = asyncio.ensure_future(mailbox.next())
        await eventually(reading.done, clock)
        notification = reading.result()
        if notification is not None and happened(notification):
            return notification


def shows(state: AppState | None) -> Callable[[Notification], bool]:
    """Return a predicate for a snapshot of an app in this state; None for gone."""

    def told(notification: Notification) -> bool:
        if not isinstance(notification, AppSnapshot):
            return False
        return state is (None if notification.app is None else notification.app.state)

    return told


async def eventually(happened: Callable[[], object], clock: ManualClock) -> None:
    """Wait until a condition holds; time advances while the watch is idle."""
    await _moment()
    while not happened():
        if clock.parked or not threads():
            clock.advance(_STEP_S)
        await _moment()


async def now(happened: Callable[[], object]) -> None:
    """Wait until a condition holds; time stands still."""
    while not happened():
        await _moment()


async def settled(clock: ManualClock) -> None:
    """Wait until the watch is idle and its mailbox is read; time stands still."""
    while not clock.parked:
        await _moment()
    await _moment()


async def _moment() -> None:
    """Let threads, then the event loop, run for a moment of real time."""
    await asyncio.get_running_loop().run_in_executor(None, time.sleep, _MOMENT_S)
    for _ in range(10):
        await asyncio.sleep(0)


def threads() -> list[str]:
    """Return the names of all watch threads."""
    return [thread.name for thread in threading.enumerate() if "torchx-watch" in thread.name]


class _Loop(asyncio.SelectorEventLoop):
    """An event loop on a manual clock, which only its coroutines may advance."""

    def __init__(self, clock: ManualClock) -> None:
        self._manual = clock
        super().__init__()

    def time(self) -> float:
        """Return the time."""
        return self._manual()


def run(scenario: Any, clock: ManualClock) -> Any:  # noqa: ANN401 - what a coroutine returns
    """Run a coroutine on an event loop with this clock."""
    with asyncio.Runner(loop_factory=lambda: _Loop(clock)) as runner:
        return runner.run(scenario)


def states(engine: Engine, app_id: str = "app-1") -> list[str]:
    """Return the states of an app's replicas."""
    found = lifecycle.observe(engine, app_id)
    return [] if found is None else [replica.state.name for replica in replicas_of(found)]
