"""Waiting for one app on an event loop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from airflow_torchx.core.state.condition import Condition
from airflow_torchx.core.state.trigger_event import WaitFor
from airflow_torchx.errors import EngineError
from airflow_torchx.runtime import launching, lifecycle
from airflow_torchx.runtime.watch import Watches
from airflow_torchx.runtime.watch.app_wait import Alarms, AppWait
from airflow_torchx.specs import AppDef, Role
from airflow_torchx.testing import FakeEngine, ManualClock, Program
from tests.unit.apps import app, planned
from tests.unit.runtime.watch.apps import (
    FOREVER,
    eventually,
    launch,
    now,
    run,
    settled,
    states,
    threads,
)

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from airflow_torchx.core.state.trigger_event import AppEvent

END = WaitFor()
SUCCESS = WaitFor(condition=Condition.parse("SUCCEEDED", "FAILED,CANCELLED"))


@pytest.fixture
def clock() -> ManualClock:
    """Return the clock of the watch, of the daemon and of the event loop."""
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
        """Wait until the watch has looked at the app."""
        before = self._engine.calls.count("rows")
        await eventually(lambda: self._engine.calls.count("rows") > before, self.clock)
        await settled(self.clock)

    def fired(self, scenario: Coroutine[Any, Any, AppEvent]) -> tuple[str, str | None]:
        """Return reason and state of the event of a coroutine; time advances meanwhile."""
        event = self.event(scenario)
        return event["reason"], event["state"]

    def event(self, scenario: Coroutine[Any, Any, AppEvent]) -> AppEvent:
        """Return the event of a coroutine; time advances meanwhile."""

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
    """The end of every replica ends an owner's wait."""
    engine.programs = Program(runs_for_s=0.2)
    launch(engine, replicas=2)

    assert ("reached", "SUCCEEDED") == scene.fired(scene.wait())


