"""Tests of placing apps as a whole, on a model of a swarm."""

from __future__ import annotations

import logging
import random
from functools import partial
from typing import Final

import pytest

from airflow_torchx.core.engine import labels
from airflow_torchx.core.plan.identity import cancelled_name
from airflow_torchx.core.swarm.gang import pause_s
from airflow_torchx.core.swarm.service_spec import started, stopped, unstarted
from airflow_torchx.swarm_engine.placing import _LOCK, BUSY, LOCK_S, Placing
from airflow_torchx.swarm_engine.shared_lists import KEEP_S
from tests.unit.core.swarm.swarm_json import node
from tests.unit.swarm_engine.model import ModelServices, die

THREE: Final = tuple(node(name, gpus=2) for name in "abc")


@pytest.fixture
def swarm() -> ModelServices:
    """Return a swarm of three nodes with two GPUs each."""
    return ModelServices(THREE)


def test_all_start_or_none(swarm: ModelServices) -> None:
    """An app that fits starts; the next one waits, is pending, and says why, until it fits."""
    swarm.add("a", 4)
    swarm.add("b", 3)
    first, second = Placing(swarm), Placing(swarm)

    assert "" == first.place("a")
    why = second.place("b")

    assert 4 == swarm.running("a")
    assert {"pending"} == swarm.states("b")
    assert "asked are 3 replicas with 0 CPUs, 0.0 MiB, 1 gpu each; 2 of 3 would fit" in why
    assert {f"Pending: {why}"} == {one.row().status for one in swarm.replicas({labels.APP_ID: "b"})}
    swarm.finish("a")
    swarm.later(KEEP_S)
    assert "" == second.place("b")
    assert {"running"} == swarm.states("b")


def test_a_reason_is_said_once(swarm: ModelServices, caplog: pytest.LogCaptureFixture) -> None:
    """The log has why an app waits when that changes, and not at each look."""
    swarm.add("a", 6)
    swarm.add("b", 3)
    Placing(swarm).place("a")
    placing = Placing(swarm)

    with caplog.at_level(logging.INFO):
        for _ in range(3):
            placing.place("b")
        swarm.lose("c")
        swarm.later(KEEP_S)
        placing.place("b")

    lines = [one.getMessage() for one in caplog.records if "waits for room" in one.getMessage()]
    assert 2 == len(lines)
    assert lines[0].endswith("Free are a: 4 CPUs, 1,024.0 MiB, 0 gpu; b: 4 CPUs, 1,024.0 MiB, 0 gpu"
                             "; c: 4 CPUs, 1,024.0 MiB, 0 gpu")  # fmt: skip


def test_an_app_that_is_still_created_is_left_alone(swarm: ModelServices) -> None:
    """A client that sees a part of the services of a launch starts none of them."""
    swarm.add("a", 2)
    del swarm.by_id["s2"]

    assert "" == Placing(swarm).place("a")
    assert "" == Placing(swarm).place("unknown")

    assert {"created"} == swarm.states("a")


def test_a_service_with_the_name_of_the_lock(swarm: ModelServices) -> None:
    """One of another program is never removed; its name is asked for again."""
    swarm.add("a", 1)
    other = swarm.create({"Name": _LOCK, "Mode": {"Replicated": {"Replicas": 0}}}, _LOCK, {})

    for _ in range(3):
        assert BUSY == Placing(swarm).place("a")
        swarm.later(2 * LOCK_S)

    assert other in swarm.by_id
    swarm.delete(other)
    assert "" == Placing(swarm).place("a")


def test_an_app_that_is_being_stopped_is_left_alone(swarm: ModelServices) -> None:
    """Once one replica of it was asked to end, none is started."""
    swarm.add("a", 2)
    swarm.update("s2", lambda spec: stopped(spec, cancelled_name("a-trainer-1")))

    assert "" == Placing(swarm).place("a")

    assert 0 == swarm.running("a")


