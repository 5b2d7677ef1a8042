"""What apps use is read while a triggerer waits for them."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from airflow_torchx.core.plan.progress import PROGRESS_PATH
from airflow_torchx.core.state.condition import Condition
from airflow_torchx.core.state.trigger_event import WaitFor
from airflow_torchx.core.state.usage import UsageHistory
from airflow_torchx.errors import EngineUnreachableError
from airflow_torchx.runtime import lifecycle
from airflow_torchx.runtime.usage import UsageMonitor
from airflow_torchx.runtime.watch import Watches
from airflow_torchx.runtime.watch.app_wait import Alarms, AppWait
from airflow_torchx.runtime.watch.usage_sampling import UsageSampling
from airflow_torchx.testing import FakeEngine, ManualClock, Program
from tests.unit.runtime.watch.apps import eventually, launch, now, run, threads

if TYPE_CHECKING:
    from airflow_torchx.core.state.trigger_event import AppEvent
    from airflow_torchx.specs import DescribeAppResponse
    from airflow_torchx.testing import Verb

MIB = 1 << 20


@pytest.fixture
def clock() -> ManualClock:
    """Return the clock of the watch, of the daemon and of the event loop."""
    return ManualClock()


@pytest.fixture
def engine(clock: ManualClock) -> FakeEngine:
    """Return a fake daemon whose containers are busy for a minute."""
    busy = Program(runs_for_s=60, cpus=0.5, memory_bytes=20 * MIB)
    return FakeEngine(images=["busybox"], programs=busy, clock=clock)


def event(
    engine: FakeEngine,
    clock: ManualClock,
    wait_for: WaitFor,
    alarms: Alarms,
    usage: UsageHistory | None = None,
) -> AppEvent:
    """Return the event of a wait; time advances meanwhile."""
    watches = Watches(linger_s=0, clock=clock)

    async def waited() -> AppEvent:
        with watches.on("d", lambda: engine) as watch:
            wait = AppWait("app-1", wait_for, alarms, clock, usage=usage)
            task = asyncio.ensure_future(wait.event(watch))
            await eventually(task.done, clock)
            return task.result()

    found: AppEvent = run(waited(), clock)
    run(eventually(lambda: not threads(), clock), clock)
    return found


def test_an_event_says_what_its_app_has_used(engine: FakeEngine, clock: ManualClock) -> None:
    """The event of an owner has the peaks and the lines of all replicas."""
    launch(engine, replicas=2)

    found = event(engine, clock, WaitFor(), Alarms())

    assert ("reached", "SUCCEEDED") == (found["reason"], found["state"])
    app = lifecycle.observe(engine, "app-1")
    assert app is not None
    marked = UsageHistory.parse(found["usage"]).mark(app).roles_statuses[0].replicas
    assert [20 * MIB] * 2 == [one.usage and one.usage.memory_peak_bytes for one in marked]
    assert [0.5] * 2 == [round(one.usage.cpus or 0, 2) for one in marked if one.usage]
    assert engine.calls.count("usage") > 2


def test_a_history_goes_on(engine: FakeEngine, clock: ManualClock) -> None:
    """A trigger goes on from what the process before it has read."""
    launch(engine)
    first = event(engine, clock, WaitFor(), Alarms(flush_s=clock() + 20))
    before = UsageHistory.parse(first["usage"])

    second = event(engine, clock, WaitFor(), Alarms(), before)

    assert ("flush", "reached") == (first["reason"], second["reason"])
    assert first["usage"]["start"] == second["usage"]["start"]
    assert 20 * MIB == second["usage"]["replicas"]["trainer/0"]["mem_peak"]


def test_progress_is_logged(
    engine: FakeEngine, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The event of an owner has the progress of its program, and the log has it as a line."""
    engine.programs = Program(runs_for_s=60, files={PROGRESS_PATH: b'{"step": 3, "total": 9}'})
    launch(engine, replicas=2)

    with caplog.at_level("INFO"):
        found = event(engine, clock, WaitFor(), Alarms())

    assert 3 == found["usage"]["progress"]["step"]
    assert ["step 3/9"] == [line for line in caplog.messages if line.startswith("step")]


