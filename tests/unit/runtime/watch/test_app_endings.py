"""Waiting for the end of every app of a name."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from airflow_torchx.runtime import lifecycle
from airflow_torchx.runtime.watch import Watches
from airflow_torchx.runtime.watch.app_endings import Endings
from airflow_torchx.testing import FakeEngine, ManualClock
from tests.unit.runtime.watch.apps import FOREVER, eventually, launch, run, settled, threads

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from airflow_torchx.core.state.trigger_event import AppEvent

ALL = ("SUCCEEDED", "FAILED", "CANCELLED")


class Store:
    """Stores values in memory, as a state store does in a database."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}

    async def aget(self, key: str, default: Any = None) -> Any:  # noqa: ANN401 - any JSON
        """Return the stored value."""
        return self.kept.get(key, default)

    async def aset(self, key: str, value: Any) -> None:  # noqa: ANN401 - any JSON
        """Store a value."""
        self.kept[key] = value


@pytest.fixture
def clock() -> ManualClock:
    """Return the clock of the watch and of the event loop."""
    return ManualClock()


@pytest.fixture
def engine() -> FakeEngine:
    """Return a fake daemon whose containers run until they are stopped."""
    return FakeEngine(images=["busybox"], programs=FOREVER)


async def heard(
    engine: FakeEngine,
    clock: ManualClock,
    store: Store | None,
    *ends: str,
    targets: tuple[str, ...] = ALL,
    meanwhile: Callable[[], object] = lambda: None,
) -> list[tuple[str, str | None]]:
    """End these apps during a watch, and return the reported ends.

    One more app ends last: an end that was not reported before that one never is.
    """
    found: list[tuple[str, str | None]] = []
    last = launch(engine, f"last-{len(engine.calls)}")

    async def listen(events: AsyncIterator[AppEvent]) -> None:
        async for event in events:
            assert "reached" == event["reason"]
            found.append((event["app_id"], event["state"]))

    with Watches(linger_s=0, clock=clock).on("d", lambda: engine) as watch:
        looks = engine.calls.count("rows")
        listening = asyncio.create_task(listen(Endings("app", targets, store).events(watch)))
        await eventually(lambda: engine.calls.count("rows") > looks, clock)
        await settled(clock)
        meanwhile()
        for app_id in ends:
            engine.end(f"{app_id}-trainer-0")
        engine.end(f"{last}-trainer-0", 3)
        await eventually(lambda: (last, "FAILED") in found, clock)
        await settled(clock)
        listening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await listening
    await eventually(lambda: not threads(), clock)
    return sorted(event for event in found if event[0] != last)


def test_each_end_is_reported_once(engine: FakeEngine, clock: ManualClock) -> None:
    """Every end of an app of the name is reported once, and of no other app."""
    launch(engine, "one")
    launch(engine, "two")
    launch(engine, "other", name="other")

    assert [("one", "SUCCEEDED"), ("two", "SUCCEEDED")] == run(
        heard(engine, clock, None, "one", "other", "two"), clock
    )


def test_earlier_ends_are_ignored(engine: FakeEngine, clock: ManualClock) -> None:
    """Apps that ended before the first watcher started are ignored, with and without a store."""
    launch(engine, "old")
    launch(engine, "new")
    engine.end("old-trainer-0")

    assert [("new", "SUCCEEDED")] == run(heard(engine, clock, Store(), "new"), clock)
    assert [] == run(heard(engine, clock, None), clock)


def test_an_app_that_is_launched_meanwhile(engine: FakeEngine, clock: ManualClock) -> None:
    """An app that is launched during the watch is found by its events."""

    def meanwhile() -> None:
        launch(engine, "late")
        engine.end("late-trainer-0", 3)

    assert [("late", "FAILED")] == run(heard(engine, clock, None, meanwhile=meanwhile), clock)


def test_a_restart_repeats_nothing_and_misses_nothing(
    engine: FakeEngine, clock: ManualClock
) -> None:
    """After a restart reported ends are not repeated and missed ends are reported."""
    store = Store()
    for app_id in ("one", "two", "three"):
        launch(engine, app_id)
    assert [("one", "SUCCEEDED")] == run(heard(engine, clock, store, "one"), clock)
    engine.end("two-trainer-0")

    assert [("three", "SUCCEEDED"), ("two", "SUCCEEDED")] == run(
        heard(engine, clock, store, "three"), clock
    )
    assert [] == run(heard(engine, clock, store), clock)


def test_the_store_is_bounded(engine: FakeEngine, clock: ManualClock) -> None:
    """The store forgets apps that are no longer on the daemon."""
    store = Store()
    for app_id in ("one", "two"):
        launch(engine, app_id)
    run(heard(engine, clock, store, "one", "two"), clock)
    lifecycle.delete(engine, "one")
    run(heard(engine, clock, store), clock)

    (kept,) = store.kept.values()
    assert ["two"] == [app_id for app_id in kept if not app_id.startswith("last")]


def test_targets(engine: FakeEngine, clock: ManualClock) -> None:
    """Only ends in a target state are reported."""
    launch(engine, "one")

    assert [] == run(heard(engine, clock, None, "one", targets=("FAILED",)), clock)


def test_a_gang_ends_with_its_last_replica(engine: FakeEngine, clock: ManualClock) -> None:
    """An app is reported after the end of its last replica."""
    launch(engine, "one", replicas=2)

    assert [] == run(heard(engine, clock, None, "one"), clock)
    engine.end("one-trainer-1")
    assert ["SUCCEEDED"] == [
        app.state.name for app in lifecycle.apps(engine) if app.app_id == "one"
    ]
