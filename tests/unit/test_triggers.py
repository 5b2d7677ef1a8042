"""The trigger on a fake daemon."""

from __future__ import annotations

import asyncio
import json
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import pytest

from airflow_torchx.core.engine import labels
from airflow_torchx.core.gpu.demand import GpuDemand
from airflow_torchx.core.state.timeline import Timeline
from airflow_torchx.errors import EngineError
from airflow_torchx.runtime import launching, lifecycle
from airflow_torchx.runtime.gpus.queue import DEFERRED, GpuQueue
from airflow_torchx.runtime.usage import UsageMonitor
from airflow_torchx.runtime.watch import Watches
from airflow_torchx.testing import FakeEngine, Program
from airflow_torchx.triggers import TorchXDockerTrigger
from tests.receivers import Statsd, sending_to
from tests.unit.apps import app, planned
from tests.unit.runtime.watch.test_snapshot_writer import STORED

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.runtime.watch import Watch


DEMAND: Final = GpuDemand(key="app-m0", count=1, listed=("GPU-0",), image="busybox")


class OfOne(Watches):
    """Watches of one daemon, wherever a connection leads."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(linger_s=0)
        self._engine = engine

    @contextmanager
    def on(self, key: Hashable, connect: Callable[[], Engine]) -> Iterator[Watch]:  # noqa: ARG002
        """Use the watch on the daemon."""
        with super().on("the only", lambda: self._engine) as watch:
            yield watch


@pytest.fixture(autouse=True)
def _connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_D", json.dumps({"conn_type": "torchx_docker"}))


def test_an_app_that_cannot_be_shown_is_removed() -> None:
    """The table of replicas is only for the log: without it, the containers are removed, too."""
    engine = FakeEngine(images=["busybox"], programs=Program(runs_for_s=None))
    launching.launch(engine, planned(app(1), stop_grace_s=0))
    engine.fail_next("inspect", EngineError("a bad answer"))
    trigger = TorchXDockerTrigger(
        app_id="app-1", torchx_conn_id="d", owned=True, delete_on_finish=True
    )
    trigger.watches = OfOne(engine)
    trigger.evidence = lambda: ("failed", "app-1")

    asyncio.run(trigger.on_kill())

    assert {} == engine.specs()


def test_an_app_that_a_trigger_stops_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of an app whose task a user has ended while it was deferred is counted once."""
    engine = FakeEngine(images=["busybox"], programs=Program(runs_for_s=None))
    launching.launch(engine, planned(app(1), stop_grace_s=0))
    trigger = TorchXDockerTrigger(app_id="app-1", torchx_conn_id="d", owned=True)
    trigger.watches = OfOne(engine)
    trigger.evidence = lambda: ("failed", "app-1")

    with Statsd() as statsd, sending_to(statsd.port, monkeypatch, with_tags=True):
        asyncio.run(trigger.on_kill())
        name = "torchx.app.finished.CANCELLED,conn_id=d,state=CANCELLED"
        assert [(name, "1", "c")] == statsd.until(name)


@pytest.mark.parametrize("error", [None, RuntimeError("no supervisor")])
def test_a_killed_trigger_writes_a_last_snapshot(error: RuntimeError | None) -> None:
    """The page of a task that a user has ended while it was deferred shows a cancelled app.

    It does so when the stop begins, and again when the app has ended, with its exit codes.
    An error of Airflow costs the snapshot alone.
    """
    engine = FakeEngine(images=["busybox"], programs=Program(runs_for_s=None))
    launching.launch(engine, planned(app(2), stop_grace_s=0))
    trigger = TorchXDockerTrigger(
        app_id="app-1", torchx_conn_id="d", owned=True, delete_on_finish=True, snapshot=STORED
    )
    trigger.watches = OfOne(engine)
    trigger.evidence = lambda: ("failed", "app-1")
    pushed = []

    async def push(made: dict[str, Any]) -> None:
        pushed.append(made)
        if error is not None:
            raise error

    trigger.push = push

    async def kill() -> None:
        found = lifecycle.observe(engine, "app-1")
        assert found is not None
        trigger.snapshots.look(found, UsageMonitor())
        await trigger.on_kill()

    asyncio.run(kill())

    first, last = pushed[-2:]
    assert ("CANCELLED", None) == (first["state"], first["roles"][0]["replicas"][0]["exit"])
    (role,) = last["roles"]
    assert ("CANCELLED", "trigger") == (last["state"], last["writer"])
    assert ["CANCELLED"] * 2 == [one["state"] for one in role["replicas"]]
    assert STORED["seq"] < last["seq"]
    assert {} == engine.specs()


@pytest.mark.parametrize(("by_a_process", "left"), [(True, 2), (False, 0)])
def test_a_task_that_has_ended_before_the_next_look(*, by_a_process: bool, left: int) -> None:
    """After its event, a trigger leaves alone what a process has done that it never saw.

    If a user ended the task before it had a process, the trigger writes the last snapshot, and
    removes the app.
    """
    engine = FakeEngine(images=["busybox"], programs=Program(exit_code=3))
    launching.launch(engine, planned(app(2), stop_grace_s=0))
    trigger = TorchXDockerTrigger(
        app_id="app-1", torchx_conn_id="d", owned=True, delete_on_finish=True, snapshot=STORED
    )
    trigger.watches = OfOne(engine)
    trigger.first_look_s = 0.0
    shown: list[dict[str, Any]] = []
    resumed = asyncio.Event()

    async def push(made: dict[str, Any]) -> None:
        shown.append(made)

    def state() -> tuple[str, str]:
        return ("failed" if resumed.is_set() else "queued"), "app-1"

    trigger.push, trigger.evidence, trigger.latest = push, state, lambda: shown[-1]

    async def scenario() -> dict[str, Any]:
        event = await fired(trigger)
        if by_a_process:
            seq = Timeline.parse(event["snapshot"]).next_seq(0.0)
            shown.append({**shown[-1], "writer": "worker", "seq": seq})
        last = shown[-1]
        resumed.set()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        # What was cancelled ends as such; another error fails.
        ended = await asyncio.gather(*others, return_exceptions=True)
        assert not [one for one in ended if isinstance(one, Exception)]
        return last

    last = asyncio.run(scenario())

    assert by_a_process is (last == shown[-1])
    assert left == len(engine.specs())