def test_a_sensor_reads_nothing(engine: FakeEngine, clock: ManualClock) -> None:
    """The usage of an app is read by its owner alone."""
    launch(engine)

    found = event(
        engine, clock, WaitFor(condition=Condition.parse("SUCCEEDED", "FAILED")), Alarms()
    )

    assert "usage" not in found
    assert "usage" not in engine.calls
    assert "read_file" not in engine.calls


@pytest.mark.parametrize("hanging", ["usage", "read_file"])
def test_a_daemon_that_hangs_delays_no_event(
    engine: FakeEngine, clock: ManualClock, hanging: Verb
) -> None:
    """An event fires although no thread is left to read what apps use."""
    release = threading.Event()

    def hang(verb: str, _: str) -> None:
        if verb == hanging:
            release.wait(60)

    engine.before = hang
    launch(engine, replicas=8)
    watches = Watches(linger_s=0, clock=clock)

    async def waited() -> AppEvent:
        with watches.on("d", lambda: engine) as watch:
            task = asyncio.ensure_future(AppWait("app-1", WaitFor(), Alarms(), clock).event(watch))
            await eventually(lambda: engine.calls.count(hanging), clock)
            await eventually(task.done, clock)
            release.set()
            return task.result()

    found: AppEvent = run(waited(), clock)
    run(eventually(lambda: not threads(), clock), clock)

    assert "reached" == found["reason"]
    assert "usage" not in found


def test_many_apps_are_read_less_often(clock: ManualClock) -> None:
    """At most four readings a second are made of a daemon, whatever the number of apps."""
    engine = FakeEngine(images=["busybox"], programs=Program(runs_for_s=None), clock=clock)
    found, sweeps = [], list[asyncio.Task[Any]]()
    for number in range(10):
        app_id = launch(engine, f"app-{number}", replicas=32)
        found.append(lifecycle.observe(engine, app_id))
    sampling = UsageSampling(lambda: engine)

    async def sampled() -> float:
        for one in found:
            reading = sampling.sample(partial(_same, one), UsageMonitor(clock=clock))
            sweeps.append(asyncio.create_task(reading))
        await now(lambda: engine.calls.count("usage") == 320)
        began_s = clock()
        while engine.calls.count("usage") < 640:
            clock.advance(0.5)
            await asyncio.get_running_loop().run_in_executor(None, lambda: None)
        for sweep in sweeps:
            sweep.cancel()
        return clock() - began_s

    assert 80 <= run(sampled(), clock)
    sampling.close()


def _same(app: DescribeAppResponse | None) -> DescribeAppResponse | None:
    return app


def test_a_watch_that_was_closed(engine: FakeEngine, clock: ManualClock) -> None:
    """The end of a watch ends the reading."""
    launch(engine)
    found = lifecycle.observe(engine, "app-1")
    sampling = UsageSampling(lambda: engine)
    sampling.close()

    async def sampled() -> None:
        sweep: asyncio.Task[Any] = asyncio.create_task(
            sampling.sample(lambda: found, UsageMonitor(clock=clock))
        )
        for _ in range(5):
            await asyncio.sleep(0)
            clock.advance(20)
        assert not sweep.done()
        sweep.cancel()

    run(sampled(), clock)

    assert "usage" not in engine.calls


def test_a_daemon_that_was_away(engine: FakeEngine, clock: ManualClock) -> None:
    """Reading goes on once the daemon answers; an app that is not awaited slows no other one."""
    launch(engine, replicas=2)
    found = lifecycle.observe(engine, "app-1")
    away = ["progress", "trainer/0", "trainer/1"]

    def connected() -> FakeEngine:
        if away:
            raise EngineUnreachableError(f"cannot read {away.pop(0)}")
        return engine

    sampling = UsageSampling(connected)

    async def sampled() -> float:
        reading = sampling.sample(lambda: found, UsageMonitor(clock=clock))
        sweep = asyncio.create_task(reading)
        while engine.calls.count("usage") < 2:
            clock.advance(0.5)
            await asyncio.get_running_loop().run_in_executor(None, lambda: None)
        busy_s = sampling._busy_s  # noqa: SLF001 - our own
        sweep.cancel()
        await asyncio.wait({sweep})
        return busy_s

    assert 0.5 == run(sampled(), clock)
    assert 0 == sampling._busy_s  # noqa: SLF001
    assert [] == away
    sampling.close()
