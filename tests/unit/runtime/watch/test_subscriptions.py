"""What is due when, and who is told what."""

from __future__ import annotations

import asyncio
import gc
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from airflow_torchx.core.engine import labels
from airflow_torchx.core.engine.containers import ContainerEvent, ContainerRow
from airflow_torchx.errors import EngineUnreachableError
from airflow_torchx.runtime.watch import AppList, AppSnapshot, DaemonDown, Mailbox
from airflow_torchx.runtime.watch.subscriptions import BLIND_SWEEP_S, SWEEP_S, Subscriptions
from airflow_torchx.specs import DescribeAppResponse
from airflow_torchx.testing import ManualClock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from airflow_torchx.runtime.watch import Notification

NOTHING: frozenset[str] = frozenset()
A, B = frozenset("a"), frozenset("b")


@pytest.fixture
def clock() -> ManualClock:
    """Return a clock that stands still."""
    return ManualClock()


@pytest.fixture
def subscriptions(clock: ManualClock) -> Subscriptions:
    """Return a subscriptions on which everything that is due at the start was taken."""
    subscriptions = Subscriptions(clock)
    subscriptions.streaming(on=True)
    clock.advance(2)
    return subscriptions


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """Return an event loop."""
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def event(app_id: str, action: str = "die", container_id: str = "c", **kw: Any) -> ContainerEvent:  # noqa: ANN401 - fields
    """Return an event of an app."""
    fields = {"app_name": "", "time_ns": 1, **kw}
    return ContainerEvent(app_id=app_id, action=action, container_id=container_id, **fields)


def row(state: str, container_id: str = "c", **own: str) -> ContainerRow:
    """Return a row of an app."""
    return ContainerRow(
        id=container_id,
        name=container_id,
        image="i",
        state=state,
        status="Exited (0) now" if state == "exited" else "Up",
        labels=own,
        created_at=datetime.fromtimestamp(0, UTC),
    )


def settled(subscriptions: Subscriptions, mailbox: Mailbox, *app_ids: str) -> None:
    """Let somebody wait for apps that are looked at once and run."""
    for app_id in app_ids:
        subscriptions.add(mailbox, app_id=app_id)
    taken = subscriptions.take(0)
    assert taken is None or frozenset(app_ids) == taken
    subscriptions.swept({app_id: [row("running")] for app_id in app_ids})
    for app_id in app_ids:
        subscriptions.deliver(AppSnapshot(app_id, None))


def read(loop: asyncio.AbstractEventLoop, mailbox: Mailbox) -> list[Notification]:
    """Return what a mailbox was told."""

    async def notifications() -> list[Notification]:
        found = []
        while (notification := await mailbox.next(0.01)) is not None:
            found.append(notification)
        return found

    return loop.run_until_complete(notifications())


def test_a_new_app_is_due(subscriptions: Subscriptions, loop: asyncio.AbstractEventLoop) -> None:
    """Who begins to wait is served by the next look."""
    subscriptions.add(Mailbox(loop), app_id="a")
    assert subscriptions.take(0) is None
    assert NOTHING == subscriptions.take(0)

    subscriptions.add(Mailbox(loop), app_id="b")
    assert B == subscriptions.take(0)


def test_an_event_makes_its_app_due(
    subscriptions: Subscriptions, clock: ManualClock, loop: asyncio.AbstractEventLoop
) -> None:
    """And no other one; of apps for which nobody waits nothing is known."""
    settled(subscriptions, Mailbox(loop), "a", "b")
    clock.advance(1)
    subscriptions.note(event("b"))
    subscriptions.note(event("stranger"))

    assert B == subscriptions.take(0)
    assert NOTHING == subscriptions.take(0)


