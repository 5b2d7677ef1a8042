"""Waiting for one app on an event loop."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from airflow_torchx.core.state.condition import Condition
from airflow_torchx.core.state.trigger_event import WaitFor
from airflow_torchx.errors import EngineError
from airflow_torchx.runtime import lifecycle
from airflow_torchx.runtime.watch import Watches, app_wait
from airflow_torchx.runtime.watch.app_wait import Alarms, AppWait
from airflow_torchx.testing import FakeEngine, Program
from tests.unit.runtime.watch.apps import FOREVER, eventually, launch, run, states

if TYPE_CHECKING:
    from airflow_torchx.core.state.trigger_event import AppEvent

END = WaitFor()
SUCCESS = WaitFor(condition=Condition.parse("SUCCEEDED", "FAILED,CANCELLED"))


@pytest.fixture
def engine() -> FakeEngine:
    """Return a fake daemon whose containers run until they are stopped."""
    return FakeEngine(images=["busybox"], programs=FOREVER)


async def wait(
    engine: FakeEngine, wait_for: WaitFor = END, alarms: Alarms | None = None, app_id: str = "app-1"
) -> AppEvent:
    """Wait for an app, but not for ever."""
    with Watches(linger_s=0).on("d", lambda: engine) as watch:
        async with asyncio.timeout(20):
            return await AppWait(app_id, wait_for, alarms or Alarms()).event(watch)


def fired(event: AppEvent) -> tuple[str, str | None]:
    """Return reason and state."""
    return event["reason"], event["state"]


def test_end(engine: FakeEngine) -> None:
    """The end of every replica ends the wait of the app's owner."""
    engine.programs = Program(runs_for_s=0.2)
    launch(engine, replicas=2)

    assert ("reached", "SUCCEEDED") == fired(run(wait(engine)))


def test_fail_fast(engine: FakeEngine) -> None:
    """A lost replica ends the others, and only then the wait."""
    engine.programs = {"trainer": FOREVER, "trainer/1": Program(exit_code=7, runs_for_s=0.1)}
    launch(engine, replicas=3)

    event = run(wait(engine))

    assert ("reached", "FAILED") == fired(event)
    assert "app 'app-1' is FAILED: trainer/1 failed first: exit code 7." == event["message"]
    assert ["CANCELLED", "FAILED", "CANCELLED"] == states(engine)


def test_wait_all(engine: FakeEngine) -> None:
    """Under that policy nobody is stopped."""
    engine.programs = {"trainer": Program(runs_for_s=0.5), "trainer/1": Program(exit_code=7)}
    launch(engine, replicas=3, failure_policy="wait_all")

    assert ("reached", "FAILED") == fired(run(wait(engine)))
    assert "stop" not in engine.calls


def test_a_stop_is_tried_again(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon that refuses to stop the others is asked once more."""
    monkeypatch.setattr(app_wait, "_RETRY_S", 0.1)
    engine.programs = {"trainer": FOREVER, "trainer/1": Program(exit_code=7)}
    launch(engine, replicas=2)
    engine.fail_next("rename", EngineError("not now"))

    assert ("reached", "FAILED") == fired(run(wait(engine)))
    assert ["CANCELLED", "FAILED"] == states(engine)


def test_a_long_stop_holds_up_nobody(engine: FakeEngine) -> None:
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

    async def scenario() -> None:
        with Watches(linger_s=0).on("d", lambda: engine) as watch:
            slow = asyncio.create_task(AppWait("deaf", END, Alarms()).event(watch))
            await eventually(lambda: "stop" in engine.calls)
            engine.end("quick-trainer-0")
            assert "reached" == (await AppWait("quick", END, Alarms()).event(watch))["reason"]
            assert not slow.done()
            assert "FAILED" == (await slow)["state"]

    run(scenario())


def test_an_observer_stops_nobody(engine: FakeEngine) -> None:
    """A failed state ends its wait, and the app's other replicas go on."""
    engine.programs = {"trainer": FOREVER, "trainer/1": Program(exit_code=7, runs_for_s=0.2)}
    launch(engine, replicas=2)

    assert ("failed", "FAILED") == fired(run(wait(engine, SUCCESS)))
    assert ["RUNNING", "FAILED"] == states(engine)


def test_a_state_of_life(engine: FakeEngine) -> None:
    """A wait may end at RUNNING."""
    launch(engine)
    wait_for = WaitFor(condition=Condition.parse("RUNNING"))

    assert ("reached", "RUNNING") == fired(run(wait(engine, wait_for)))


def test_gone(engine: FakeEngine) -> None:
    """An app that was never there, or is removed meanwhile, ends the wait."""
    assert ("gone", None) == fired(run(wait(engine)))

    async def removed() -> AppEvent:
        launch(engine)
        waiting = asyncio.create_task(wait(engine))
        await asyncio.sleep(0.2)
        lifecycle.delete(engine, "app-1")
        return await waiting

    assert fired(run(removed())) in {("gone", None), ("reached", "CANCELLED")}


def test_an_app_that_appears(engine: FakeEngine) -> None:
    """It may be waited for."""
    wait_for = WaitFor(condition=Condition.parse("RUNNING"), wait_for_launch=True)

    async def scenario() -> AppEvent:
        waiting = asyncio.create_task(wait(engine, wait_for))
        await asyncio.sleep(0.2)
        launch(engine)
        return await waiting

    assert ("reached", "RUNNING") == fired(run(scenario()))


@pytest.mark.parametrize("reason", ["timeout", "flush"])
def test_a_time_that_comes(engine: FakeEngine, reason: str) -> None:
    """Then it is told how the app is, which goes on."""
    launch(engine)
    at_s = time.time() + 0.3
    alarms = Alarms(**{"deadline_s" if reason == "timeout" else "flush_s": at_s})

    assert (reason, "RUNNING") == fired(run(wait(engine, END, alarms)))
    assert at_s <= time.time()
    assert "stop" not in engine.calls


@pytest.mark.parametrize("field", ["deadline_s", "flush_s"])
def test_a_time_that_is_past(engine: FakeEngine, field: str) -> None:
    """The app is looked at first: an end goes before the time."""
    engine.programs = Program()
    launch(engine)

    assert ("reached", "SUCCEEDED") == fired(run(wait(engine, END, Alarms(**{field: 1.0}))))


def test_the_deadline_goes_first(engine: FakeEngine) -> None:
    """Of two times that have come."""
    launch(engine)

    assert ("timeout", "RUNNING") == fired(
        run(wait(engine, END, Alarms(deadline_s=2.0, flush_s=1.0)))
    )


def test_a_daemon_that_stays_away(engine: FakeEngine) -> None:
    """It is waited for with patience, which ends."""
    launch(engine)

    async def scenario() -> AppEvent:
        waiting = asyncio.create_task(wait(engine, END, Alarms(outage_s=0.5)))
        await asyncio.sleep(0.2)
        engine.down = True
        return await waiting

    event = run(scenario())

    assert ("unreachable", "RUNNING") == fired(event)
    assert "the fake one is down" in event["message"]


def test_a_daemon_that_comes_back(engine: FakeEngine) -> None:
    """The patience begins anew with each outage."""
    launch(engine)

    async def scenario() -> AppEvent:
        waiting = asyncio.create_task(wait(engine, END, Alarms(outage_s=1.2)))
        for _ in range(2):
            await asyncio.sleep(1.0)
            engine.down = True
            await asyncio.sleep(0.4)
            engine.down = False
        engine.end("trainer/0")
        return await waiting

    assert ("reached", "SUCCEEDED") == fired(run(scenario()))
