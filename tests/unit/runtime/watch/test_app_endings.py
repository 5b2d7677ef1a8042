"""Waiting for every app of a name that ends."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from airflow_torchx.runtime import lifecycle
from airflow_torchx.runtime.watch import Watches, subscriptions
from airflow_torchx.runtime.watch.app_endings import Endings
from airflow_torchx.testing import FakeEngine
from tests.unit.runtime.watch.apps import FOREVER, launch, run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from airflow_torchx.core.state.trigger_event import AppEvent

ALL = ("SUCCEEDED", "FAILED", "CANCELLED")


class Store:
    """Remembers in memory, as a state store does in a database."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}

    async def aget(self, key: str, default: Any = None) -> Any:  # noqa: ANN401 - any JSON
        """Return what was kept."""
        return self.kept.get(key, default)

    async def aset(self, key: str, value: Any) -> None:  # noqa: ANN401 - any JSON
        """Keep it."""
        self.kept[key] = value


@pytest.fixture
def engine() -> FakeEngine:
    """Return a fake daemon whose containers run until they are stopped."""
    return FakeEngine(images=["busybox"], programs=FOREVER)


async def heard(
    engine: FakeEngine, store: Store | None, *ends: str, targets: tuple[str, ...] = ALL
) -> list[tuple[str, str | None]]:
    """Let these apps end while somebody watches; return which ends he is told."""
    found: list[tuple[str, str | None]] = []

    async def listen(events: AsyncIterator[AppEvent]) -> None:
        async for event in events:
            assert "reached" == event["reason"]
            found.append((event["app_id"], event["state"]))

    with Watches(linger_s=0).on("d", lambda: engine) as watch:
        listening = asyncio.create_task(listen(Endings("app", targets, store).events(watch)))
        await asyncio.sleep(0.3)
        for app_id in ends:
            engine.end(f"{app_id}-trainer-0")
        await asyncio.sleep(0.4)
        listening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await listening
    return sorted(found)


def test_each_end_is_told_once(engine: FakeEngine) -> None:
    """Of apps of that name, and of no other."""
    launch(engine, "one")
    launch(engine, "two")
    launch(engine, "other", name="other")

    assert [("one", "SUCCEEDED"), ("two", "SUCCEEDED")] == run(
        heard(engine, None, "one", "other", "two")
    )


def test_what_had_ended_before_is_no_news(engine: FakeEngine) -> None:
    """When somebody begins to watch, with a memory and without."""
    launch(engine, "old")
    launch(engine, "new")
    engine.end("old-trainer-0")

    assert [("new", "SUCCEEDED")] == run(heard(engine, Store(), "new"))
    assert [] == run(heard(engine, None))


def test_an_app_that_is_launched_meanwhile(engine: FakeEngine) -> None:
    """It is known by its events."""

    async def scenario() -> list[tuple[str, str | None]]:
        hearing = asyncio.create_task(heard(engine, None))
        await asyncio.sleep(0.3)
        launch(engine, "late")
        engine.end("late-trainer-0", 3)
        return await hearing

    assert [("late", "FAILED")] == run(scenario())


def test_a_restart_repeats_nothing_and_misses_nothing(engine: FakeEngine) -> None:
    """What was told is remembered, and what ended while nobody watched is told."""
    store = Store()
    for app_id in ("one", "two", "three"):
        launch(engine, app_id)
    assert [("one", "SUCCEEDED")] == run(heard(engine, store, "one"))
    engine.end("two-trainer-0")

    assert [("three", "SUCCEEDED"), ("two", "SUCCEEDED")] == run(heard(engine, store, "three"))
    assert [] == run(heard(engine, store))


def test_memory_is_bounded(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Apps that are no longer on the daemon are forgotten."""
    monkeypatch.setattr(subscriptions, "_SECOND_SWEEP_S", 0.1)
    store = Store()
    for app_id in ("one", "two"):
        launch(engine, app_id)
    run(heard(engine, store, "one", "two"))
    lifecycle.delete(engine, "one")
    run(heard(engine, store))

    assert {"airflow-torchx/reported-apps/app": ["two"]} == store.kept


def test_targets(engine: FakeEngine) -> None:
    """Only ends in those states are told."""
    launch(engine, "one")

    assert [] == run(heard(engine, None, "one", targets=("FAILED",)))


def test_a_gang_ends_with_its_last_replica(engine: FakeEngine) -> None:
    """And is not told of before."""
    launch(engine, "one", replicas=2)

    assert [] == run(heard(engine, None, "one"))
    engine.end("one-trainer-1")
    assert ["SUCCEEDED"] == [app.state.name for app in lifecycle.apps(engine)]