def test_what_the_swarm_places_in_another_way_is_pinned(swarm: ModelServices) -> None:
    """Two small replicas and a large one fit, but the swarm spreads the small ones.

    They are taken back at once, and the next attempt names a node for each.
    """
    swarm = ModelServices([node("a", gpus=2), node("b", gpus=2)])
    small = {labels.ROLES: '{"trainer": 2, "large": 1}'}
    swarm.add("x", 2, more=small)
    swarm.add("x", 1, gpus=2, role="large", more=small)
    # The large one is the last to be started if the swarm takes them in this order.
    placing = Placing(swarm)
    for one in ("s1", "s2"):
        swarm.start(one)
    assert ["id-a", "id-b"] == swarm.nodes_of("x")

    why = placing.place("x")

    assert "0 of 1 would fit" in why
    assert {"pending"} == swarm.states("x")
    assert why == placing.place("x")  # a pause comes first
    swarm.later(pause_s(1))
    assert "" == placing.place("x")
    assert 3 == swarm.running("x")
    constraints = [
        s["Spec"]["TaskTemplate"]["Placement"]["Constraints"] for s in swarm.of_apps("x")
    ]
    assert 3 == sum(len(one) for one in constraints)


def test_a_part_that_runs_is_taken_back_after_a_minute(
    swarm: ModelServices, caplog: pytest.LogCaptureFixture
) -> None:
    """The swarm has a minute to find room for the rest; then all of the app waits.

    The reason quotes the swarm, and says what is asked and free.
    """
    swarm.add("a", 7)
    for one in list(swarm.by_id):
        swarm.start(one)
    placing = Placing(swarm)

    why = placing.place("a")
    swarm.later(59)
    assert 6 == swarm.running("a")
    assert why == placing.place("a")
    swarm.later(2)
    with caplog.at_level(logging.INFO):
        placing.place("a")

    assert why.startswith("no suitable node (insufficient resources on 3 nodes); asked are 7")
    assert 0 == swarm.running("a")
    assert {"pending"} == swarm.states("a")
    assert "app a: taking back its replicas" in caplog.text


def test_the_pause_grows() -> None:
    """Between two attempts it doubles, up to five minutes."""
    assert [2, 4, 8, 16] == [pause_s(times) for times in (1, 2, 3, 4)]
    assert [300, 300] == [pause_s(times) for times in (9, 99)]


@pytest.mark.parametrize("is_part", [False, True])
def test_an_app_that_may_not_wait_so_long_fails(swarm: ModelServices, is_part: bool) -> None:
    """It fails with the reason, whether nothing or a part of it was started; nothing is left."""
    swarm.add("a", 7, more={labels.PENDING_TIMEOUT: "30"})
    placing = Placing(swarm)
    if is_part:
        for one in list(swarm.by_id):
            swarm.start(one)
    assert "6 of 7 would fit" in placing.place("a") or is_part
    swarm.later(29)
    assert placing.place("a")

    swarm.later(1)
    assert "" == placing.place("a")

    assert 0 == swarm.running("a")
    found = swarm.replicas({labels.APP_ID: "a"})
    assert {"created"} == {one.state for one in found}
    assert all(one.name.endswith(".failed") for one in found)
    errors = {one.detail().error for one in found}
    assert 1 == len(errors)
    assert errors.pop().startswith("no room within 30 s (pending_timeout_s")
    assert "" == placing.place("a")


@pytest.mark.parametrize(
    ("rule", "nodes"),
    [
        ({labels.PLACEMENT: "pack"}, ["id-a", "id-a"]),
        ({labels.MAX_PER_NODE: "1"}, ["id-a", "id-b"]),
        ({labels.PLACEMENT: "spread"}, ["id-a", "id-b"]),
    ],
)
def test_options_name_the_nodes(
    swarm: ModelServices, rule: dict[str, str], nodes: list[str]
) -> None:
    """What a swarm cannot do for several services is done by naming a node for each."""
    swarm.add("a", 2, more=rule)

    assert "" == Placing(swarm).place("a")

    assert nodes == swarm.nodes_of("a")


