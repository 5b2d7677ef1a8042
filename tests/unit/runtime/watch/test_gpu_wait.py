"""Waiting for GPUs on an event loop."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Literal

import pytest

from airflow_torchx.core.engine import labels
from airflow_torchx.core.engine.containers import GpuRequest
from airflow_torchx.core.gpu.demand import GpuDemand
from airflow_torchx.core.gpu.report import lost_place_text
from airflow_torchx.errors import EngineError, EngineNotFoundError
from airflow_torchx.runtime import lifecycle
from airflow_torchx.runtime.gpus.queue import DEFERRED, Claim, GpuQueue
from airflow_torchx.runtime.watch import Watches
from airflow_torchx.runtime.watch.app_wait import Alarms
from airflow_torchx.runtime.watch.gpu_wait import GpuWait
from airflow_torchx.schedulers.docker_scheduler import DockerScheduler
from airflow_torchx.specs import AppDef, Resource, Role
from airflow_torchx.testing import FakeEngine, ManualClock
from tests.unit.runtime.watch.apps import FOREVER, eventually, now, run, threads

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from airflow_torchx.core.state.trigger_event import AppEvent
    from airflow_torchx.testing import Verb

GPUS: Final = ("GPU-a", "GPU-b")
DEMAND: Final = GpuDemand(
    key="app", count=2, listed=GPUS, image="busybox", labels={labels.GPU_APP: "app-1"}
)


class Scene:
    """A daemon with two GPUs, and an app that waits for both.

    Time passes only where a test says so.
    """

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.engine = FakeEngine(images=["busybox"], programs=FOREVER, gpus=GPUS, clock=self.clock)
        self._watches = Watches(linger_s=0, clock=self.clock)
        #: Whether the task still waits, and how often a wait has asked that.
        self.is_wanted = True
        self.asked = 0

    def queue_up(self) -> str:
        """Leave the ticket that the task leaves when it defers, and return its id."""
        return self.engine.create(DEMAND.spec("ticket", timeout_s=60))

    def hold(self, gpus: int = 1) -> str:
        """Launch an app that holds GPUs, and return its id."""
        resource = Resource(cpu=1, gpu=gpus, memMB=64)
        app = AppDef("holder", [Role("main", "busybox", entrypoint="run", resource=resource)])
        return DockerScheduler("other", self.engine).submit(app, {})

    def start_notebook(self) -> str:
        """Start a container of another program that has a GPU, and return its id."""
        gpus = GpuRequest(count=1, device_ids=("GPU-b",))
        spec = replace(DEMAND.spec("ticket"), name="notebook", labels={}, gpus=gpus)
        container_id = self.engine.create(spec)
        self.engine.start(container_id)
        return container_id

    def wait(self, alarms: Alarms | None = None, *, until_s: float | None = None) -> GpuWait:
        """Return a wait for both GPUs."""
        demand = replace(DEMAND, until_s=until_s)
        return GpuWait("app-1", demand, alarms or Alarms(), self._is_wanted, self.clock)

    async def _is_wanted(self) -> bool:
        self.asked += 1
        return self.is_wanted

    async def event(self, wait: GpuWait) -> AppEvent:
        """Return the event of a wait."""
        with self._watches.on("d", lambda: self.engine) as watch:
            return await wait.event(watch)

    async def release(self, wait: GpuWait) -> None:
        """Leave the queue."""
        with self._watches.on("d", lambda: self.engine) as watch:
            await wait.release(watch)

    def run(self, scenario: Coroutine[Any, Any, Any]) -> Any:  # noqa: ANN401 - what it returns
        """Run a coroutine, and end the watch."""
        found = run(scenario, self.clock)
        run(eventually(lambda: not threads(), self.clock), self.clock)
        return found

    def passing(self, scenario: Coroutine[Any, Any, Any]) -> Any:  # noqa: ANN401 - what it returns
        """Run a coroutine; time advances meanwhile."""

        async def ended() -> Any:  # noqa: ANN401 - what it returns
            task = asyncio.ensure_future(scenario)
            await eventually(task.done, self.clock)
            return task.result()

        return self.run(ended())

    @property
    def markers(self) -> list[str]:
        """The tickets, claims and locks on the daemon."""
        return [
            row.labels[labels.GPU_MARKER] for row in self.engine.rows({labels.GPU_MARKER: None})
        ]


@pytest.fixture
def scene() -> Scene:
    """Return a daemon whose GPUs are free."""
    return Scene()


def test_free_gpus_are_claimed(scene: Scene) -> None:
    """The claim outlives the wait, which fires."""
    event = scene.run(scene.event(scene.wait()))

    assert ("app-1", "claimed", None) == (event["app_id"], event["reason"], event["state"])
    assert "app 'app-1' has GPU-a, GPU-b." == event["message"]
    assert ["claim"] == scene.markers


def test_the_end_of_a_holder_wakes_the_wait(scene: Scene) -> None:
    """It claims the GPUs at the event, before any time has passed."""
    holder, began_s = scene.hold(), scene.clock()

    async def scenario() -> AppEvent:
        waiting = asyncio.ensure_future(scene.event(scene.wait()))
        await now(lambda: scene.markers == ["ticket"])
        scene.engine.end(scene.engine.rows({labels.APP_ID: holder})[0].id)
        await now(waiting.done)
        assert began_s == scene.clock()
        return waiting.result()

    assert "claimed" == scene.run(scenario())["reason"]
    assert ["claim"] == scene.markers


def test_without_events_it_looks_by_itself(scene: Scene) -> None:
    """The wait goes on where the daemon refuses the stream of events."""
    holder = scene.hold()
    scene.engine.fail_next("events", EngineError("no events"), times=1000)

    async def scenario() -> AppEvent:
        waiting = asyncio.ensure_future(scene.event(scene.wait()))
        await now(lambda: scene.markers == ["ticket"])
        lifecycle.delete(scene.engine, holder)
        return await waiting

    assert "claimed" == scene.passing(scenario())["reason"]


def test_the_log_has_each_change_of_the_holders_once(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    """However often it looks, it logs one line until other containers hold the GPUs."""
    caplog.set_level("INFO")
    first = scene.hold()

    def said() -> list[str]:
        return [one for one in caplog.messages if one.startswith("waiting for")]

    async def scenario() -> AppEvent:
        waiting = asyncio.ensure_future(scene.event(scene.wait()))
        looks = scene.engine.calls.count("rows") + 8
        await eventually(lambda: scene.engine.calls.count("rows") > looks, scene.clock)
        assert 1 == len(said())
        notebook = scene.start_notebook()
        await eventually(lambda: len(said()) == 2, scene.clock)
        lifecycle.delete(scene.engine, first)
        scene.engine.remove(notebook)
        return await waiting

    assert "claimed" == scene.passing(scenario())["reason"]
    one, two, *_ = said()
    assert one.startswith(f"waiting for 2 GPUs on fake: GPU-a is held by app {first} (")
    assert f"GPU-a is held by app {first} (" in two
    assert "GPU-b is held by container notebook (" in two
    assert "claimed GPU-a, GPU-b for app app-1" in caplog.messages


@pytest.mark.parametrize(
    ("deadline_s", "until_s", "reason"),
    [(10.0, None, "timeout"), (None, 10.0, "busy"), (10.0, 10.0, "timeout"), (11.0, 10.0, "busy")],
)
def test_an_alarm(
    scene: Scene, deadline_s: float | None, until_s: float | None, reason: str
) -> None:
    """The event says who holds the GPUs, and the place in the queue stays for the task."""
    scene.hold()
    began_s = scene.clock()
    alarms = Alarms(deadline_s=None if deadline_s is None else began_s + deadline_s)
    wait = scene.wait(alarms, until_s=None if until_s is None else began_s + until_s)

    async def scenario() -> AppEvent:
        waiting = asyncio.ensure_future(scene.event(wait))
        await now(lambda: scene.markers == ["ticket"])
        assert not waiting.done()
        # At once: the time that passes meanwhile depends on how busy the machine is.
        scene.clock.advance(10)
        await now(waiting.done)
        return waiting.result()

    event = scene.run(scenario())

    assert reason == event["reason"]
    assert "GPU-a is held by app holder-" in event["message"]
    assert ["ticket"] == scene.markers


def test_free_gpus_win_over_an_alarm(scene: Scene) -> None:
    """A triggerer that starts after the deadline looks first."""
    wait = scene.wait(Alarms(deadline_s=1.0), until_s=1.0)

    assert "claimed" == scene.run(scene.event(wait))["reason"]


def test_a_daemon_that_stays_away(scene: Scene) -> None:
    """An outage longer than the tolerance ends the wait, and the place is left to the next try."""
    scene.hold()

    async def scenario() -> AppEvent:
        waiting = asyncio.ensure_future(scene.event(scene.wait(Alarms(outage_s=10))))
        await now(lambda: scene.markers == ["ticket"])
        scene.engine.down = True
        return await waiting

    event = scene.passing(scenario())
    scene.engine.down = False

    assert "unreachable" == event["reason"]
    assert "the fake engine is down" in event["message"]
    assert ["ticket"] == scene.markers


def test_a_daemon_that_comes_back(scene: Scene) -> None:
    """The tolerance starts again with each outage."""
    holder = scene.hold()

    async def scenario() -> AppEvent:
        waiting = asyncio.ensure_future(scene.event(scene.wait(Alarms(outage_s=30))))
        await now(lambda: scene.markers == ["ticket"])
        for _ in range(2):
            scene.engine.down = True
            await asyncio.sleep(20)
            scene.engine.down = False
            await asyncio.sleep(12)
        lifecycle.delete(scene.engine, holder)
        return await waiting

    assert "claimed" == scene.passing(scenario())["reason"]


def test_an_image_that_was_removed(scene: Scene) -> None:
    """The wait ends at once, and keeps its place: the task pulls the image again."""
    scene.queue_up()
    scene.engine.fail_next("create", EngineNotFoundError("No such image: busybox"))

    event = scene.run(scene.event(scene.wait()))

    assert ("gone", "No such image: busybox") == (event["reason"], event["message"])
    assert ["ticket"] == scene.markers


def test_a_request_that_the_daemon_refuses(scene: Scene) -> None:
    """The wait ends at once, as its task raises the error, and leaves nothing in the lock."""
    scene.queue_up()
    scene.engine.fail_next("create", EngineError("no space left"), on=DEMAND.name("claim"))

    event = scene.run(scene.event(scene.wait()))

    assert ("gone", "no space left") == (event["reason"], event["message"])
    assert ["ticket"] == scene.markers


def test_a_place_that_others_have_removed(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    """A wait that its task wants queues up again, and says so once."""
    holder = scene.hold()
    ticket = scene.queue_up()
    looks = scene.engine.calls.count("rows")

    async def scenario() -> AppEvent:
        waiting = asyncio.ensure_future(scene.event(scene.wait()))
        await now(lambda: scene.engine.calls.count("rows") > looks)
        assert 0 == scene.asked
        scene.engine.discard(ticket)
        await now(lambda: scene.markers == ["ticket"])
        lifecycle.delete(scene.engine, holder)
        return await waiting

    assert "claimed" == scene.passing(scenario())["reason"]
    assert 1 == scene.asked
    warnings = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
    assert [lost_place_text("app-1")] == warnings


def test_a_place_that_a_later_attempt_has_removed(scene: Scene) -> None:
    """A wait whose task was cleared neither queues up again nor claims GPUs that become free."""
    holder = scene.hold()
    ticket = scene.queue_up()
    looks = scene.engine.calls.count("rows")
    scene.is_wanted = False

    async def scenario() -> None:
        waiting = asyncio.ensure_future(scene.event(scene.wait()))
        await now(lambda: scene.engine.calls.count("rows") > looks)
        scene.engine.discard(ticket)
        lifecycle.delete(scene.engine, holder)
        await now(lambda: scene.asked)
        last = scene.engine.calls.count("rows")
        await asyncio.sleep(60)
        assert last == scene.engine.calls.count("rows")
        waiting.cancel()

    scene.passing(scenario())

    assert 1 == scene.asked
    assert [] == scene.markers


def test_a_release_before_the_wait_ran(scene: Scene) -> None:
    """It removes the places that others have made for the app, without a look."""
    assert isinstance(GpuQueue(scene.engine, DEMAND, DEFERRED).attempt(), Claim)
    scene.engine.create(DEMAND.spec("ticket"))
    other = replace(DEMAND, key="another")
    scene.engine.create(other.spec("ticket"))

    scene.run(scene.release(scene.wait()))

    assert [other.name("ticket")] == [row.name for row in scene.engine.rows({})]


@pytest.mark.parametrize("place", ["ticket", "claim"])
def test_a_release_during_an_attempt(scene: Scene, place: Literal["ticket", "claim"]) -> None:
    """What an attempt makes that nothing can interrupt any more is removed."""
    if place == "ticket":
        scene.hold()
    creating, may_go_on = threading.Event(), threading.Event()

    def stall(verb: Verb, name: str) -> None:
        if verb == "create" and name == DEMAND.name(place):
            creating.set()
            may_go_on.wait(60)

    scene.engine.before = stall

    async def scenario() -> None:
        wait = scene.wait()
        waiting = asyncio.ensure_future(scene.event(wait))
        await now(creating.is_set)
        waiting.cancel()
        releasing = asyncio.ensure_future(scene.release(wait))
        await now(waiting.done)
        assert not releasing.done()
        may_go_on.set()
        await now(releasing.done)

    scene.run(scenario())

    assert [] == scene.markers


def test_a_release_in_an_outage(scene: Scene) -> None:
    """It is tried again until the daemon has done it."""
    scene.engine.create(DEMAND.spec("ticket"))
    scene.engine.fail_next("rows", EngineError("not now"), times=3)

    scene.passing(scene.release(scene.wait()))

    assert [] == scene.markers


def test_an_alarm_while_another_client_has_the_lock(scene: Scene) -> None:
    """The wait for the lock ends, too, although GPUs are free."""
    scene.engine.create(replace(DEMAND, key="other").spec("lock"))
    scene.queue_up()

    event = scene.run(scene.event(scene.wait(until_s=scene.clock())))

    assert "busy" == event["reason"]
    assert ["lock", "ticket"] == sorted(scene.markers)
