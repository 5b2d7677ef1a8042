"""Tickets and claims of apps that ask for GPUs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from airflow_torchx.concurrency.parallel import StopRequested
from airflow_torchx.core.engine.containers import DISCARDED_PREFIX, GpuRequest
from airflow_torchx.runtime.gpus.queue import Claim, GpuQueue, Timeouts
from airflow_torchx.testing import ManualClock
from tests.unit.runtime.gpus.clients import replica
from tests.unit.runtime.gpus.scenes import CLAIM, TICKET, Scene, claimed, waits

if TYPE_CHECKING:
    from airflow_torchx.testing import Verb


@pytest.fixture
def scene() -> Scene:
    """Return a daemon with two GPUs."""
    return Scene()


def test_a_newcomer_claims_free_gpus(scene: Scene) -> None:
    """It leaves a claim, no ticket, and no lock."""
    assert ("GPU-0", "GPU-1") == claimed(scene.queue("a", 2).attempt())
    assert [f"{CLAIM}a"] == scene.names


def test_a_claim_holds_gpus(scene: Scene) -> None:
    """Another app gets other GPUs, or waits."""
    scene.queue("a").attempt()

    assert ("GPU-1",) == claimed(scene.queue("b").attempt())
    assert 2 == len(waits(scene.queue("c").attempt()).holders)


def test_an_app_that_waits_makes_one_request(scene: Scene) -> None:
    """The queue is looked at with one list, besides one inspect of each new ticket."""
    scene.run("busy", "GPU-0", "GPU-1")
    queue = scene.queue("a")
    queue.attempt()
    scene.engine.calls.clear()

    waits(queue.attempt())

    assert ["rows"] == scene.engine.calls


def test_apps_are_served_in_order(scene: Scene) -> None:
    """An app that needs many GPUs is not overtaken by one that needs few and comes later."""
    first = scene.run("first", "GPU-0")
    big, small = scene.queue("big", 2), scene.queue("small", 1)
    waits(big.attempt())
    scene.clock.advance(0.1)
    step = waits(small.attempt())

    assert [f"{TICKET}big"] == [one.name for one in step.ahead]
    assert step.served is None

    scene.engine.remove(first)
    waits(small.attempt())
    assert ("GPU-0", "GPU-1") == claimed(big.attempt())
    assert [f"{CLAIM}big", f"{TICKET}small"] == scene.names


def test_gpus_that_become_free_before_the_ticket(scene: Scene) -> None:
    """An app looks again after it has queued up, because nothing announces an earlier end."""
    busy = scene.run("busy", "GPU-0", "GPU-1")

    def end(verb: Verb, name: str) -> None:
        if verb == "create" and name.startswith(TICKET):
            scene.engine.remove(busy)

    scene.engine.before = end

    assert ("GPU-0",) == claimed(scene.queue("a").attempt())
    assert [f"{CLAIM}a"] == scene.names


def test_a_dead_app_is_passed_over(scene: Scene) -> None:
    """A waiting app removes an older ticket whose app does not take its GPUs in time."""
    busy = scene.run("busy", "GPU-0", "GPU-1")
    waits(scene.queue("dead", 2, Timeouts(ticket=60, claim=600)).attempt())
    scene.clock.advance(1)
    alive = scene.queue("alive")
    waits(alive.attempt())
    # The timeout begins when the GPUs are free.
    scene.clock.advance(100)
    scene.engine.remove(busy)

    assert 60 == waits(alive.attempt()).again_s
    scene.clock.advance(59)
    assert 1 == waits(alive.attempt()).again_s
    scene.clock.advance(1)

    assert ("GPU-0",) == claimed(alive.attempt())
    assert [f"{CLAIM}alive"] == scene.names


def test_a_claim_expires(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    """GPUs that a launch has claimed, and not used in time, go to an app that needs them."""
    lost = scene.queue("dead", 2)
    claim = lost.attempt()
    alive = scene.queue("alive")

    assert 1 == waits(alive.attempt()).again_s
    scene.clock.advance(31)

    assert ("GPU-0",) == claimed(alive.attempt())
    assert isinstance(claim, Claim)
    assert not lost.commit(claim)
    (text,) = caplog.messages
    assert "app dead has not started in time; its process was probably killed" in text
    assert f"Removing container {CLAIM}dead " in text


def test_a_late_claim_counts_while_nothing_else_needs_its_gpus(scene: Scene) -> None:
    """A slow launch goes on if there are other GPUs for those that wait."""
    slow = scene.queue("slow")
    claim = slow.attempt()
    scene.clock.advance(1000)

    assert ("GPU-1",) == claimed(scene.queue("b").attempt())
    assert isinstance(claim, Claim)
    assert slow.commit(claim)


def test_a_replica_that_has_not_started(scene: Scene) -> None:
    """It holds its GPUs for a minute, and is removed only if its GPUs are needed."""
    for index in (0, 1):
        scene.engine.create(replica(f"dead-{index}", [f"GPU-{index}"]))
    alive = scene.queue("alive")
    scene.clock.advance(59)
    waits(alive.attempt())
    scene.clock.advance(2)

    assert ("GPU-0",) == claimed(alive.attempt())
    assert [f"{CLAIM}alive", "dead-1"] == scene.names


def test_a_launch_that_goes_on_at_the_last_moment(scene: Scene) -> None:
    """A claim that is handed over before another client removes it keeps its GPUs."""
    slow = scene.queue("slow", 2)
    claim = slow.attempt()
    assert isinstance(claim, Claim)
    scene.clock.advance(31)

    def go_on(verb: Verb, name: str) -> None:
        if verb == "discard" and name == f"{CLAIM}slow":
            scene.engine.before = None
            created = scene.engine.create(replica("slow", claim.ids))
            assert slow.commit(claim)
            scene.engine.start(created)

    scene.engine.before = go_on

    waits(scene.queue("late").attempt())
    assert "slow" in scene.names


def test_a_claim_is_committed_once(scene: Scene) -> None:
    """The claim is gone after it; a second try cannot hand it over."""
    queue = scene.queue("a")
    claim = queue.attempt()
    assert isinstance(claim, Claim)

    assert [True, False] == [queue.commit(claim) for _ in range(2)]
    assert [] == scene.names


def test_a_client_that_lost_the_lock_gives_its_claim_back(scene: Scene) -> None:
    """Another client may have given away the same GPUs; the app then decides again."""
    other = scene.queue("other", 2)
    taken: list[str] = []

    def overtake(verb: Verb, name: str) -> None:
        if verb == "create" and name == f"{CLAIM}slow":
            scene.engine.before = None
            (lock,) = (row for row in scene.engine.rows({}) if row.name.endswith("lock"))
            scene.engine.discard(lock.id)
            taken.extend(claimed(other.attempt()))

    scene.engine.before = overtake

    waits(scene.queue("slow", 2).attempt())

    assert ["GPU-0", "GPU-1"] == taken
    assert [f"{CLAIM}other", f"{TICKET}slow"] == scene.names


def test_a_release_leaves_nothing_of_the_app(scene: Scene) -> None:
    """Ticket and claim of the app are removed, those of others are not, and it can be repeated."""
    first, second = scene.queue("a"), scene.queue("b", 2)
    first.attempt()
    second.attempt()

    for _ in range(2):
        second.release()
        assert [f"{CLAIM}a"] == scene.names
    first.release()

    assert [] == scene.names
    with pytest.raises(StopRequested):
        first.attempt()


def test_containers_of_other_programs_are_respected(scene: Scene) -> None:
    """A container of another program holds the GPUs that it requested while it runs."""
    requested = GpuRequest(count=1, device_ids=("GPU-1",))
    spec = replace(replica("notebook", ()), labels={}, gpus=requested)
    notebook = scene.engine.create(spec)
    assert ("GPU-0", "GPU-1") == claimed(scene.queue("a", 2).attempt())
    scene.queue("a").release()
    scene.engine.start(notebook)

    step = waits(scene.queue("a", 2).attempt())

    assert [("notebook", ("GPU-1",))] == [(one.name, one.ids) for one in step.holders]
    wanted = replace(scene.demand("b", 2), respects_foreign=False)
    scene.queue("a", 2).release()
    claimed(GpuQueue(scene.engine, wanted).attempt())
    assert "notebook" in scene.engine.specs()


def test_a_container_with_all_gpus_is_warned_of(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    """A container of another program with all GPUs holds none, and is named in a warning."""
    spec = replace(replica("notebook", ()), labels={}, gpus=GpuRequest(count=-1))
    scene.engine.start(scene.engine.create(spec))

    claimed(scene.queue("a", 2).attempt())

    assert ["these containers may use the same GPUs, as they requested all: notebook"] == [
        record.getMessage() for record in caplog.records
    ]


def test_what_a_client_left_that_was_killed_at_a_removal(scene: Scene) -> None:
    """A container that has its last name holds nothing, and the next claim removes it."""
    left = scene.engine.create(scene.demand("dead").spec("claim", ids=["GPU-0"], timeout_s=30))
    scene.engine.rename(left, f"{DISCARDED_PREFIX}{left}")

    assert ("GPU-0",) == claimed(scene.queue("a").attempt())
    assert [f"{CLAIM}a"] == scene.names


def test_a_daemon_whose_clock_is_set_back(scene: Scene) -> None:
    """A claim that is younger than it looks by an earlier time of the daemon is respected."""
    clock = ManualClock()
    mine = GpuQueue(scene.engine, scene.demand("mine"), clock=clock, sleep=clock.sleep)
    scene.queue("first", 2).attempt()
    waits(mine.attempt())
    scene.queue("first", 2).release()
    scene.clock.advance(-1000)
    live = scene.queue("live", 2)
    claim = live.attempt()

    waits(mine.attempt())

    assert isinstance(claim, Claim)
    assert live.commit(claim)