def test_a_pin_goes_when_a_replica_is_taken_back() -> None:
    """A replica that was pinned may go to any node afterwards; a user's constraint stays."""
    spec = {"TaskTemplate": {"Placement": {"Constraints": ["node.role==worker"]}}}

    pinned = started(spec, "n1")
    free = unstarted(pinned, "1 2026-08-01T00:00:00+00:00")

    def constraints(one: dict[str, object]) -> object:
        return one["TaskTemplate"]["Placement"]["Constraints"]  # type: ignore[index]

    assert ["node.role==worker", "node.id==n1"] == constraints(pinned)
    assert ["node.role==worker"] == constraints(free)
    assert {labels.SWARM_TAKEN_BACK: "1 2026-08-01T00:00:00+00:00"} == free["Labels"]


def test_a_round_is_placed_as_a_whole(swarm: ModelServices) -> None:
    """The clones of a restart wait until all of them fit; those before them do not count."""
    swarm.add("a", 4)
    swarm.add("b", 3)
    placing = Placing(swarm)
    placing.place("a")
    for one in swarm.of_apps("a"):
        swarm.update(one["ID"], lambda spec: stopped(spec, "a-trainer.restarting"))
    swarm.finish("a")
    assert "" == placing.place("b")
    swarm.add("a", 4, number=1, more={labels.ROUND_ROLES: '["trainer"]'})

    assert "3 of 4 would fit" in placing.place("a")
    assert 0 == swarm.running("a")

    swarm.finish("b")
    swarm.later(KEEP_S)
    assert "" == placing.place("a")
    assert 4 == swarm.running("a")


@pytest.mark.parametrize("lives", range(12))
def test_the_next_client_goes_on(swarm: ModelServices, lives: int) -> None:
    """A client is killed before each change; another one starts the app once the lock is old."""
    swarm.add("a", 4, more={labels.PLACEMENT: "spread"})

    was_killed = die(swarm, lives, lambda: Placing(swarm).place("a"))

    assert was_killed is (lives < 6)  # the lock, four starts, the end of the lock
    swarm.later(61)
    other = Placing(swarm)
    other.place("a")
    other.place("a")
    assert 4 == swarm.running("a")
    assert {"running"} == swarm.states("a")


@pytest.mark.parametrize("lives", range(12))
def test_the_next_client_finishes_what_is_taken_back(swarm: ModelServices, lives: int) -> None:
    """A client is killed while it takes a part back; another one gives the room away."""
    swarm.add("a", 7)
    swarm.add("b", 6)
    for one in list(swarm.by_id)[:7]:
        swarm.start(one)
    swarm.later(61)

    die(swarm, lives, lambda: Placing(swarm).place("a"))

    swarm.later(61)
    placing = Placing(swarm)
    for app_id in ("a", "a", "b", "b"):
        placing.place(app_id)
    assert 0 == swarm.running("a")
    assert 6 == swarm.running("b")


def test_two_apps_never_hold_each_others_room() -> None:
    """In 50 rounds, two apps that fit one by one both end, whatever client looks when.

    Clients are killed, too. No other client leaves a part of an app running.
    """
    chance = random.Random(0)  # noqa: S311 - a test
    for _ in range(50):
        swarm = ModelServices(THREE)
        needs = {name: chance.randint(4, 6) for name in "ab"}
        for name, count in needs.items():
            swarm.add(name, count)
        left = set(needs)
        for _ in range(200):
            name = chance.choice(sorted(left))
            client = Placing(swarm)
            was_killed = die(swarm, chance.choice([0, 3, 99, 99]), partial(client.place, name))
            # A client that was killed before may still have the lock.
            is_free = not any(one["Spec"]["Name"] == _LOCK for one in swarm.by_id.values())
            assert was_killed or not is_free or swarm.running(name) in {0, needs[name]}
            swarm.later(chance.choice([0, 1, 61]))
            if swarm.running(name) == needs[name] and chance.random() < 0.5:
                swarm.finish(name)
                left.discard(name)
            if not left:
                break
        assert not left
