"""Which looks are due when, and which mailbox gets what."""

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
    """Return subscriptions with no look due."""
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
    fields = {"time_ns": 1, "name": container_id, **kw}
    found = {labels.APP_ID: app_id, labels.APP_NAME: fields.pop("app_name", "")}
    return ContainerEvent(labels=found, action=action, container_id=container_id, **fields)


def row(state: str, container_id: str = "c", **own: str) -> ContainerRow:
    """Return a container row of an app."""
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
    """Subscribe a mailbox to running apps that have been looked at once."""
    for app_id in app_ids:
        subscriptions.add(mailbox, app_id=app_id)
    taken = subscriptions.take(0)
    assert taken is None or frozenset(app_ids) == taken
    subscriptions.swept({app_id: [row("running")] for app_id in app_ids})
    for app_id in app_ids:
        subscriptions.deliver(AppSnapshot(app_id, None))


def read(loop: asyncio.AbstractEventLoop, mailbox: Mailbox) -> list[Notification]:
    """Return the notifications of a mailbox."""

    async def notifications() -> list[Notification]:
        found = []
        while (notification := await mailbox.next(0.01)) is not None:
            found.append(notification)
        return found

    return loop.run_until_complete(notifications())


def test_a_new_app_is_due(subscriptions: Subscriptions, loop: asyncio.AbstractEventLoop) -> None:
    """A new subscription makes its app due."""
    subscriptions.add(Mailbox(loop), app_id="a")
    assert subscriptions.take(0) is None
    assert NOTHING == subscriptions.take(0)

    subscriptions.add(Mailbox(loop), app_id="b")
    assert B == subscriptions.take(0)


def test_an_event_makes_its_app_due(
    subscriptions: Subscriptions, clock: ManualClock, loop: asyncio.AbstractEventLoop
) -> None:
    """An event makes its app due, and no other app."""
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
def test_an_end_reported_before_the_subscription(
    subscriptions: Subscriptions,
    clock: ManualClock,
    loop: asyncio.AbstractEventLoop,
    since: list[ContainerEvent],
    age_s: float,
    due: frozenset[str],
) -> None:
    """An end shortly before the subscription causes a second look, since the list may lag."""
    subscriptions.note(event("a"))
    clock.advance(age_s)
    for later in since:
        subscriptions.note(later)
    settled(subscriptions, Mailbox(loop), "a")
    clock.advance(0.1)

    assert due == subscriptions.take(0)


def test_events_are_batched(
    subscriptions: Subscriptions, clock: ManualClock, loop: asyncio.AbstractEventLoop
) -> None:
    """The events of 64 replicas within 0.1 s cause one look."""
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
    """After a "die" event looks repeat, less and less often, until the list shows the end."""
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


def test_looks_at_a_lagging_list_are_limited(
    subscriptions: Subscriptions, clock: ManualClock, loop: asyncio.AbstractEventLoop
) -> None:
    """The looks at a lagging list end after a while."""
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
    """A "start" event cancels the looks for an end."""
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
    """A "destroy" event causes a later look, when all containers are gone."""
    settled(subscriptions, Mailbox(loop), "a")
    clock.advance(1)
    subscriptions.note(event("a", "destroy"))

    assert NOTHING == subscriptions.take(0)
    clock.advance(0.51)
    assert A == subscriptions.take(0)


def test_sweeps(clock: ManualClock, loop: asyncio.AbstractEventLoop) -> None:
    """All apps are looked at when the stream opens, a second later, and once a minute."""
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
    """Without an event stream all apps are looked at every few seconds."""
    settled(subscriptions, Mailbox(loop), "a")
    subscriptions.streaming(on=False)
    assert NOTHING == subscriptions.take(0)
    for _ in range(3):
        clock.advance(BLIND_SWEEP_S + 0.1)
        assert subscriptions.take(0) is None


def test_without_subscriptions(subscriptions: Subscriptions, clock: ManualClock) -> None:
    """Without subscriptions nothing is due."""
    clock.advance(SWEEP_S + 1)

    assert NOTHING == subscriptions.take(0)


def test_only_changes_are_delivered(
    subscriptions: Subscriptions, loop: asyncio.AbstractEventLoop
) -> None:
    """An unchanged app is delivered only to new subscribers."""
    settled(subscriptions, Mailbox(loop), "a", "b")
    up = {"a": [row("running")], "b": [row("running")]}

    assert [] == subscriptions.swept(up)
    assert ["a"] == subscriptions.swept({**up, "a": [row("paused")]})
    subscriptions.add(Mailbox(loop), app_id="b")
    assert ["b"] == subscriptions.changed({"b"}, up)
    assert ["a"] == subscriptions.changed({"a"}, {})


def test_missed_events(
    subscriptions: Subscriptions, clock: ManualClock, loop: asyncio.AbstractEventLoop
) -> None:
    """A periodic look that finds a change means that the event stream is dead."""
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


def test_an_outage_is_delivered_once(
    subscriptions: Subscriptions, loop: asyncio.AbstractEventLoop
) -> None:
    """Each mailbox gets an outage once, and the state of its apps afterwards."""
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


def test_an_unsubscribed_mailbox_gets_nothing(
    subscriptions: Subscriptions, loop: asyncio.AbstractEventLoop
) -> None:
    """A mailbox gets nothing after it is unsubscribed."""
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
    """Apps of a name are found by looks and events, and dropped when they are gone."""
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
    """Return the number of bytecode steps of an event with this many subscribed apps."""
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
    """An event costs the same with ten and with ten thousand apps."""
    assert 100 < steps_of_an_event(10, loop) == steps_of_an_event(10_000, loop)


def test_only_the_newest_notification_is_kept(loop: asyncio.AbstractEventLoop) -> None:
    """A mailbox keeps the newest snapshot per app and drops an outage that is over."""
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
    """After close, present and future subscribers get an error."""
    mailbox, latecomer = Mailbox(loop), Mailbox(loop)
    subscriptions.add(mailbox, app_id="a")
    subscriptions.close(ValueError("broken"))
    subscriptions.add(latecomer, app_id="a")

    assert NOTHING == subscriptions.take(9)
    for one in (mailbox, latecomer):
        with pytest.raises(RuntimeError, match="the watch on the Docker daemon has failed"):
            read(loop, one)
