"""Tries of a task, which share a place in the queue for GPUs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import pytest

from airflow_torchx.runtime.gpus.queue import Claim, GpuQueue, TicketLost
from tests.unit.runtime.gpus.scenes import CLAIM, TICKET, Scene, claimed, waits

if TYPE_CHECKING:
    from airflow_torchx.testing import Verb


@pytest.fixture
def scene() -> Scene:
    """Return a daemon with two GPUs."""
    return Scene()


def test_a_retry_takes_over_the_ticket(scene: Scene) -> None:
    """It has the place in the queue that the killed try had."""
    busy = scene.run("busy", "GPU-0", "GPU-1")
    waits(scene.queue("task").attempt())
    scene.clock.advance(1)
    waits(scene.queue("later").attempt())
    scene.engine.remove(busy)

    assert ("GPU-0",) == claimed(scene.queue("task").attempt())
    assert [f"{CLAIM}task", f"{TICKET}later"] == scene.names


def test_a_retry_takes_over_the_claim(scene: Scene) -> None:
    """It has the GPUs that the killed try had, and can hand them over."""
    first = scene.queue("task", 2).attempt()
    second = scene.queue("task", 2)

    assert first == second.attempt()
    assert isinstance(first, Claim)
    assert second.commit(first)


def test_a_retry_for_another_number_of_gpus(scene: Scene) -> None:
    """It does not use the claim or the ticket of the try before; it queues up again."""
    scene.queue("task", 2).attempt()
    assert ("GPU-0",) == claimed(scene.queue("task", 1).attempt())
    scene.run("busy", "GPU-1")
    waits(scene.queue("other").attempt())
    waits(scene.queue("late", 2).attempt())
    scene.clock.advance(1)

    step = waits(scene.queue("other", 2).attempt())

    assert [f"{TICKET}late"] == [one.name for one in step.ahead]
    assert 1 == scene.names.count(f"{TICKET}other")


def test_a_try_that_goes_on_keeps_what_it_handed_over(scene: Scene) -> None:
    """A retry does not take GPUs of a claim that was handed over before it could remove it."""
    first = scene.demand("task", 2)

    def go_on(verb: Verb, name: str) -> None:
        if verb == "create" and name == first.name("lock"):
            scene.engine.create(first.spec("claim", ids=["GPU-0", "GPU-1"], timeout_s=30))
        elif verb == "discard" and name == first.name("claim"):
            scene.engine.before = None
            scene.run("task", "GPU-0", "GPU-1")
            assert scene.engine.discard(name)

    scene.engine.before = go_on

    waits(scene.queue("task", 1).attempt())


def test_a_claim_that_a_user_has_started(scene: Scene) -> None:
    """It ends at once, and its app can still use it."""
    first = scene.queue("task").attempt()
    assert isinstance(first, Claim)
    scene.engine.start(first.container_id)
    scene.engine.end(first.container_id)

    assert first == scene.queue("task").attempt()


def test_an_app_that_may_not_join(scene: Scene) -> None:
    """It acts with the ticket that it has, and with nothing else."""
    with pytest.raises(TicketLost):
        scene.queue("a").attempt(may_join=False)
    assert [] == scene.names

    scene.run("busy", "GPU-0", "GPU-1")
    waits(scene.queue("a").attempt())
    scene.engine.remove("busy")

    assert ("GPU-0",) == claimed(scene.queue("a").attempt(may_join=False))
    assert ("GPU-0",) == claimed(scene.queue("a").attempt(may_join=False))


@pytest.mark.parametrize(
    ("verb", "name"), [("create", "airflow-torchx-gpu-lock"), ("discard", f"{TICKET}a")]
)
def test_a_place_that_is_removed_meanwhile(scene: Scene, verb: Verb, name: str) -> None:
    """An app that may not join gives its claim back if another client has removed its ticket."""
    scene.run("busy", "GPU-0", "GPU-1")
    waits(scene.queue("a").attempt())
    scene.engine.remove("busy")

    def remove(called: Verb, on: str) -> None:
        if (called, on) == (verb, name):
            scene.engine.before = None
            assert scene.engine.discard(f"{TICKET}a")

    scene.engine.before = remove

    with pytest.raises(TicketLost):
        scene.queue("a").attempt(may_join=False)
    assert [] == scene.names


@pytest.mark.parametrize("place", ["claim", "ticket"])
def test_two_tries_at_once(scene: Scene, place: Literal["claim", "ticket"]) -> None:
    """A try that finds the place of another try taken uses it."""
    if place == "ticket":
        scene.run("busy", "GPU-0", "GPU-1")
    other = scene.demand("task")
    ids = ["GPU-1"] if place == "claim" else []

    def create(verb: Verb, name: str) -> None:
        if (verb, name) == ("create", other.name(place)):
            scene.engine.before = None
            scene.engine.create(other.spec(place, ids=ids, timeout_s=30))

    scene.engine.before = create

    step = scene.queue("task").attempt()

    assert (("GPU-1",) if place == "claim" else ()) == (step.ids if isinstance(step, Claim) else ())
    assert 1 == scene.names.count(other.name(place))


def test_a_retry_with_other_gpus(scene: Scene) -> None:
    """A claim for GPUs that the connection does not select any more is replaced."""
    before = replace(scene.demand("a"), listed=("GPU-0",), reported=("GPU-0", "GPU-1"))
    after = replace(before, listed=("GPU-1",))

    assert ("GPU-0",) == claimed(GpuQueue(scene.engine, before).attempt())
    assert ("GPU-1",) == claimed(GpuQueue(scene.engine, after).attempt())
    assert [f"{CLAIM}a"] == scene.names