@pytest.mark.parametrize(
    ("since", "age_s", "due"),
    [([], 0.1, A), ([event("a", "start")], 0.1, NOTHING), ([event("b", "die", "d")], 11, NOTHING)],
    ids=["lately", "started-again", "long-ago"],
)
def test_an_end_that_was_told_before_anybody_waited(
    subscriptions: Subscriptions,
    clock: ManualClock,
    loop: asyncio.AbstractEventLoop,
    since: list[ContainerEvent],
    age_s: float,
    due: frozenset[str],
) -> None:
    """The first look may not show it yet, and no further event comes: so there is another look."""
    subscriptions.note(event("a"))
    clock.advance(age_s)
    for later in since:
        subscriptions.note(later)
    settled(subscriptions, Mailbox(loop), "a")
    clock.advance(0.1)

    assert due == subscriptions.take(0)


def test_events_come_together(
    subscriptions: Subscriptions, clock: ManualClock, loop: asyncio.AbstractEventLoop
) -> None:
    """The 64 replicas of an app that die within 0.1 s of a look bring one more look."""
    settled(subscriptions, Mailbox(loop), "a")
    for index in range(64):
        subscriptions.note(event("a", container_id=str(index)))

    assert NOTHING == subscriptions.take(0)
    clock.advance(0.11)
    assert A == subscriptions.take(0)
    clock.advance(0.11)
    assert NOTHING == subscriptions.take(0)


def test_a_list_that_lags_is_read_again(
    subscriptions: Subscriptions, clock: ManualClock, loop: asyncio.AbstractEventLoop
) -> None:
    """Docker tells an end before it lists it: looks follow until it does, ever later."""
    settled(subscriptions, Mailbox(loop), "a")
    subscriptions.note(event("a"))
    clock.advance(0.11)
    assert A == subscriptions.take(0)
    subscriptions.changed({"a"}, {"a": [row("running")]})
    assert NOTHING == subscriptions.take(0)
    clock.advance(0.021)
    assert A == subscriptions.take(0)
    subscriptions.changed({"a"}, {"a": [row("running")]})
    clock.advance(0.021)
    assert NOTHING == subscriptions.take(0)
    clock.advance(0.006)
    assert A == subscriptions.take(0)
    subscriptions.changed({"a"}, {"a": [row("exited")]})
    clock.advance(10)

    assert NOTHING == subscriptions.take(0)


def test_a_list_that_lags_for_ever_is_left_to_the_sweeps(
    subscriptions: Subscriptions, clock: ManualClock, loop: asyncio.AbstractEventLoop
) -> None:
    """A container that was started again unseen is not looked at for ever."""
    settled(subscriptions, Mailbox(loop), "a")
    subscriptions.note(event("a"))
    looks = 0
    for _ in range(6000):
        clock.advance(0.01)
        if subscriptions.take(0) == A:
            looks += 1
            subscriptions.changed({"a"}, {"a": [row("running")]})

    assert 20 < looks < 30


def test_a_start_ends_the_waiting_for_an_end(
    subscriptions: Subscriptions, clock: ManualClock, loop: asyncio.AbstractEventLoop
) -> None:
    """A container that its daemon restarts runs, as the list says."""
    settled(subscriptions, Mailbox(loop), "a")
    subscriptions.note(event("a", "die"))
    subscriptions.note(event("a", "start"))
    clock.advance(0.11)
    assert A == subscriptions.take(0)
    subscriptions.changed({"a"}, {"a": [row("running")]})
    clock.advance(10)

    assert NOTHING == subscriptions.take(0)


def test_a_removal_is_looked_at_later(
    subscriptions: Subscriptions, clock: ManualClock, loop: asyncio.AbstractEventLoop
) -> None:
    """Half removed, an app that had succeeded would look like one that lost replicas."""
    settled(subscriptions, Mailbox(loop), "a")
    clock.advance(1)
    subscriptions.note(event("a", "destroy"))

    assert NOTHING == subscriptions.take(0)
    clock.advance(0.51)
    assert A == subscriptions.take(0)


