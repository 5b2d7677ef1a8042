"""Tests of on which nodes the replicas of an app fit together."""

from __future__ import annotations

from collections import Counter

import pytest

from airflow_torchx.core.engine import labels
from airflow_torchx.core.swarm.capacity import Amounts, Demand, rooms
from airflow_torchx.core.swarm.packing import Rules, fit, never_fits
from tests.unit.core.swarm.swarm_json import node, task


def _demands(count: int, *constraints: str, cpus: float = 0, gpus: int = 0) -> list[Demand]:
    generic = (("gpu", gpus),) if gpus else ()
    amounts = Amounts(int(cpus * 10**9), 0, generic)
    return [Demand(amounts=amounts, constraints=constraints)] * count


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
    free = rooms([node(name, gpus=2) for name in "abc"], [])

    assert fits is (not fit(free, wanted).why_not)


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
    free = rooms([node("a", labels={"gpu": "a100"})], [])

    assert fits is (not fit(free, _demands(1, constraint)).why_not)


def test_the_reason() -> None:
    """It says what is asked, how much of that would fit, and what is free where."""
    nodes = [node("box1", gpus=1), node("box2", gpus=2)]
    free = rooms(nodes, [task("box2", gpus=1)])

    why = fit(free, _demands(3, "node.role==worker", gpus=1)).why_not

    assert (
        "asked are 3 replicas with 0 CPUs, 0.0 MiB, 1 gpu on nodes with node.role==worker each; "
        "2 of 3 would fit. Free are box1: 4 CPUs, 1,024.0 MiB, 1 gpu; "
        "box2: 4 CPUs, 1,024.0 MiB, 1 gpu"
    ) == why
    two_sizes = fit([], _demands(1) + _demands(2, cpus=1)).why_not
    assert (
        "asked are 2 replicas with 1 CPU, 0.0 MiB each and 1 replica with 0 CPUs, 0.0 MiB; "
        "0 of 3 would fit. Free are no node"
    ) == two_sizes


PACK, SPREAD = Rules(placement="pack"), Rules(placement="spread")


@pytest.mark.parametrize(
    ("wanted", "rules", "counts"),
    [
        # To pack is to take the smallest node that has room for all.
        (_demands(2, gpus=1), PACK, {"id-b": 2}),
        (_demands(4, gpus=1), PACK, {"id-c": 4}),
        (_demands(5, gpus=1), PACK, None),
        (_demands(2, "node.hostname==c", gpus=1), PACK, {"id-c": 2}),
        (_demands(3, gpus=1), SPREAD, {"id-a": 1, "id-b": 1, "id-c": 1}),
        (_demands(6, gpus=1), SPREAD, {"id-a": 1, "id-b": 2, "id-c": 3}),
        (_demands(3), SPREAD, {"id-a": 1, "id-b": 1, "id-c": 1}),
        (_demands(3, gpus=1), Rules(max_per_node=1), {"id-a": 1, "id-b": 1, "id-c": 1}),
        (_demands(4, gpus=1), Rules(max_per_node=1), None),
        (_demands(4), Rules(max_per_node=1), None),
        (_demands(5, gpus=1), Rules(max_per_node=2), {"id-a": 1, "id-b": 2, "id-c": 2}),
    ],
)
def test_rules(wanted: list[Demand], rules: Rules, counts: dict[str, int] | None) -> None:
    """Nodes with one, two and four GPUs are used as the options say."""
    free = rooms([node("a", gpus=1), node("b", gpus=2), node("c", gpus=4)], [])

    found = fit(free, wanted, rules)

    assert (counts or {}) == Counter(found.nodes)
    assert (counts is None) is bool(found.why_not)


def test_what_runs_counts_for_the_rules() -> None:
    """The rest of an app is packed where its part runs, and a node's maximum counts that part."""
    free = rooms([node("a", gpus=4), node("b", gpus=8)], [])

    packed = fit(free, _demands(2, gpus=1), PACK, {"id-b": 1})
    limited = fit(free, _demands(1, gpus=1), Rules(max_per_node=1), {"id-a": 1})

    assert ("id-b", "id-b") == packed.nodes
    assert ("id-b",) == limited.nodes
    assert fit(free, _demands(2), Rules(max_per_node=1), {"id-a": 1}).why_not


@pytest.mark.parametrize(
    ("wanted", "rules", "fits"),
    [
        (_demands(4, gpus=1), Rules(), True),
        (_demands(5, gpus=1), Rules(), False),
        (_demands(1, gpus=3), Rules(), False),
        (_demands(3, gpus=1), PACK, False),
        (_demands(3), Rules(max_per_node=1), False),
        (_demands(1, "node.hostname==z"), Rules(), False),
        (_demands(9, cpus=0.5) + _demands(2, cpus=2), Rules(), False),
        (_demands(2, gpus=1) + _demands(3, cpus=1), Rules(), True),
        (_demands(1) + _demands(2, cpus=1), Rules(max_per_node=1), False),
    ],
)
def test_what_never_fits(wanted: list[Demand], rules: Rules, fits: bool) -> None:
    """An app that is larger than the nodes never fits, whatever runs there."""
    free = rooms([node("a", gpus=2), node("b", gpus=2)], [])

    why = never_fits(free, wanted, rules)

    assert fits is (not why)
    assert fits or "The nodes have a: 4 CPUs" in why


def test_what_may_fit_in_another_way_is_not_refused() -> None:
    """These fit only as 4+3+3 on each node, which one pass from the largest on does not find."""
    free = rooms([node("a", cpus=10), node("b", cpus=10)], [])
    wanted = _demands(2, cpus=4) + _demands(4, cpus=3)

    assert fit(free, wanted).why_not
    assert not never_fits(free, wanted, Rules())


@pytest.mark.parametrize(
    ("found", "rules"),
    [
        ({}, Rules()),
        ({labels.PLACEMENT: "spread"}, SPREAD),
        ({labels.MAX_PER_NODE: "2"}, Rules(max_per_node=2)),
        ({labels.MAX_PER_NODE: "0"}, Rules()),
        ({labels.MAX_PER_NODE: "x", labels.PENDING_TIMEOUT: "x"}, Rules()),
        ({labels.PENDING_TIMEOUT: "2.5"}, Rules(timeout_s=2.5)),
    ],
)
def test_rules_in_labels(found: dict[str, str], rules: Rules) -> None:
    """Rules come from the labels of a service; a value that is not one is left out."""
    assert rules == Rules.of(found)
