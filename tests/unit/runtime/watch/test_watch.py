"""One watch on a daemon, on a fake one."""

from __future__ import annotations

import asyncio
import threading
import time
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

import pytest

from airflow_torchx.core.state.describe import replicas_of
from airflow_torchx.errors import EngineError, EngineUnreachableError
from airflow_torchx.runtime import lifecycle
from airflow_torchx.runtime.watch import AppSnapshot, DaemonDown, Watches, subscriptions, watch
from airflow_torchx.specs import AppState
from airflow_torchx.testing import FakeEngine, Program
from airflow_torchx.testing.stream import FakeEvents
from tests.unit.runtime.watch.apps import (
    FOREVER,
    eventually,
    launch,
    run,
    shows,
    states,
    threads,
    until,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.testing import Verb

ENDED, RUNS = shows(AppState.SUCCEEDED), shows(AppState.RUNNING)


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a watch do sooner what it does some time later."""
    monkeypatch.setattr(watch, "_TICK_S", 0.05)
    monkeypatch.setattr(subscriptions, "_SECOND_SWEEP_S", 0.2)


@pytest.fixture
def watches() -> Iterator[Watches]:
    """Return watches of which no thread is left at the end of a test."""
    yield Watches(linger_s=0)

    run(eventually(lambda: not threads()))


def daemon(**kwargs: object) -> FakeEngine:
    """Return a fake daemon whose containers run until they are stopped."""
    return FakeEngine(images=["busybox"], **{"programs": FOREVER, **kwargs})  # type: ignore[arg-type]


def test_end_of_an_app(watches: Watches) -> None:
    """An app is seen at once, and again when it has changed, with what failed and why."""
    engine = daemon()
    launch(engine, replicas=2)

    async def scenario() -> None:
        with watches.on("d", lambda: engine) as watch, watch.mailbox(app_id="app-1") as mailbox:
            await until(mailbox, RUNS)
            engine.end("trainer/0")
            engine.end("trainer/1", 137, oom_killed=True)
            seen = await until(mailbox, shows(AppState.FAILED))
            assert isinstance(seen, AppSnapshot)
            assert seen.app is not None
            assert seen.app == lifecycle.observe(engine, "app-1")
            assert [False, True] == [r.oom_killed for r in replicas_of(seen.app)]
            lifecycle.delete(engine, "app-1")
            await until(mailbox, shows(None))

    run(scenario())


def test_an_app_that_is_not_there(watches: Watches) -> None:
    """That is seen too, and when it appears."""
    engine = daemon()

    async def scenario() -> None:
        with watches.on("d", lambda: engine) as watch, watch.mailbox(app_id="app-1") as mailbox:
            await until(mailbox, shows(None))
            launch(engine)
            await until(mailbox, RUNS)

    run(scenario())


def test_many_share_one_stream_and_few_looks(watches: Watches) -> None:
    """A hundred apps that begin to be waited for at once take one stream and few lists."""
    engine = daemon()
    for index in range(100):
        launch(engine, f"app-{index}")
    engine.calls.clear()

    joined, everybody = count(1), threading.Event()

    def connect() -> FakeEngine:
        # What comes due before the first answer is looked at together.
        everybody.wait(30)
        return engine

    async def wait(index: int) -> None:
        with (
            watches.on("d", connect) as watch,
            watch.mailbox(app_id=f"app-{index}") as mailbox,
        ):
            if next(joined) == 100:
                everybody.set()
            await until(mailbox, RUNS)
            await asyncio.sleep(0.4)

    async def scenario() -> None:
        await asyncio.gather(*map(wait, range(100)))

    run(scenario())

    assert 1 == engine.calls.count("events")
    assert engine.calls.count("rows") < 10


def test_all_who_wait_for_an_app_are_told(watches: Watches) -> None:
    """Several may wait for the same one, on several event loops."""
    engine, all_see_it = daemon(), threading.Barrier(2)
    launch(engine)

    async def wait() -> None:
        with (
            watches.on("d", lambda: engine) as watch,
            watch.mailbox(app_id="app-1") as one,
            watch.mailbox(app_id="app-1") as other,
        ):
            await until(one, RUNS)
            all_see_it.wait(10)
            engine.end("trainer/0")
            await until(one, ENDED)
            await until(other, ENDED)

    several = [threading.Thread(target=run, args=(wait(),)) for _ in range(2)]
    for thread in several:
        thread.start()
    for thread in several:
        thread.join()

    assert 1 == engine.calls.count("events")


def test_an_app_whose_replicas_all_die_takes_few_looks(watches: Watches) -> None:
    """Its 64 ends within a moment are looked at together."""
    engine = daemon()
    launch(engine, replicas=64)

    async def scenario() -> None:
        with watches.on("d", lambda: engine) as watch, watch.mailbox(app_id="app-1") as mailbox:
            await until(mailbox, RUNS)
            await asyncio.sleep(0.4)
            engine.calls.clear()
            for index in range(64):
                engine.end(f"trainer/{index}")
                await asyncio.sleep(0.005)
            await until(mailbox, ENDED)

    run(scenario())

    assert 2 <= engine.calls.count("rows") < 15


def test_a_daemon_that_hangs_holds_up_no_loop(watches: Watches) -> None:
    """A list without an answer lets everything else on the event loop go on."""
    release = threading.Event()
    engine = daemon()
    launch(engine)

    def hang(verb: Verb, _: str) -> None:
        if verb == "rows":
            release.wait(20)

    engine.before = hang

    async def scenario() -> None:
        with watches.on("d", lambda: engine) as watch, watch.mailbox(app_id="app-1") as mailbox:
            for _ in range(20):
                assert await mailbox.next(0.01) is None
            asked = asyncio.create_task(watch.ask(lambda daemon: daemon.info().cpus))
            assert 64 == await asked
            release.set()
            await until(mailbox, RUNS)

    run(scenario())


def test_an_inspect_that_fails_hides_no_end(watches: Watches) -> None:
    """The list alone tells that an app has failed; the cause is left out."""
    engine = daemon()
    launch(engine)
    engine.fail_next("inspect", EngineUnreachableError("stuck"), times=9)

    async def scenario() -> None:
        with watches.on("d", lambda: engine) as watch, watch.mailbox(app_id="app-1") as mailbox:
            await until(mailbox, RUNS)
            engine.end("trainer/0", 3)
            await until(mailbox, shows(AppState.FAILED))

    run(scenario())


def test_a_daemon_that_comes_later(watches: Watches) -> None:
    """It is waited for; who waits is told meanwhile that nobody answers."""
    engine = daemon()
    launch(engine)
    engine.down = True

    def connect() -> FakeEngine:
        engine.info()
        return engine

    async def scenario() -> None:
        with watches.on("d", connect) as watch, watch.mailbox(app_id="app-1") as mailbox:
            away = await until(mailbox, lambda notification: isinstance(notification, DaemonDown))
            assert isinstance(away, DaemonDown)
            assert "no Docker Engine answers: the fake one is down." == away.why.what
            engine.down = False
            await until(mailbox, RUNS)

    run(scenario())


@pytest.mark.parametrize("outage_s", [0.0, 0.7])
def test_a_reconnect_misses_nothing(watches: Watches, outage_s: float) -> None:
    """What ended while the stream was cut is seen when it is open again."""
    engine = daemon()
    launch(engine)

    async def scenario() -> None:
        with watches.on("d", lambda: engine) as watch, watch.mailbox(app_id="app-1") as mailbox:
            await until(mailbox, RUNS)
            engine.down = True
            engine.end("trainer/0")
            await asyncio.sleep(outage_s)
            engine.down = False
            await until(mailbox, ENDED)

    run(scenario())

    assert 2 <= engine.calls.count("events")


def test_a_daemon_that_tells_no_events(watches: Watches, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its apps are looked at every few seconds."""
    monkeypatch.setattr(subscriptions, "BLIND_SWEEP_S", 0.1)
    engine = daemon()
    launch(engine)
    engine.fail_next("events", EngineError("forbidden", status=403), times=999)

    async def scenario() -> None:
        with watches.on("d", lambda: engine) as watch, watch.mailbox(app_id="app-1") as mailbox:
            await until(mailbox, RUNS)
            engine.end("trainer/0")
            await until(mailbox, ENDED)

    run(scenario())


class Mute(FakeEngine):
    """A daemon whose stream of events is open and dead, as one behind a router may be."""

    def events(self) -> FakeEvents:
        """Return a stream in which nothing comes."""
        super().events()
        return FakeEvents(tuple, lambda: time.sleep(0.01))


def test_a_stream_that_went_deaf(watches: Watches, monkeypatch: pytest.MonkeyPatch) -> None:
    """The look for safety's sake sees what it did not tell, and has it opened anew."""
    monkeypatch.setattr(subscriptions, "SWEEP_S", 0.2)
    engine = Mute(images=["busybox"], programs=FOREVER)
    launch(engine)

    async def scenario() -> None:
        with watches.on("d", lambda: engine) as watch, watch.mailbox(app_id="app-1") as mailbox:
            await until(mailbox, RUNS)
            await asyncio.sleep(0.3)
            assert 1 == engine.calls.count("events")
            engine.end("trainer/0")
            await until(mailbox, ENDED)
            await asyncio.sleep(0.5)

    run(scenario())

    assert 2 == engine.calls.count("events")


def test_a_watch_lingers() -> None:
    """Who comes soon after the last one left finds it still open; then its threads end."""
    watches, engine = Watches(linger_s=0.5), daemon()
    launch(engine)

    async def scenario() -> None:
        for _ in range(3):
            with watches.on("d", lambda: engine) as watch, watch.mailbox(app_id="app-1") as mailbox:
                await until(mailbox, RUNS)
            await asyncio.sleep(0.05)
        assert 1 == engine.calls.count("events")
        await eventually(lambda: not threads() and engine.closed)
        with watches.on("d", lambda: engine) as watch, watch.mailbox(app_id="app-1") as mailbox:
            await until(mailbox, RUNS)

    run(scenario())

    assert 2 == engine.calls.count("events")
    run(eventually(lambda: not threads()))


def test_one_watch_for_each_daemon(watches: Watches) -> None:
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
            await until(running, RUNS)
            await until(ended, ENDED)

    run(scenario())


def test_asking(watches: Watches) -> None:
    """A call is made in a thread of the watch, and its error is the caller's."""
    engine = daemon()
    launch(engine)

    async def scenario() -> None:
        with watches.on("d", lambda: engine) as watch:
            assert await watch.ask(partial(lifecycle.exists, app_id="app-1"))
            with pytest.raises(LookupError, match="nope"):
                await watch.ask(partial(lifecycle.cancel, app_id="nope"))

    run(scenario())


def test_a_call_outlives_its_caller(watches: Watches) -> None:
    """What was asked for is done to its end, and the watch stays as long."""
    engine, begun, release = daemon(), threading.Event(), threading.Event()
    launch(engine)

    def slowly(daemon: Engine) -> None:
        begun.set()
        release.wait(10)
        lifecycle.cancel(daemon, "app-1")

    async def scenario() -> None:
        with watches.on("d", lambda: engine) as watch:
            asked = asyncio.create_task(watch.ask(slowly))
            await eventually(begun.is_set)
            asked.cancel()
        await asyncio.sleep(0.4)
        assert not engine.closed
        release.set()
        await eventually(lambda: engine.closed)

    run(scenario())

    assert ["CANCELLED"] == states(engine)


def test_asking_a_daemon_that_is_away(watches: Watches, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is waited for some time, and then that is an error."""
    monkeypatch.setattr(watch, "_FIRST_ANSWER_S", 0.2)

    def connect() -> FakeEngine:
        raise EngineUnreachableError("away")

    async def scenario() -> None:
        with (
            watches.on("d", connect) as away,
            pytest.raises(EngineUnreachableError, match="has not answered"),
        ):
            await away.ask(lifecycle.apps)

    run(scenario())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_error_of_ours_is_no_endless_wait(watches: Watches) -> None:
    """Whoever waits is told, and who comes next begins anew."""
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
                await until(mailbox, RUNS)
            with watches.on("d", connect) as again, again.mailbox(app_id="app-1") as other:
                await until(other, RUNS)

    run(scenario())
