"""Tests of whether an app fits on the nodes of a swarm."""

from __future__ import annotations

from typing import Any, Final

import pytest

from airflow_torchx.core.swarm.capacity import (
    Amounts,
    Demand,
    demand,
    largest,
    node_name,
    oldest_manager,
    rooms,
    why_not,
)

Json = dict[str, Any]

MIB: Final = 1 << 20


def _node(name: str, *, cpus: int = 4, gpus: int = 0, **more: Any) -> Json:  # noqa: ANN401 - any JSON
    generic = [{"NamedResourceSpec": {"Kind": "gpu", "Value": f"{name}-{i}"}} for i in range(gpus)]
    return {
        "ID": f"id-{name}",
        "Spec": {"Availability": "active", "Role": "worker", "Labels": more.pop("labels", {})},
        "Status": {"State": "ready"},
        "Description": {
            "Hostname": name,
            "Platform": {"OS": "linux", "Architecture": "x86_64"},
            "Engine": {"EngineVersion": "29.7.2", "Labels": {"disk": "ssd"}},
            "Resources": {
                "NanoCPUs": cpus * 10**9,
                "MemoryBytes": 1024 * MIB,
                "GenericResources": generic,
            },
        },
        **more,
    }


def _task(node: str, *, cpus: float = 0, gpus: int = 0, state: str = "running") -> Json:
    generic = [{"DiscreteResourceSpec": {"Kind": "gpu", "Value": gpus}}]
    reserved = {"NanoCPUs": int(cpus * 10**9), "GenericResources": generic if gpus else None}
    return {
        "NodeID": f"id-{node}",
        "Status": {"State": state},
        "Spec": {"Resources": {"Reservations": reserved}},
    }


def _demands(count: int, *constraints: str, cpus: float = 0, gpus: int = 0) -> list[Demand]:
    generic = (("gpu", gpus),) if gpus else ()
    amounts = Amounts(int(cpus * 10**9), 0, generic)
    return [Demand(amounts=amounts, constraints=constraints)] * count


def test_what_runs_takes_room() -> None:
    """A task takes what it reserves until it has ended."""
    tasks = [_task("a", cpus=1, gpus=1), _task("a", cpus=2, state="complete")]

    (room,) = rooms([_node("a", gpus=2)], tasks)

    assert ("3 CPUs, 1,024.0 MiB, 1 gpu") == room.free.text(["gpu"])


@pytest.mark.parametrize(
    "change",
    [{"Status": {"State": "down"}}, {"Spec": {"Availability": "drain"}}, {"Spec": {}}],
)
def test_nodes_that_take_no_replicas(change: Json) -> None:
    """A node that is down, drained or paused has no room."""
    assert [] == rooms([_node("a") | change], [])


@pytest.mark.parametrize(
    ("wanted", "fits"),
    [
        (_demands(6, gpus=1), True),
        (_demands(7, gpus=1), False),
        (_demands(3, gpus=2), True),
        (_demands(1, gpus=3), False),
        # The large ones are placed first: in the other order they would not fit.
        (_demands(2, gpus=1) + _demands(2, gpus=2), True),
        (_demands(12, cpus=1), True),
        (_demands(3, cpus=2.5), True),
        (_demands(4, cpus=2.5), False),
        (_demands(100), True),
    ],
)
def test_packing(wanted: list[Demand], fits: bool) -> None:
    """Replicas fit if each has a node with enough of everything."""
    free = rooms([_node(name, gpus=2) for name in "abc"], [])

    assert fits is (not why_not(free, wanted))


@pytest.mark.parametrize(
    ("constraint", "fits"),
    [
        ("node.labels.gpu==a100", True),
        ("node.labels.gpu != a100", False),
        ("node.labels.gpu==h100", False),
        ("node.labels.none!=x", True),
        ("node.labels.none==x", False),
        ("node.hostname==A", True),  # Docker ignores case
        ("node.id==id-a", True),
        ("node.role==manager", False),
        ("node.platform.os==linux", True),
        ("engine.labels.disk==ssd", True),
        ("node.ip==10.0.0.0/8", True),  # not decided here
    ],
)
def test_constraints(constraint: str, fits: bool) -> None:
    """A constraint is read as Docker reads it; one that is unknown here is left to Docker."""
    free = rooms([_node("a", labels={"gpu": "a100"})], [])

    assert fits is (not why_not(free, _demands(1, constraint)))


def test_the_reason() -> None:
    """It says what is asked, how much of that would fit, and what is free where."""
    nodes = [_node("box1", gpus=1), _node("box2", gpus=2)]

    why = why_not(rooms(nodes, [_task("box2", gpus=1)]), _demands(3, "node.role==worker", gpus=1))

    assert (
        "3 replicas, one of which asks for 0 CPUs, 0.0 MiB, 1 gpu on nodes with node.role==worker; "
        "2 of them would fit. Free are box1: 4 CPUs, 1,024.0 MiB, 1 gpu; "
        "box2: 4 CPUs, 1,024.0 MiB, 1 gpu"
    ) == why
    assert why_not([], _demands(1)).startswith("1 replica, one of which")
    assert why_not([], _demands(1)).endswith("Free are no node")


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
    nodes = [_node("a", ManagerStatus={}), _node("b", ManagerStatus={"Leader": True}), _node("c")]
    for node, version in zip(nodes, ["20.10.24+dfsg1", "9.0", "1.0"], strict=True):
        node["Description"]["Engine"]["EngineVersion"] = version

    assert "9.0" == oldest_manager(nodes)
    assert "" == oldest_manager([_node("c")])
    assert "id-x" == node_name({"ID": "id-x"})


def test_the_largest_node() -> None:
    """CPUs and memory are those of nodes that take replicas; if none does, of all nodes."""
    away = _node("big", cpus=9) | {"Status": {"State": "down"}}
    small = _node("small", cpus=2)

    assert (2, 1024 * MIB) == largest([away, small])
    assert (9, 1024 * MIB) == largest([away])
    assert (0, 0) == largest([])
