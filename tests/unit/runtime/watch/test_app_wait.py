"""Waiting for one app on an event loop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from airflow_torchx.core.state.condition import Condition
from airflow_torchx.core.state.trigger_event import WaitFor
from airflow_torchx.errors import EngineError
from airflow_torchx.runtime import lifecycle
from airflow_torchx.runtime.watch import Watches
from airflow_torchx.runtime.watch.app_wait import Alarms, AppWait
from airflow_torchx.testing import FakeEngine, ManualClock, Program
from tests.unit.runtime.watch.apps import FOREVER, eventually, launch, run, settled, states, threads

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from airflow_torchx.core.state.trigger_event import AppEvent

END = WaitFor()
SUCCESS = WaitFor(condition=Condition.parse("SUCCEEDED", "FAILED,CANCELLED"))


@pytest.fixture
def clock() -> ManualClock:
    """Return the time of the watch, of the daemon and of the event loop."""
    return ManualClock()


@pytest.fixture
def engine(clock: ManualClock) -> FakeEngine:
    """Return a fake daemon whose containers run until they are stopped."""
    return FakeEngine(images=["busybox"], programs=FOREVER, clock=clock)


class Scene:
    """Waits for apps of a fake daemon, for which time passes only where a test says so.

    Args:
        engine: the daemon.
        clock: of all that there is.
    """

    def __init__(self, engine: FakeEngine, clock: ManualClock) -> None:
        self._engine = engine
        self.clock = clock
        self._watches = Watches(linger_s=0, clock=clock)

    async def wait(
        self,
        wait_for: WaitFor = END,
        alarms: Alarms | None = None,
        app_id: str = "app-1",
    ) -> AppEvent:
        """Wait for an app."""
        with self._watches.on("d", lambda: self._engine) as watch:
            return await AppWait(app_id, wait_for, alarms or Alarms(), self.clock).event(watch)

    async def watched(self) -> None:
        """Wait until the app was looked at."""
        before = self._engine.calls.count("rows")
        await eventually(lambda: self._engine.calls.count("rows") > before, self.clock)
        await settled(self.clock)

    def fired(self, scenario: Coroutine[Any, Any, AppEvent]) -> tuple[str, str | None]:
        """Return reason and state of the event in which a coroutine ends; time passes meanwhile."""
        event = self.event(scenario)
        return event["reason"], event["state"]

    def event(self, scenario: Coroutine[Any, Any, AppEvent]) -> AppEvent:
        """Return the event in which a coroutine ends; time passes meanwhile."""

        async def ended() -> AppEvent:
            task = asyncio.ensure_future(scenario)
            await eventually(task.done, self.clock)
            return task.result()

        event: AppEvent = run(ended(), self.clock)
        run(eventually(lambda: not threads(), self.clock), self.clock)
        return event


@pytest.fixture
def scene(engine: FakeEngine, clock: ManualClock) -> Scene:
    """Return what waits for apps of the fake daemon."""
    return Scene(engine, clock)


def test_end(engine: FakeEngine, scene: Scene) -> None:
    """The end of every replica ends the wait of the app's owner."""
    engine.programs = Program(runs_for_s=0.2)
    launch(engine, replicas=2)

    assert ("reached", "SUCCEEDED") == scene.fired(scene.wait())


def test_fail_fast(engine: FakeEngine, scene: Scene) -> None:
    """A lost replica ends the others, and only then the wait."""
    engine.programs = {"trainer": FOREVER, "trainer/1": Program(exit_code=7, runs_for_s=0.1)}
    launch(engine, replicas=3)

    event = scene.event(scene.wait())

    assert ("reached", "FAILED") == (event["reason"], event["state"])
    assert "app 'app-1' is FAILED: trainer/1 failed first: exit code 7." == event["message"]
    assert ["CANCELLED", "FAILED", "CANCELLED"] == states(engine)


def test_wait_all(engine: FakeEngine, scene: Scene) -> None:
    """Under that policy nobody is stopped."""
    engine.programs = {"trainer": Program(runs_for_s=0.5), "trainer/1": Program(exit_code=7)}
    launch(engine, replicas=3, failure_policy="wait_all")

    assert ("reached", "FAILED") == scene.fired(scene.wait())
    assert "stop" not in engine.calls


def test_a_stop_is_tried_again(engine: FakeEngine, scene: Scene) -> None:
    """A daemon that refuses to stop the others is asked once more."""
    engine.programs = {"trainer": FOREVER, "trainer/1": Program(exit_code=7)}
    launch(engine, replicas=2)
    engine.fail_next("rename", EngineError("not now"))

    assert ("reached", "FAILED") == scene.fired(scene.wait())
    assert ["CANCELLED", "FAILED"] == states(engine)


