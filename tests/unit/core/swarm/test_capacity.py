"""Tests of what the nodes of a swarm have, and what is free there."""

from __future__ import annotations

import pytest

from airflow_torchx.core.swarm.capacity import (
    Amounts,
    Demand,
    demand,
    empty_rooms,
    largest,
    node_name,
    oldest_manager,
    rooms,
)
from tests.unit.core.swarm.swarm_json import MIB, Json, node, task


def test_what_runs_takes_room() -> None:
    """A task takes what it reserves until it has ended."""
    tasks = [task("a", cpus=1, gpus=1), task("a", cpus=2, state="complete")]

    (room,) = rooms([node("a", gpus=2)], tasks)

    assert ("3 CPUs, 1,024.0 MiB, 1 gpu") == room.free.text(["gpu"])


@pytest.mark.parametrize(
    "change",
    [{"Status": {"State": "down"}}, {"Spec": {"Availability": "drain"}}, {"Spec": {}}],
)
def test_nodes_that_take_no_replicas(change: Json) -> None:
    """A node that is down, drained or paused has no room."""
    assert [] == rooms([node("a") | change], [])


def test_nodes_that_may_take_replicas_later() -> None:
    """A node that is away counts with all that it has; one that a user drained does not."""
    away = node("a", gpus=2) | {"Status": {"State": "down"}}
    drained = node("b") | {"Spec": {"Availability": "drain"}}

    (room,) = empty_rooms([away, drained])

    assert "4 CPUs, 1,024.0 MiB, 2 gpu" == room.free.text(["gpu"])


def test_the_demand_of_a_service() -> None:
    """It is what its task reserves, and its constraints."""
    reserved = {"NanoCPUs": 10**9, "MemoryBytes": MIB}
    template = {
        "Placement": {"Constraints": ["node.role==worker"]},
        "Resources": {"Reservations": reserved},
    }

    found = demand({"Spec": {"TaskTemplate": template}})

    assert Demand(amounts=Amounts(10**9, MIB), constraints=("node.role==worker",)) == found
    assert Demand(amounts=Amounts()) == demand({"Spec": {"TaskTemplate": {}}})


def test_the_oldest_manager() -> None:
    """Versions are compared by their numbers, and only those of managers."""
    nodes = [node("a", ManagerStatus={}), node("b", ManagerStatus={"Leader": True}), node("c")]
    for one, version in zip(nodes, ["20.10.24+dfsg1", "9.0", "1.0"], strict=True):
        one["Description"]["Engine"]["EngineVersion"] = version

    assert "9.0" == oldest_manager(nodes)
    assert "" == oldest_manager([node("c")])
    assert "id-x" == node_name({"ID": "id-x"})


def test_the_largest_node() -> None:
    """CPUs and memory are those of nodes that take replicas; if none does, of all nodes."""
    away = node("big", cpus=9) | {"Status": {"State": "down"}}
    small = node("small", cpus=2)

    assert (2, 1024 * MIB) == largest([away, small])
    assert (9, 1024 * MIB) == largest([away])
    assert (0, 0) == largest([])
