"""Watches on fake daemons, and what is seen through them."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_torchx.core.plan.job_plan import Launch, plan
from airflow_torchx.core.plan.options import Opts
from airflow_torchx.core.state.describe import replicas_of
from airflow_torchx.runtime import lifecycle
from airflow_torchx.runtime.watch import AppSnapshot
from airflow_torchx.testing import Program
from tests.unit.apps import app

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.runtime.watch import Mailbox, Notification
    from airflow_torchx.specs import AppState

FOREVER = Program(runs_for_s=None)
PATIENCE_S = 20.0


def launch(
    engine: Engine,
    app_id: str = "app-1",
    *,
    replicas: int = 1,
    name: str = "app",
    **options: object,
) -> str:
    """Launch an app of one role, and return its id."""
    launched = Launch(app_id=app_id, handle=f"t://t/{app_id}", launch_id=app_id, environ={})
    named = replace(app(replicas), name=name)
    lifecycle.launch(engine, plan(named, Opts.parse(options), launched))
    return app_id


async def until(mailbox: Mailbox, happened: Callable[[Notification], bool]) -> Notification:
    """Read until something is seen, but not for ever."""
    give_up_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < give_up_s:
        notification = await mailbox.next(1.0)
        if notification is not None and happened(notification):
            return notification
    raise AssertionError("it was not seen")


def shows(state: AppState | None) -> Callable[[Notification], bool]:
    """Return what tells whether an app is in this state, or gone."""

    def told(notification: Notification) -> bool:
        if not isinstance(notification, AppSnapshot):
            return False
        return state is (None if notification.app is None else notification.app.state)

    return told


async def eventually(happened: Callable[[], bool]) -> None:
    """Wait until something happened, but not for ever."""
    give_up_s = time.monotonic() + PATIENCE_S
    while not happened():
        assert time.monotonic() < give_up_s
        await asyncio.sleep(0.01)


def threads() -> list[str]:
    """Return the names of the threads of watches."""
    return [thread.name for thread in threading.enumerate() if "torchx-watch" in thread.name]


def run(scenario: Any) -> Any:  # noqa: ANN401 - what a coroutine returns
    """Run a coroutine, but not for ever."""
    return asyncio.run(asyncio.wait_for(scenario, 60))


def states(engine: Engine, app_id: str = "app-1") -> list[str]:
    """Return the states of an app's replicas."""
    found = lifecycle.observe(engine, app_id)
    return [] if found is None else [replica.state.name for replica in replicas_of(found)]