def test_a_long_stop_holds_up_nobody(engine: FakeEngine, scene: Scene) -> None:
    """While one app's replicas have their grace period, another app's end is seen."""
    engine.programs = lambda spec: (
        Program(exit_code=7)
        if spec.name == "deaf-trainer-1"
        else Program(runs_for_s=None, on_term="ignore")
        if spec.name.startswith("deaf")
        else FOREVER
    )
    launch(engine, "deaf", replicas=2, stop_grace_s=3)
    launch(engine, "quick")

    async def scenario() -> AppEvent:
        slow = asyncio.create_task(scene.wait(app_id="deaf"))
        await eventually(lambda: "stop" in engine.calls, scene.clock)
        engine.end("quick-trainer-0")
        assert "reached" == (await scene.wait(app_id="quick"))["reason"]
        assert not slow.done()
        return await slow

    assert ("reached", "FAILED") == scene.fired(scenario())


def test_an_observer_stops_nobody(engine: FakeEngine, scene: Scene) -> None:
    """A failed state ends its wait, and the app's other replicas go on."""
    engine.programs = {"trainer": FOREVER, "trainer/1": Program(exit_code=7, runs_for_s=0.2)}
    launch(engine, replicas=2)

    assert ("failed", "FAILED") == scene.fired(scene.wait(SUCCESS))
    assert ["RUNNING", "FAILED"] == states(engine)


def test_a_state_of_life(engine: FakeEngine, scene: Scene) -> None:
    """A wait may end at RUNNING."""
    launch(engine)
    wait_for = WaitFor(condition=Condition.parse("RUNNING"))

    assert ("reached", "RUNNING") == scene.fired(scene.wait(wait_for))


def test_gone(engine: FakeEngine, scene: Scene) -> None:
    """An app that was never there, or is removed meanwhile, ends the wait."""
    assert ("gone", None) == scene.fired(scene.wait())

    async def removed() -> AppEvent:
        launch(engine)
        waiting = asyncio.create_task(scene.wait())
        await scene.watched()
        lifecycle.delete(engine, "app-1")
        return await waiting

    assert scene.fired(removed()) in {("gone", None), ("reached", "CANCELLED")}


def test_an_app_that_appears(engine: FakeEngine, scene: Scene) -> None:
    """It may be waited for."""
    wait_for = WaitFor(condition=Condition.parse("RUNNING"), wait_for_launch=True)

    async def scenario() -> AppEvent:
        waiting = asyncio.create_task(scene.wait(wait_for))
        await scene.watched()
        launch(engine)
        return await waiting

    assert ("reached", "RUNNING") == scene.fired(scenario())


@pytest.mark.parametrize("reason", ["timeout", "flush"])
def test_a_time_that_comes(engine: FakeEngine, scene: Scene, reason: str) -> None:
    """Then it is told how the app is, which goes on."""
    launch(engine)
    at_s = scene.clock() + 10
    alarms = Alarms(**{"deadline_s" if reason == "timeout" else "flush_s": at_s})

    assert (reason, "RUNNING") == scene.fired(scene.wait(END, alarms))
    assert at_s <= scene.clock() < at_s + 1
    assert "stop" not in engine.calls


@pytest.mark.parametrize("field", ["deadline_s", "flush_s"])
def test_a_time_that_is_past(engine: FakeEngine, scene: Scene, field: str) -> None:
    """The app is looked at first: an end goes before the time."""
    engine.programs = Program()
    launch(engine)

    assert ("reached", "SUCCEEDED") == scene.fired(scene.wait(END, Alarms(**{field: 1.0})))


def test_the_deadline_goes_first(engine: FakeEngine, scene: Scene) -> None:
    """Of two times that have come."""
    launch(engine)

    assert ("timeout", "RUNNING") == scene.fired(
        scene.wait(END, Alarms(deadline_s=2.0, flush_s=1.0))
    )


def test_a_daemon_that_stays_away(engine: FakeEngine, scene: Scene) -> None:
    """It is waited for with patience, which ends."""
    launch(engine)

    async def scenario() -> AppEvent:
        waiting = asyncio.create_task(scene.wait(END, Alarms(outage_s=10)))
        await scene.watched()
        engine.down = True
        return await waiting

    event = scene.event(scenario())

    assert ("unreachable", "RUNNING") == (event["reason"], event["state"])
    assert "the fake one is down" in event["message"]


def test_a_daemon_that_comes_back(engine: FakeEngine, scene: Scene) -> None:
    """The patience begins anew with each outage."""
    launch(engine)

    async def scenario() -> AppEvent:
        waiting = asyncio.create_task(scene.wait(END, Alarms(outage_s=30)))
        await scene.watched()
        for _ in range(2):
            engine.down = True
            await asyncio.sleep(20)
            engine.down = False
            await asyncio.sleep(12)
        engine.end("trainer/0")
        return await waiting

    assert ("reached", "SUCCEEDED") == scene.fired(scenario())