def waiting(engine: FakeEngine, *states: str | None) -> TorchXDockerTrigger:
    """Return a trigger that waits for a GPU, as a triggerer makes it.

    ``states`` are those of its task, one after the other; the last one stays.
    """
    made = TorchXDockerTrigger(
        app_id="app-m0-t1", torchx_conn_id="d", owned=True, gpu_demand=DEMAND.to_json()
    )
    _, stored = made.serialize()
    trigger = TorchXDockerTrigger(**json.loads(json.dumps(stored)))
    trigger.watches = OfOne(engine)
    trigger.first_look_s = 0.0
    left = list(states)
    trigger.evidence = lambda: (left.pop(0) if len(left) > 1 else left[0], None)
    trigger.latest = lambda: None
    return trigger


def places(engine: FakeEngine) -> list[str]:
    """Return what stands for places in the queue."""
    return [row.labels[labels.GPU_MARKER] for row in engine.rows({labels.GPU_MARKER: None})]


async def fired(trigger: TorchXDockerTrigger) -> dict[str, Any]:
    """Run a trigger to its only event, and return that."""
    (event,) = [event.payload async for event in trigger.run()]
    await trigger.cleanup()
    found: dict[str, Any] = event
    return found


@pytest.mark.parametrize(("state", "left"), [("failed", []), (None, []), ("deferred", ["ticket"])])
def test_a_kill_leaves_the_queue(state: str | None, left: list[str]) -> None:
    """A trigger of a task that a user ended leaves the queue, whether or not it ever ran.

    One that another triggerer has taken over does not.
    """
    engine = FakeEngine(images=["busybox"], gpus=1)
    engine.create(DEMAND.spec("ticket"))

    asyncio.run(waiting(engine, state).on_kill())

    assert left == places(engine)


@pytest.mark.parametrize(
    ("states", "left"),
    [
        (("scheduled", "queued", "failed"), []),
        (("deferred", None), []),
        (("queued", "running"), ["claim"]),
    ],
)
def test_claimed_gpus_of_a_task_that_does_not_resume(
    states: tuple[str | None, ...], left: list[str]
) -> None:
    """If a user ends the task before its next process has started, the claim is removed."""
    engine = FakeEngine(images=["busybox"], gpus=1)
    engine.create(DEMAND.spec("ticket"))

    async def scenario() -> dict[str, Any]:
        event = await fired(waiting(engine, *states))
        await asyncio.gather(*(asyncio.all_tasks() - {asyncio.current_task()}))
        return event

    assert "claimed" == asyncio.run(scenario())["reason"]
    assert left == places(engine)


def test_a_place_that_was_lost() -> None:
    """A trigger whose task is still deferred queues up again."""
    engine = FakeEngine(images=["busybox"], gpus=1)

    event = asyncio.run(fired(waiting(engine, "deferred")))

    assert "claimed" == event["reason"]


@pytest.mark.parametrize("found", [("running", None), ("deferred", "app-m0-t1")])
def test_a_place_that_a_later_process_removed(found: tuple[str, str | None]) -> None:
    """A trigger whose task runs again, or waits for its app, claims nothing, and fires nothing."""
    engine = FakeEngine(images=["busybox"], gpus=1)
    trigger, asked = waiting(engine), threading.Event()

    def state() -> tuple[str, str | None]:
        asked.set()
        return found

    trigger.evidence = state

    async def scenario() -> None:
        running = asyncio.ensure_future(fired(trigger))
        await asyncio.to_thread(asked.wait)
        await asyncio.wait([running], timeout=0)
        assert not running.done()
        running.cancel()
        await asyncio.wait([running])

    asyncio.run(scenario())

    assert [] == places(engine)


def test_a_triggerer_that_takes_over_finds_the_claim() -> None:
    """The event was lost with a triggerer that had claimed GPUs; the next one fires it."""
    engine = FakeEngine(images=["busybox"], gpus=1)
    claim = GpuQueue(engine, DEMAND, DEFERRED).attempt()

    event = asyncio.run(fired(waiting(engine, "running")))

    assert ("claimed", "app 'app-m0-t1' has GPU-0.") == (event["reason"], event["message"])
    assert claim == GpuQueue(engine, DEMAND, DEFERRED).attempt()


def test_a_demand_of_another_release() -> None:
    """A trigger that cannot read what the app needs lets the next try ask again."""
    engine = FakeEngine(images=["busybox"], gpus=1)
    trigger = TorchXDockerTrigger(
        app_id="app-m0-t1", torchx_conn_id="d", owned=True, gpu_demand={"gpus": 1}, format_version=2
    )
    trigger.watches = OfOne(engine)
    trigger.evidence = lambda: ("running", None)

    event = asyncio.run(fired(trigger))

    assert "unreachable" == event["reason"]
    assert "another release" in event["message"]
    assert [] == places(engine)
