"""The watch on one daemon, on a fake one."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import pytest

from airflow_torchx.core.state.describe import replicas_of
from airflow_torchx.errors import EngineError, EngineUnreachableError
from airflow_torchx.runtime import lifecycle
from airflow_torchx.runtime.usage import UsageMonitor
from airflow_torchx.runtime.watch import AppSnapshot, DaemonDown, Watches
from airflow_torchx.runtime.watch.app_wait import detect_stall
from airflow_torchx.runtime.watch.subscriptions import BLIND_SWEEP_S, SWEEP_S
from airflow_torchx.specs import AppState
from airflow_torchx.testing import FakeEngine, ManualClock, Program
from airflow_torchx.testing.stream import FakeEvents
from tests.unit.runtime.watch.apps import (
    FOREVER,
    eventually,
    launch,
    now,
    run,
    settled,
    shows,
    states,
    threads,
    until,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.runtime.watch import Watch
    from airflow_torchx.testing import Verb

ENDED, RUNS = shows(AppState.SUCCEEDED), shows(AppState.RUNNING)


@pytest.fixture
def clock() -> ManualClock:
    """Return the clock of the watches and of the event loops."""
    return ManualClock()


@pytest.fixture
def watches(clock: ManualClock) -> Iterator[Watches]:
    """Return watches, and check that no thread of them is left after the test."""
    yield Watches(linger_s=0, clock=clock)

    run(eventually(lambda: not threads(), clock), clock)


async def opened(engine: FakeEngine, streams: int = 1) -> None:
    """Wait until so many event streams have been opened; time stands still."""
    while engine.calls.count("events") < streams:
        await asyncio.to_thread(time.sleep, 0.001)


def daemon(**kwargs: object) -> FakeEngine:
    """Return a fake daemon whose containers run until they are stopped."""
    return FakeEngine(images=["busybox"], **{"programs": FOREVER, **kwargs})  # type: ignore[arg-type]


def test_end_of_an_app(watches: Watches, clock: ManualClock) -> None:
    """An app is reported at once and after each change, with what failed and why."""
    engine = daemon()
    launch(engine, replicas=2)

    async def scenario() -> None:
        with watches.on("d", lambda: engine) as watch, watch.mailbox(app_id="app-1") as mailbox:
            await until(mailbox, RUNS, clock)
            engine.end("trainer/0")
            engine.end("trainer/1", 137, oom_killed=True)
            seen = await until(mailbox, shows(AppState.FAILED), clock)
            assert isinstance(seen, AppSnapshot)
            assert seen.app is not None
            assert seen.app == lifecycle.observe(engine, "app-1")
            assert [False, True] == [r.oom_killed for r in replicas_of(seen.app)]
            lifecycle.delete(engine, "app-1")
            await until(mailbox, shows(None), clock)

    run(scenario(), clock)


def test_a_container_of_a_committed_image(watches: Watches, clock: ManualClock) -> None:
    """A user's container that has an app's labels and another name is not part of the app."""
    engine = daemon()
    launch(engine)
    (row,) = engine.rows({})
    (spec,) = engine.specs().values()
    engine.start(engine.create(replace(spec, name="curious_curie")))

    async def scenario() -> None:
        with watches.on("d", lambda: engine) as watch, watch.mailbox(app_id="app-1") as mailbox:
            await until(mailbox, RUNS, clock)
            engine.remove(row.id)
            seen = await until(mailbox, lambda _: True, clock)
            assert shows(None)(seen)

    run(scenario(), clock)


def test_an_app_that_is_not_there(watches: Watches, clock: ManualClock) -> None:
    """A missing app is reported as gone, and again once it is launched."""
    engine = daemon()

    async def scenario() -> None:
        with watches.on("d", lambda: engine) as watch, watch.mailbox(app_id="app-1") as mailbox:
            await until(mailbox, shows(None), clock)
            launch(engine)
            await until(mailbox, RUNS, clock)

    run(scenario(), clock)


def test_many_share_one_stream_and_few_looks(watches: Watches, clock: ManualClock) -> None:
    """A hundred concurrent waits take one event stream and few lists."""
    engine = daemon()
    for index in range(100):
        launch(engine, f"app-{index}")
    engine.calls.clear()

    everybody = threading.Event()

    def connect() -> FakeEngine:
        # What comes due before the first answer is looked at together.
        everybody.wait()
        return engine

    async def scenario() -> None:
        with contextlib.ExitStack() as held:
            mailboxes = []
            for index in range(100):
                watch = held.enter_context(watches.on("d", connect))
                mailboxes.append(held.enter_context(watch.mailbox(app_id=f"app-{index}")))
            everybody.set()
            for mailbox in mailboxes:
                await until(mailbox, RUNS, clock)
            await opened(engine)
            await settled(clock)
            clock.advance(5)
            await settled(clock)

    run(scenario(), clock)

    assert 1 == engine.calls.count("events")
    assert engine.calls.count("rows") < 10


def test_every_subscriber_is_notified(watches: Watches, clock: ManualClock) -> None:
    """Several subscribers on several event loops get the same app."""
    engine, all_see_it = daemon(), threading.Barrier(2)
    launch(engine)

    async def wait() -> None:
        with (
            watches.on("d", lambda: engine) as watch,
            watch.mailbox(app_id="app-1") as one,
            watch.mailbox(app_id="app-1") as other,
        ):
            await until(one, RUNS, clock)
            await opened(engine)
            all_see_it.wait()
            engine.end("trainer/0")
            await until(one, ENDED, clock)
            await until(other, ENDED, clock)

    several = [threading.Thread(target=run, args=(wait(), clock)) for _ in range(2)]
    for thread in several:
        thread.start()
    for thread in several:
        thread.join()

    assert 1 == engine.calls.count("events")


def test_an_app_whose_replicas_all_die_takes_few_looks(
    watches: Watches, clock: ManualClock
) -> None:
    """The end of 64 replicas within a moment takes few looks."""
    engine = daemon()
    launch(engine, replicas=64)

    async def scenario() -> None:
        with watches.on("d", lambda: engine) as watch, watch.mailbox(app_id="app-1") as mailbox:
            await until(mailbox, RUNS, clock)
            await settled(clock)
            clock.advance(5)
            await settled(clock)
            engine.calls.clear()
            for index in range(64):
                engine.end(f"trainer/{index}")
                clock.advance(0.005)
            await until(mailbox, ENDED, clock)

    run(scenario(), clock)

    assert engine.calls.count("rows") < 15


def test_a_hanging_daemon_does_not_block_the_loop(watches: Watches, clock: ManualClock) -> None:
    """A list without an answer does not block the event loop."""
    hangs, release = threading.Event(), threading.Event()
    engine = daemon()
    launch(engine)

    def hang(verb: Verb, _: str) -> None:
        if verb == "rows":
            hangs.set()
            release.wait()

    engine.before = hang

    async def scenario() -> None:
        with watches.on("d", lambda: engine) as watch, watch.mailbox(app_id="app-1") as mailbox:
            await eventually(hangs.is_set, clock)
            assert await mailbox.next(0.0) is None
            asked = asyncio.create_task(watch.ask(lambda daemon: daemon.info().cpus))
            assert 64 == await asked
            release.set()
            await until(mailbox, RUNS, clock)

    run(scenario(), clock)


def test_an_inspect_that_fails_hides_no_end(watches: Watches, clock: ManualClock) -> None:
    """A failed inspect hides the cause of an end, not the end."""
    engine = daemon()
    launch(engine)
    engine.fail_next("inspect", EngineUnreachableError("stuck"), times=9)

    async def scenario() -> None:
        with watches.on("d", lambda: engine) as watch, watch.mailbox(app_id="app-1") as mailbox:
            await until(mailbox, RUNS, clock)
            engine.end("trainer/0", 3)
            await until(mailbox, shows(AppState.FAILED), clock)

    run(scenario(), clock)


def test_a_daemon_that_comes_later(watches: Watches, clock: ManualClock) -> None:
    """A watch waits for a daemon that is down at first, and reports the outage."""
    engine = daemon()
    launch(engine)
    engine.down = True

    def connect() -> FakeEngine:
        engine.info()
        return engine

    async def scenario() -> None:
        with watches.on("d", connect) as watch, watch.mailbox(app_id="app-1") as mailbox:
            away = await until(
                mailbox, lambda notification: isinstance(notification, DaemonDown), clock
            )
            assert isinstance(away, DaemonDown)
            assert "no Docker daemon: the fake engine is down." == away.why.what
            engine.down = False
            await until(mailbox, RUNS, clock)

    run(scenario(), clock)


@pytest.mark.parametrize("outage_s", [0.0, 0.7])
def test_a_reconnect_misses_nothing(watches: Watches, clock: ManualClock, outage_s: float) -> None:
    """An end during a broken stream is reported after the reconnect."""
    engine = daemon()
    launch(engine)

    async def scenario() -> None:
        with watches.on("d", lambda: engine) as watch, watch.mailbox(app_id="app-1") as mailbox:
            await until(mailbox, RUNS, clock)
            # The first look may come before the stream is open, which is not broken then.
            await opened(engine)
            await settled(clock)
            engine.down = True
            engine.end("trainer/0")
            clock.advance(outage_s)
            engine.down = False
            await until(mailbox, ENDED, clock)
            # A look may report the end before the stream is open again.
            await eventually(lambda: engine.calls.count("events") == 2, clock)

    run(scenario(), clock)


def test_a_daemon_that_refuses_events(watches: Watches, clock: ManualClock) -> None:
    """Without events apps are polled every few seconds."""
    engine = daemon()
    launch(engine)
    engine.fail_next("events", EngineError("forbidden", status=403), times=999)

    async def scenario() -> None:
        with watches.on("d", lambda: engine) as watch, watch.mailbox(app_id="app-1") as mailbox:
            await until(mailbox, RUNS, clock)
            await settled(clock)
            engine.end("trainer/0")
            clock.advance(BLIND_SWEEP_S)
            await until(mailbox, ENDED, clock)

    run(scenario(), clock)


class Mute(FakeEngine):
    """A daemon whose event stream is open but dead, as behind some routers."""

    def events(self, *, all_containers: bool = False) -> FakeEvents:
        """Return a stream without events."""
        super().events(all_containers=all_containers)
        return FakeEvents(tuple, lambda: time.sleep(0.01))


def test_a_dead_stream_is_reopened(watches: Watches, clock: ManualClock) -> None:
    """A periodic look finds what a dead stream missed and reopens it."""
    engine = Mute(images=["busybox"], programs=FOREVER)
    launch(engine)

    async def scenario() -> None:
        with watches.on("d", lambda: engine) as watch, watch.mailbox(app_id="app-1") as mailbox:
            await until(mailbox, RUNS, clock)
            await opened(engine)
            for _ in range(2):
                await settled(clock)
                clock.advance(SWEEP_S)
            await settled(clock)
            assert 1 == engine.calls.count("events")
            engine.end("trainer/0")
            clock.advance(SWEEP_S)
            await until(mailbox, ENDED, clock)
            await eventually(lambda: 2 == engine.calls.count("events"), clock)

    run(scenario(), clock)


def test_a_watch_lingers(clock: ManualClock) -> None:
    """A watch stays open for a while after its last user, then ends its threads."""
    watches, engine = Watches(linger_s=5, clock=clock), daemon()
    launch(engine)

    async def scenario() -> None:
        for _ in range(3):
            with watches.on("d", lambda: engine) as watch, watch.mailbox(app_id="app-1") as mailbox:
                await until(mailbox, RUNS, clock)
                await opened(engine)
            await settled(clock)
            clock.advance(4)
        assert 1 == engine.calls.count("events")
        await eventually(lambda: not threads() and engine.closed, clock)
        with watches.on("d", lambda: engine) as watch, watch.mailbox(app_id="app-1") as mailbox:
            await until(mailbox, RUNS, clock)
            await opened(engine, 2)

    run(scenario(), clock)

    assert 2 == engine.calls.count("events")
    run(eventually(lambda: not threads(), clock), clock)


def test_one_watch_for_each_daemon(watches: Watches, clock: ManualClock) -> None:
    """Apps of one id on two daemons are two apps."""
    one, other = daemon(), daemon(programs=Program())
    launch(one)
    launch(other)

    async def scenario() -> None:
        with (
            watches.on("one", lambda: one) as on_one,
            watches.on("other", lambda: other) as on_other,
            on_one.mailbox(app_id="app-1") as running,
            on_other.mailbox(app_id="app-1") as ended,
        ):
            await until(running, RUNS, clock)
            await until(ended, ENDED, clock)

    run(scenario(), clock)


def test_ask(watches: Watches, clock: ManualClock) -> None:
    """A call runs in a thread of the watch, and its error reaches the caller."""
    engine = daemon()
    launch(engine)

    async def scenario() -> None:
        with watches.on("d", lambda: engine) as watch:
            assert await watch.ask(partial(lifecycle.exists, app_id="app-1"))
            with pytest.raises(LookupError, match="nope"):
                await watch.ask(partial(lifecycle.cancel, app_id="nope"))

    run(scenario(), clock)


def test_a_call_outlives_its_caller(watches: Watches, clock: ManualClock) -> None:
    """A call is finished after its caller was cancelled, and keeps the watch open."""
    engine, begun, release = daemon(), threading.Event(), threading.Event()
    launch(engine)

    def slowly(daemon: Engine) -> None:
        begun.set()
        release.wait()
        lifecycle.cancel(daemon, "app-1")

    async def scenario() -> None:
        with watches.on("d", lambda: engine) as watch:
            asked = asyncio.create_task(watch.ask(slowly))
            await eventually(begun.is_set, clock)
            asked.cancel()
        for _ in range(3):
            await settled(clock)
            clock.advance(10)
        await settled(clock)
        assert not engine.closed
        release.set()
        await eventually(lambda: engine.closed, clock)

    run(scenario(), clock)

    assert ["CANCELLED"] == states(engine)


def test_looks_at_many_hung_apps_delay_no_stop(watches: Watches, clock: ManualClock) -> None:
    """A daemon that takes long to say what containers use is asked to stop an app at once."""
    engine, release = daemon(), threading.Event()
    apps = [launch(engine, f"app-{number}", stalled_after_s=60) for number in range(30)]
    in_time: list[bool] = []
    looks: list[str] = []

    def hang(verb: Verb, name: str) -> None:
        if verb == "usage":
            looks.append(name)
            in_time.append(release.wait(60))

    engine.before = hang

    async def scenario() -> None:
        with watches.on("d", lambda: engine) as watch:
            detecting = [
                asyncio.create_task(detect_stall(watch, one, 60, UsageMonitor())) for one in apps
            ]
            await now(lambda: len(looks) > 1)
            await watch.ask(partial(lifecycle.cancel, app_id="app-1"))
            release.set()
            for one in detecting:
                one.cancel()

    run(scenario(), clock)

    assert all(in_time)
    assert ["CANCELLED"] == states(engine)


def test_ask_without_a_daemon(watches: Watches, clock: ManualClock) -> None:
    """A call to a daemon that does not answer in time is an error."""

    def connect() -> FakeEngine:
        raise EngineUnreachableError("away")

    async def scenario() -> None:
        with watches.on("d", connect) as away:
            asked = asyncio.ensure_future(away.ask(lifecycle.apps))
            await settled(clock)
            clock.advance(19)
            await settled(clock)
            assert not asked.done()
            await eventually(asked.done, clock)
            with pytest.raises(EngineUnreachableError, match="has not answered"):
                asked.result()

    run(scenario(), clock)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_bug_ends_every_wait(watches: Watches, clock: ManualClock) -> None:
    """A failed watch raises for its subscribers, and the next one starts a new watch."""
    engine = daemon()
    launch(engine)
    errors = [ZeroDivisionError()]

    def connect() -> FakeEngine:
        if errors:
            raise errors.pop()
        return engine

    async def scenario() -> None:
        with watches.on("d", connect) as watch, watch.mailbox(app_id="app-1") as mailbox:
            with pytest.raises(RuntimeError, match="the watch on the Docker daemon has failed"):
                await until(mailbox, RUNS, clock)
            with watches.on("d", connect) as again, again.mailbox(app_id="app-1") as other:
                await until(other, RUNS, clock)

    run(scenario(), clock)


def test_calls_have_the_context_of_their_wait(watches: Watches, clock: ManualClock) -> None:
    """Airflow routes the log lines of a trigger by its context; each wait has its own."""
    engine, app = daemon(), contextvars.ContextVar("app", default="")

    async def asked(watch: Watch, name: str) -> list[str]:
        app.set(name)
        return [await watch.ask(lambda _: app.get()), await watch.observe(lambda _: app.get())]

    async def scenario() -> None:
        with watches.on("d", lambda: engine) as watch:
            found = await asyncio.gather(asked(watch, "app-1"), asked(watch, "app-2"))
            assert [["app-1"] * 2, ["app-2"] * 2] == [*found]

    run(scenario(), clock)