def test_sweeps(clock: ManualClock, loop: asyncio.AbstractEventLoop) -> None:
    """All are looked at when the stream opens, a second later, and then once a minute."""
    subscriptions = Subscriptions(clock)
    subscriptions.add(Mailbox(loop), app_id="a")
    assert A == subscriptions.take(0)
    subscriptions.streaming(on=True)

    assert subscriptions.take(0) is None
    assert NOTHING == subscriptions.take(0)
    clock.advance(1.1)
    assert subscriptions.take(0) is None
    clock.advance(SWEEP_S - 1)
    assert NOTHING == subscriptions.take(0)
    clock.advance(1.1)
    assert subscriptions.take(0) is None


def test_sweeps_without_events(
    subscriptions: Subscriptions, clock: ManualClock, loop: asyncio.AbstractEventLoop
) -> None:
    """While no events come, all are looked at every few seconds."""
    settled(subscriptions, Mailbox(loop), "a")
    subscriptions.streaming(on=False)
    assert NOTHING == subscriptions.take(0)
    for _ in range(3):
        clock.advance(BLIND_SWEEP_S + 0.1)
        assert subscriptions.take(0) is None


def test_nobody_waits(subscriptions: Subscriptions, clock: ManualClock) -> None:
    """Then nothing is due."""
    clock.advance(SWEEP_S + 1)

    assert NOTHING == subscriptions.take(0)


def test_only_changes_are_told(
    subscriptions: Subscriptions, loop: asyncio.AbstractEventLoop
) -> None:
    """Of an app that is as before nobody is told, except who has just come."""
    settled(subscriptions, Mailbox(loop), "a", "b")
    up = {"a": [row("running")], "b": [row("running")]}

    assert [] == subscriptions.swept(up)
    assert ["a"] == subscriptions.swept({**up, "a": [row("paused")]})
    subscriptions.add(Mailbox(loop), app_id="b")
    assert ["b"] == subscriptions.changed({"b"}, up)
    assert ["a"] == subscriptions.changed({"a"}, {})


def test_deaf_stream(
    subscriptions: Subscriptions, clock: ManualClock, loop: asyncio.AbstractEventLoop
) -> None:
    """A look for safety's sake that finds news means that the events do not come any more."""
    settled(subscriptions, Mailbox(loop), "a")
    deaf = []
    for state in ("running", "exited"):
        clock.advance(SWEEP_S + 1)
        assert subscriptions.take(0) is None
        subscriptions.swept({"a": [row(state)]})
        deaf.append(subscriptions.missed_events)
    subscriptions.streaming(on=True)
    deaf.append(subscriptions.missed_events)
    assert subscriptions.take(0) is None
    subscriptions.swept({"a": []})
    deaf.append(subscriptions.missed_events)

    assert [False, True, False, False] == deaf


def test_outage_is_told_once(subscriptions: Subscriptions, loop: asyncio.AbstractEventLoop) -> None:
    """To all who wait, and after it everybody is told how things are."""
    mailbox, latecomer = Mailbox(loop), Mailbox(loop)
    settled(subscriptions, mailbox, "a")
    read(loop, mailbox)
    why = EngineUnreachableError("away")
    subscriptions.failed(why)
    told = read(loop, mailbox)
    subscriptions.add(latecomer, app_id="b")
    subscriptions.failed(EngineUnreachableError("still away"))

    assert [why] == [
        notification.why for notification in told if isinstance(notification, DaemonDown)
    ]
    assert told == read(loop, latecomer)
    assert [] == read(loop, mailbox)
    subscriptions.answered()
    assert subscriptions.take(0) is None
    assert ["a", "b"] == subscriptions.swept({"a": [row("running")]})


def test_who_left_is_told_nothing(
    subscriptions: Subscriptions, loop: asyncio.AbstractEventLoop
) -> None:
    """And costs nothing."""
    mailbox, other = Mailbox(loop), Mailbox(loop)
    settled(subscriptions, mailbox, "a")
    read(loop, mailbox)
    subscriptions.add(other, app_id="a")
    subscriptions.drop(mailbox)
    subscriptions.deliver(AppSnapshot("a", None))

    assert [] == read(loop, mailbox)
    assert [AppSnapshot("a", None)] == read(loop, other)
    subscriptions.drop(other)
    subscriptions.note(event("a"))
    subscriptions.streaming(on=True)
    assert NOTHING == subscriptions.take(0)


