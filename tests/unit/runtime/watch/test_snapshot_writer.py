"""Snapshots of an app while a triggerer waits for it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from airflow_torchx.core.state.trigger_event import WaitFor
from airflow_torchx.runtime import lifecycle
from airflow_torchx.runtime.usage import UsageMonitor
from airflow_torchx.runtime.watch import Watches
from airflow_torchx.runtime.watch.app_wait import Alarms, AppWait
from airflow_torchx.runtime.watch.snapshot_writer import (
    CLOSE_S,
    PAUSE_S,
    REFRESH_S,
    SnapshotWriter,
)
from airflow_torchx.testing import FakeEngine, ManualClock, Program
from tests.unit.runtime.watch.apps import eventually, launch, run, threads

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from airflow_torchx.core.state.trigger_event import AppEvent

STORED = {
    "owner": {
        "handle": "h",
        "dag_id": "d",
        "run_id": "r",
        "task_id": "t",
        "map_index": -1,
        "try_number": 1,
        "epoch": 0,
    },
    "seq": 3,
    "t": {},
}


class Scene:
    """A wait for an app of a fake daemon, and what it stores."""

    def __init__(self, stored: dict[str, Any] | None = None) -> None:
        self.clock = ManualClock()
        self.engine = FakeEngine(
            images=["busybox"], programs=Program(runs_for_s=100), clock=self.clock
        )
        self.pushed: list[tuple[float, dict[str, Any]]] = []
        self.began_s = self.clock()
        self.error: Exception | None = None
        self.hangs = False
        self.push: Callable[[dict[str, Any]], Awaitable[object]] = self._push
        self._stored = STORED if stored is None else stored

    async def _push(self, made: dict[str, Any]) -> None:
        self.pushed.append((self.clock() - self.began_s, made))
        if self.hangs:
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error

    def event(self) -> AppEvent:
        """Return the event of a wait; time advances meanwhile."""
        watches = Watches(linger_s=0, clock=self.clock)

        async def waited() -> AppEvent:
            writer = SnapshotWriter(self._stored, self.push, self.clock)
            with watches.on("d", lambda: self.engine) as watch:
                wait = AppWait("app-1", WaitFor(), Alarms(), self.clock, snapshots=writer)
                task = asyncio.ensure_future(wait.event(watch))
                await eventually(task.done, self.clock)
                return task.result()

        found: AppEvent = run(waited(), self.clock)
        run(eventually(lambda: not threads(), self.clock), self.clock)
        return found


def test_a_wait_writes_snapshots() -> None:
    """A snapshot is written at a transition, and once a minute for what replicas use."""
    scene = Scene()
    launch(scene.engine, replicas=2)

    event = scene.event()

    first, second = scene.pushed[0][1], scene.pushed[1][1]
    assert ("reached", 3) == (event["reason"], len(scene.pushed))
    assert ("trigger", "RUNNING", "h") == (first["writer"], first["state"], first["handle"])
    assert second["seq"] > first["seq"] > 3
    assert "usage" in second["roles"][0]["replicas"][0]
    times = [at for at, _ in scene.pushed]
    assert times[1] - times[0] >= REFRESH_S
    # What was seen until the end goes on in the worker.
    assert "SUCCEEDED" == event["snapshot"]["t"]["trainer/0"][-1][1]
    assert event["snapshot"]["seq"] == scene.pushed[2][1]["seq"]


@pytest.mark.parametrize("hangs", [True, False])
def test_a_push_that_fails_delays_nothing(*, hangs: bool) -> None:
    """A snapshot that Airflow refuses, or does not answer, is lost, and the event fires."""
    scene = Scene()
    scene.hangs, scene.error = hangs, RuntimeError("refused")
    launch(scene.engine)

    assert "reached" == scene.event()["reason"]
    assert scene.pushed


def test_without_an_owner() -> None:
    """A trigger that another release has stored writes nothing, and still hands on what it saw."""
    scene = Scene({"owner": {"later": 1}, "seq": 9})
    launch(scene.engine)

    event = scene.event()

    assert ([], 9) == (scene.pushed, event["snapshot"]["seq"])


def test_many_transitions_are_few_snapshots() -> None:
    """Snapshots of an app are at least two seconds apart."""
    scene = Scene()
    launch(scene.engine, replicas=4)

    async def looked() -> None:
        writer = SnapshotWriter(STORED, scene._push, scene.clock)  # noqa: SLF001 - our own
        for index in range(4):
            app = lifecycle.observe(scene.engine, "app-1")
            assert app is not None
            writer.look(app, UsageMonitor())
            for _ in range(5):
                await asyncio.sleep(0)
            scene.engine.end(f"trainer/{index}")
            scene.clock.advance(0.5)
        await eventually(lambda: len(scene.pushed) > 1, scene.clock)
        writer.close()

    run(looked(), scene.clock)

    times = [at for at, _ in scene.pushed]
    assert times[1] - times[0] >= PAUSE_S
    counts = scene.pushed[1][1]["roles"][0]["counts"]
    assert {"RUNNING": 1, "SUCCEEDED": 3} == counts


@pytest.mark.parametrize(
    ("latest", "expected"),
    [
        ({"app_id": "app-1", "seq": 4}, True),
        ({"app_id": "app-1", "seq": 3}, False),
        ({"app_id": "app-2", "seq": 4}, False),
        ({"app_id": "app-1"}, False),
        (None, False),
    ],
)
def test_a_later_snapshot_is_of_another_process(latest: object, *, expected: bool) -> None:
    """What a trigger wrote itself, of another app, or of another release, shows no process."""
    writer = SnapshotWriter(STORED, Scene()._push)  # noqa: SLF001 - our own

    assert expected is writer.is_continued("app-1", latest)


def test_an_event_comes_after_what_is_being_written() -> None:
    """A snapshot of the trigger does not overwrite one that the next process of the task writes."""
    scene = Scene()
    written: list[float] = []

    async def push(_: dict[str, Any]) -> None:
        # Longer than the app runs.
        await asyncio.sleep(100.8)
        written.append(scene.clock())

    scene.push = push
    launch(scene.engine)

    assert "reached" == scene.event()["reason"]
    assert 1 == len(written)


@pytest.mark.parametrize("runs_for_s", [0.5, 100.0])
def test_the_end_of_an_app_is_written_before_its_event(runs_for_s: float) -> None:
    """A reader sees the end although the task waits for a worker, also of an app that ends soon.

    Replicas that end one after another come to the last pause between two snapshots.
    """
    scene = Scene()
    scene.engine = FakeEngine(
        images=["busybox"], programs=Program(runs_for_s=runs_for_s), clock=scene.clock
    )
    launch(scene.engine, replicas=2)

    event = scene.event()

    last = scene.pushed[-1][1]
    assert ("SUCCEEDED", event["snapshot"]["seq"]) == (last["state"], last["seq"])
    assert {"SUCCEEDED": 2} == last["roles"][0]["counts"]


def test_the_end_waits_for_a_snapshot_that_is_being_written() -> None:
    """The last snapshot is written after the one before it."""
    scene = Scene()
    order: list[str] = []

    async def push(made: dict[str, Any]) -> None:
        # The first one is written when the app ends.
        await asyncio.sleep(100.2 if not order else 0)
        order.append(made["state"])

    scene.push = push
    launch(scene.engine)

    assert "reached" == scene.event()["reason"]
    assert ["RUNNING", "SUCCEEDED"] == order


def test_an_event_waits_a_second_at_most_for_all_snapshots() -> None:
    """The last snapshot has the rest of the second that the one before it has taken."""
    scene = Scene()
    times: list[list[float]] = []

    async def push(_: dict[str, Any]) -> None:
        times.append([scene.clock()])
        try:
            await asyncio.sleep(100.6 if len(times) == 1 else 30)
        finally:
            times[-1].append(scene.clock())

    scene.push = push
    launch(scene.engine)

    assert "reached" == scene.event()["reason"]
    (_, written_s), (begun_s, given_up_s) = times
    assert begun_s >= written_s
    assert given_up_s - begun_s < CLOSE_S


@pytest.mark.parametrize("hangs", [True, False])
def test_a_stop_is_shown_when_it_begins(*, hangs: bool) -> None:
    """What still runs is CANCELLED at once; how the app ended is written after that, once.

    A first snapshot that hangs does not keep the last one from being written.
    """
    scene = Scene()
    launch(scene.engine, replicas=2)

    async def stop() -> None:
        writer = SnapshotWriter(STORED, scene.push, scene.clock)
        app = lifecycle.observe(scene.engine, "app-1")
        assert app is not None
        writer.look(app, UsageMonitor())
        scene.hangs = hangs
        writer.stopping()
        await eventually(lambda: scene.pushed, scene.clock)
        scene.hangs = False
        lifecycle.cancel(scene.engine, "app-1")
        ended = lifecycle.observe(scene.engine, "app-1")
        assert ended is not None
        writing = asyncio.ensure_future(writer.write_last(ended))
        await eventually(writing.done, scene.clock)

    run(stop(), scene.clock)

    (_, first), (_, last) = scene.pushed
    assert ["CANCELLED", "CANCELLED"] == [first["state"], last["state"]]
    assert last["seq"] > first["seq"]
    replica = first["roles"][0]["replicas"][0]
    assert ("CANCELLED", ["RUNNING", "CANCELLED"]) == (
        replica["state"],
        [state for _, state in replica["t"][-2:]],
    )
