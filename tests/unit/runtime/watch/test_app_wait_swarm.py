"""Waiting on an event loop for an app that has no room on its swarm."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from airflow_torchx.core.engine import labels
from airflow_torchx.core.state.trigger_event import WaitFor
from airflow_torchx.runtime import lifecycle
from airflow_torchx.runtime.watch import Watches
from airflow_torchx.runtime.watch.app_wait import Alarms, AppWait
from airflow_torchx.schedulers.swarm_scheduler import SwarmScheduler
from airflow_torchx.specs import AppDef, Resource, Role
from airflow_torchx.testing import FakeNode, FakeSwarm, ManualClock
from tests.unit.runtime.watch.apps import FOREVER, eventually, run, states, threads
from tests.unit.test_fake_swarm import gang, launch

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from airflow_torchx.core.state.trigger_event import AppEvent


class Scene:
    """A wait for ``app``, whose watch has a clock of its own: it looks when a test says so."""

    def __init__(self, cpus: float) -> None:
        self.clock, self.of_watch = ManualClock(), ManualClock()
        self.engine = FakeSwarm(
            nodes=[FakeNode("box1", cpus=cpus)],
            images=["busybox"],
            programs=FOREVER,
            clock=self.clock,
            sleep=lambda seconds: time.sleep(min(seconds, 0.01)),
        )
        self.scheduler = SwarmScheduler("test", self.engine, terminal=False)
        self._watches = Watches(linger_s=0, clock=self.of_watch)

    def play(self, scenario: Callable[[asyncio.Task[AppEvent]], Awaitable[None]]) -> AppEvent:
        """Wait for the app beside a scenario, then cancel it, and return the event of the wait."""

        async def wait() -> AppEvent:
            with self._watches.on("swarm", lambda: self.engine) as watch:
                return await AppWait("app", WaitFor(), Alarms(), self.clock).event(watch)

        async def both() -> AppEvent:
            waiting = asyncio.create_task(wait())
            await scenario(waiting)
            lifecycle.cancel(self.engine, "app")
            await self.until(waiting.done, watch_s=0.1)
            return waiting.result()

        event: AppEvent = run(both(), self.clock)
        run(eventually(lambda: not threads(), self.of_watch), self.of_watch)
        return event

    async def until(self, happened: Callable[[], object], watch_s: float = 0.0) -> None:
        """Let time pass until something happened; for the watch, so much at each step."""
        while not happened():
            self.clock.advance(0.1)
            self.of_watch.advance(watch_s)
            await asyncio.get_running_loop().run_in_executor(None, time.sleep, 0.002)

    async def attempts(self, count: int) -> None:
        """Wait for so many attempts to place the app."""
        until = self.engine.calls.count("place") + count
        await self.until(lambda: self.engine.calls.count("place") >= until)


def test_an_app_that_waits_is_not_looked_at() -> None:
    """It is tried again and again, and looked at only when why it waits changes."""
    scene = Scene(cpus=1)
    launch(scene.scheduler, "first", gang(1))
    launch(scene.scheduler, "app", gang(1))
    looks = []

    async def scenario(_: object) -> None:
        await scene.attempts(3)
        for _ in range(2):
            before = scene.engine.calls.count("rows")
            await scene.attempts(5)
            looks.append(scene.engine.calls.count("rows") - before)
            scene.engine.lose("box1")
            await scene.attempts(3)

    scene.play(scenario)

    assert [0, 0] == looks


def test_an_app_starts_once_there_is_room() -> None:
    """The process that waits starts it, and goes on to wait for its end."""
    scene = Scene(cpus=1)
    launch(scene.scheduler, "first", gang(1))
    launch(scene.scheduler, "app", gang(1))

    async def scenario(waiting: asyncio.Task[AppEvent]) -> None:
        await scene.attempts(4)
        assert ["PENDING"] == states(scene.engine, "app")
        lifecycle.cancel(scene.engine, "first")
        await scene.until(lambda: ["RUNNING"] == states(scene.engine, "app"))
        assert not waiting.done()

    event = scene.play(scenario)

    assert ("reached", "CANCELLED") == (event["reason"], event["state"])


def test_an_app_that_is_cancelled_while_it_waits() -> None:
    """An attempt finds that another client has cancelled it, without an event."""
    scene = Scene(cpus=1)
    launch(scene.scheduler, "first", gang(1))
    launch(scene.scheduler, "app", gang(1))

    async def scenario(_: object) -> None:
        await scene.attempts(4)

    event = scene.play(scenario)

    assert ("reached", "CANCELLED") == (event["reason"], event["state"])


def test_a_failure_of_a_part_ends_the_wait_of_the_rest() -> None:
    """What the watch sees of an app meanwhile counts, although why it waits is the same."""
    scene = Scene(cpus=2)
    launch(scene.scheduler, "first", gang(1))
    # The end of this one gives no room away.
    small = Role("small", "busybox", entrypoint="sh", resource=Resource(cpu=0, gpu=0, memMB=-1))
    (large,) = gang(1, cpu=2).roles
    launch(scene.scheduler, "app", AppDef("gang", roles=[small, large]))
    for one in scene.engine.rows({labels.APP_ID: "app"}):
        scene.engine.start(one.id)

    async def scenario(waiting: asyncio.Task[AppEvent]) -> None:
        await scene.attempts(3)
        assert not waiting.done()
        scene.engine.end("small/0", 7)
        await scene.until(waiting.done, watch_s=0.1)

    event = scene.play(scenario)

    assert ("reached", "FAILED") == (event["reason"], event["state"])