def test_apps_of_a_name(
    subscriptions: Subscriptions, clock: ManualClock, loop: asyncio.AbstractEventLoop
) -> None:
    """They are found by looks and by events, and forgotten when they are gone."""
    mailbox = Mailbox(loop, follows_name=True)
    subscriptions.add(mailbox, app_name="trainer")
    assert subscriptions.take(0) is None
    mine, other = {labels.APP_NAME: "trainer"}, {labels.APP_NAME: "other"}
    rows = {"a": [row("running", **mine)], "x": [row("running", **other)]}
    assert ["a"] == subscriptions.swept(rows)
    subscriptions.deliver(AppSnapshot("a", None))
    subscriptions.deliver_list(rows)
    assert [AppSnapshot("a", None), AppList(frozenset({"a"}))] == read(loop, mailbox)

    subscriptions.note(event("b", "create", app_name="trainer"))
    subscriptions.note(event("y", "create", app_name="other"))
    clock.advance(0.1)
    assert B == subscriptions.take(0)
    assert ["b"] == subscriptions.changed({"b"}, {"b": [row("created")]})
    subscriptions.deliver(AppSnapshot("b", None))
    subscriptions.drop(mailbox)
    subscriptions.streaming(on=True)
    assert NOTHING == subscriptions.take(0)


def steps_of_an_event(apps: int, loop: asyncio.AbstractEventLoop) -> int:
    """Return how many steps of the interpreter an event takes while so many apps are waited for."""
    subscriptions, mailbox, steps = Subscriptions(ManualClock()), Mailbox(loop), 0
    settled(subscriptions, mailbox, *(f"app-{index}" for index in range(apps)))

    def count(frame: FrameType, what: str, _: object) -> Any:  # noqa: ANN401 - itself
        nonlocal steps
        frame.f_trace_opcodes = True
        steps += what == "opcode"
        return count

    before = sys.gettrace()
    # What the collector finalizes in the middle would be counted too.
    gc.disable()
    sys.settrace(count)
    try:
        subscriptions.note(event("app-7"))
    finally:
        sys.settrace(before)
        gc.enable()
    return steps


def test_cost_of_an_event(loop: asyncio.AbstractEventLoop) -> None:
    """It is the same with ten waiting apps and with ten thousand."""
    assert 100 < steps_of_an_event(10, loop) == steps_of_an_event(10_000, loop)


def test_newest_sights(loop: asyncio.AbstractEventLoop) -> None:
    """Of each app only the newest is read, and an outage that is over not at all."""
    mailbox, away = Mailbox(loop), DaemonDown(1.0, EngineUnreachableError("away"))
    app = DescribeAppResponse("b")
    for notification in (
        AppSnapshot("a", None),
        away,
        AppSnapshot("b", None),
        AppSnapshot("b", app),
        AppSnapshot("a", None),
        away,
    ):
        mailbox.put(notification)

    assert [AppSnapshot("a", None), AppSnapshot("b", app), away] == read(loop, mailbox)


def test_closed(subscriptions: Subscriptions, loop: asyncio.AbstractEventLoop) -> None:
    """Whoever waits, or comes later, gets an error and does not wait for ever."""
    mailbox, latecomer = Mailbox(loop), Mailbox(loop)
    subscriptions.add(mailbox, app_id="a")
    subscriptions.close(ValueError("broken"))
    subscriptions.add(latecomer, app_id="a")

    assert NOTHING == subscriptions.take(9)
    for one in (mailbox, latecomer):
        with pytest.raises(RuntimeError, match="the watch on the Docker daemon has failed"):
            read(loop, one)