def test_restart(engine: FakeEngine, scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    """A trigger restarts an app itself, and fires when the last round has ended."""
    caplog.set_level("INFO")
    engine.programs = lambda spec: Program(
        exit_code=int(spec.env["TORCHX_RESTART"] != "2"), runs_for_s=0.3
    )
    launching.launch(engine, planned(app(2, max_retries=2)))

    assert ("reached", "SUCCEEDED") == scene.fired(scene.wait())
    assert "restarting the app, restart 2 of 2" in caplog.text
    assert 6 == len(engine.rows({}))


def test_a_sensor_does_not_restart(engine: FakeEngine, scene: Scene, clock: ManualClock) -> None:
    """It waits for the process that launched the app, and times out without one."""
    engine.programs = Program(exit_code=1)
    launching.launch(engine, planned(app(1, max_retries=2)))

    event = scene.fired(scene.wait(SUCCESS, Alarms(deadline_s=clock() + 30)))

    assert ("timeout", "PENDING") == event
    assert 1 == len(engine.rows({}))


def test_fail_fast(engine: FakeEngine, scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    """Policy ``fail_fast`` stops the other replicas, says why, and then ends the wait."""
    caplog.set_level("INFO")
    engine.programs = {"trainer": FOREVER, "trainer/1": Program(exit_code=7, runs_for_s=0.1)}
    launch(engine, replicas=3)

    event = scene.event(scene.wait())

    assert "replica trainer/1 failed; stopping the other replicas" in caplog.text
    assert ("reached", "FAILED") == (event["reason"], event["state"])
    assert "app 'app-1' is FAILED: trainer/1 failed first: exit code 7." == event["message"]
    assert ["CANCELLED", "FAILED", "CANCELLED"] == states(engine)


def test_wait_all(engine: FakeEngine, scene: Scene) -> None:
    """Policy ``wait_all`` stops nothing."""
    engine.programs = {"trainer": Program(runs_for_s=0.5), "trainer/1": Program(exit_code=7)}
    launch(engine, replicas=3, failure_policy="wait_all")

    assert ("reached", "FAILED") == scene.fired(scene.wait())
    assert "stop" not in engine.calls


def test_auxiliary_roles(
    engine: FakeEngine, scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    """The wait stops auxiliary roles once the essential ones have ended, then ends itself."""
    caplog.set_level("INFO")
    engine.programs = {"trainer": Program(runs_for_s=0.2), "ps": FOREVER}
    roles = [Role(name, "busybox", entrypoint="run") for name in ("trainer", "ps")]
    plan = planned(AppDef("app", roles), essential_roles=["trainer"], auxiliary_grace_s=1)
    launching.launch(engine, plan)

    assert ("reached", "SUCCEEDED") == scene.fired(scene.wait())
    assert "every essential replica has ended; stopping ps" in caplog.text
    assert ["CANCELLED", "SUCCEEDED"] == sorted(states(engine))


def test_a_stop_is_tried_again(engine: FakeEngine, scene: Scene) -> None:
    """A stop that the daemon refuses is retried."""
    engine.programs = {"trainer": FOREVER, "trainer/1": Program(exit_code=7)}
    launch(engine, replicas=2)
    engine.fail_next("rename", EngineError("not now"))

    assert ("reached", "FAILED") == scene.fired(scene.wait())
    assert ["CANCELLED", "FAILED"] == states(engine)


def test_a_long_stop_does_not_delay_others(engine: FakeEngine, scene: Scene) -> None:
    """During the grace period of one app, the end of another is reported."""
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


def test_replicas_are_asked_to_save(engine: FakeEngine, scene: Scene) -> None:
    """Replicas get the checkpoint signal at its time, once, also if the daemon refuses it first."""
    engine.programs = Program(runs_for_s=None, on_signal={"SIGUSR1": 0})
    launch(engine, replicas=2, checkpoint_signal="SIGUSR1")
    engine.fail_next("rename", EngineError("not now"), on="trainer/0")
    began_s = scene.clock()
    alarms = Alarms(save_s=began_s + 30, deadline_s=began_s + 150)

    assert ("reached", "SUCCEEDED") == scene.fired(scene.wait(alarms=alarms))
    assert [("SIGUSR1",)] * 2 == [*engine.signals().values()]
    assert 30 <= scene.clock() - began_s < 150


def test_an_observer_stops_nothing(engine: FakeEngine, scene: Scene) -> None:
    """A failed state ends an observer's wait and leaves the other replicas running."""
    engine.programs = {"trainer": FOREVER, "trainer/1": Program(exit_code=7, runs_for_s=0.2)}
    launch(engine, replicas=2)

    assert ("failed", "FAILED") == scene.fired(scene.wait(SUCCESS))
    assert ["RUNNING", "FAILED"] == states(engine)


def test_a_live_state(engine: FakeEngine, scene: Scene) -> None:
    """A wait can end at RUNNING."""
    launch(engine)
    wait_for = WaitFor(condition=Condition.parse("RUNNING"))

    assert ("reached", "RUNNING") == scene.fired(scene.wait(wait_for))


def test_gone(engine: FakeEngine, scene: Scene) -> None:
    """A missing or removed app ends the wait."""
    assert ("gone", None) == scene.fired(scene.wait())

    async def removed() -> AppEvent:
        launch(engine)
        waiting = asyncio.create_task(scene.wait())
        await scene.watched()
        lifecycle.delete(engine, "app-1")
        return await waiting

    assert scene.fired(removed()) in {("gone", None), ("reached", "CANCELLED")}


def test_wait_for_launch(engine: FakeEngine, scene: Scene) -> None:
    """A wait with wait_for_launch waits for an app that is not there yet."""
    wait_for = WaitFor(condition=Condition.parse("RUNNING"), wait_for_launch=True)

    async def scenario() -> AppEvent:
        waiting = asyncio.create_task(scene.wait(wait_for))
        await scene.watched()
        launch(engine)
        return await waiting

    assert ("reached", "RUNNING") == scene.fired(scenario())


@pytest.mark.parametrize("reason", ["timeout", "flush"])
def test_an_alarm(engine: FakeEngine, scene: Scene, reason: str) -> None:
    """An alarm reports the state of the app and leaves it running."""
    launch(engine)
    at_s = scene.clock() + 10
    alarms = Alarms(**{"deadline_s" if reason == "timeout" else "flush_s": at_s})

    async def scenario() -> AppEvent:
        before = engine.calls.count("rows")
        waiting = asyncio.create_task(scene.wait(END, alarms))
        await now(lambda: engine.calls.count("rows") > before)
        assert not waiting.done()
        # At once: the time that passes meanwhile depends on how busy the machine is.
        scene.clock.advance(10)
        return await waiting

    assert (reason, "RUNNING") == scene.fired(scenario())
    assert "stop" not in engine.calls


@pytest.mark.parametrize("field", ["deadline_s", "flush_s"])
def test_an_alarm_in_the_past(engine: FakeEngine, scene: Scene, field: str) -> None:
    """With an alarm in the past the app is looked at first, so its end wins."""
    engine.programs = Program()
    launch(engine)

    assert ("reached", "SUCCEEDED") == scene.fired(scene.wait(END, Alarms(**{field: 1.0})))


def test_the_deadline_goes_first(engine: FakeEngine, scene: Scene) -> None:
    """Of two alarms that are due the deadline wins."""
    launch(engine)

    assert ("timeout", "RUNNING") == scene.fired(
        scene.wait(END, Alarms(deadline_s=2.0, flush_s=1.0))
    )


def test_a_daemon_that_stays_away(engine: FakeEngine, scene: Scene) -> None:
    """An outage longer than the tolerance ends the wait."""
    launch(engine)

    async def scenario() -> AppEvent:
        waiting = asyncio.create_task(scene.wait(END, Alarms(outage_s=10)))
        await scene.watched()
        engine.down = True
        return await waiting

    event = scene.event(scenario())

    assert ("unreachable", "RUNNING") == (event["reason"], event["state"])
    assert "the fake engine is down" in event["message"]


def test_a_daemon_that_comes_back(engine: FakeEngine, scene: Scene) -> None:
    """The tolerance starts again with each outage."""
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


def test_a_hung_app(engine: FakeEngine, scene: Scene) -> None:
    """The wait stops an app that makes no progress, and ends with its failure."""
    engine.programs = Program(runs_for_s=None, cpus=0.0, lines=["step 1"])
    launch(engine, replicas=2, stalled_after_s=60)

    event = scene.event(scene.wait())

    assert ("reached", "FAILED") == (event["reason"], event["state"])
    assert "failed first: stalled: no line" in event["message"]


def test_a_sensor_stops_no_hung_app(engine: FakeEngine, scene: Scene) -> None:
    """Only the owner of an app looks at its progress."""
    engine.programs = Program(runs_for_s=300, cpus=0.0)
    launch(engine, replicas=1, stalled_after_s=60)

    assert ("reached", "SUCCEEDED") == scene.fired(scene.wait(SUCCESS))
    assert "usage" not in engine.calls
