"""Tests of the report of a connection test on a swarm."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import pytest

from airflow_torchx.core.connection.daemon_report import LoginCheck
from airflow_torchx.core.connection.swarm import Swarm
from airflow_torchx.core.swarm.report import ManagerCheck, NodeCheck, SwarmReport
from tests.unit.core.swarm.swarm_json import node

MANAGER: Final = {"Leader": True, "Reachability": "reachable"}
BOX1: Final = node("box1", cpus=8, gpus=2, ManagerStatus=MANAGER)
BOX2: Final = node("box2")
OVERLAY: Final = {"Name": "lan", "Driver": "overlay", "Scope": "swarm"}

REPORT: Final = SwarmReport(
    url="tcp://box1:2376",
    api_version="1.54",
    swarm=Swarm(),
    managers=(ManagerCheck(url="tcp://box1:2376"),),
    nodes=(NodeCheck(node=BOX1), NodeCheck(node=BOX2)),
    network="lan",
)


def _lines(report: SwarmReport) -> list[str]:
    return str(report).splitlines()


def test_a_report_without_problems() -> None:
    """The report has one line each for the swarm, its nodes, the network and every registry."""
    logins = (LoginCheck(registry="ghcr.io", username="me"),)
    report = replace(REPORT, networks=(OVERLAY,), logins=logins)

    assert report.is_fine
    assert _lines(report) == [
        "Docker Swarm of 2 nodes at tcp://box1:2376: Docker 29.7.2 (API 1.54).",
        "Node box1 (manager, leader): ready, 8 CPUs, 1.0 GiB of memory, 2 GPUs (box1-0, box1-1).",
        "Node box2 (worker): ready, 4 CPUs, 1.0 GiB of memory, no GPUs.",
        "Network 'lan' exists.",
        "Login to ghcr.io as 'me' succeeded.",
    ]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            {"Spec": {"Availability": "drain"}},
            (
                "drained, so it takes no replicas (`docker node update --availability active box2` "
                "ends that), 4 CPUs, 1.0 GiB of memory, no GPUs."
            ),
        ),
        ({"Spec": {"Availability": "pause"}}, "paused, so it takes no replicas (`docker node"),
        ({"Status": {"State": "down"}}, "down; see the log of its daemon, and `docker node ls`."),
        ({"Status": {}}, "unknown; see"),
        ({"Description": {"Hostname": "box2"}}, "ready, 0 CPUs, 0.0 GiB of memory, no GPUs."),
    ],
)
def test_the_state_of_anode(change: dict[str, Any], expected: str) -> None:
    """The report names a node that takes no replicas, and fails only if no other one does."""
    report = replace(REPORT, nodes=(NodeCheck(node=BOX1), NodeCheck(node=BOX2 | change)))

    assert report.is_fine
    assert expected in _lines(report)[2]


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ({"Reachability": "reachable"}, "manager"),
        ({"Reachability": "unreachable"}, "manager, unreachable"),
        ({}, "worker"),
    ],
)
def test_the_role_of_anode(status: dict[str, Any], expected: str) -> None:
    """A manager that the others do not reach is named as such."""
    report = replace(REPORT, nodes=(NodeCheck(node=BOX1 | {"ManagerStatus": status}),))

    assert _lines(report)[1].startswith(f"Node box1 ({expected}): ready")


def test_generic_resources() -> None:
    """GPUs are those of the connection's kind; others are named, as one may have been meant."""
    generic = [{"DiscreteResourceSpec": {"Kind": "NVIDIA", "Value": 4}}]
    resources = {"NanoCPUs": 10**9, "MemoryBytes": 1 << 30, "GenericResources": generic}
    node = BOX1 | {"Description": {"Hostname": "box1", "Resources": resources}}
    report = replace(REPORT, nodes=(NodeCheck(node=node),))
    right = replace(report, swarm=Swarm(gpu_resource="NVIDIA"))

    text = "no GPUs (a GPU is the resource gpu; it also has NVIDIA)."
    assert _lines(report)[1].endswith(text)
    assert _lines(right)[1].endswith("1.0 GiB of memory, 4 GPUs.")


def test_gpus_of_older_managers() -> None:
    """The oldest manager decides; without GPUs nothing is said of them."""
    engine = {"EngineVersion": "20.10.24"}
    old = BOX1 | {"Description": BOX1["Description"] | {"Engine": engine}}
    report = replace(REPORT, nodes=(NodeCheck(node=old),))

    assert report.is_fine
    assert _lines(report)[-1].startswith(
        "GPUs cannot be used: managers with Docker Engine 20.10.24"
    )
    assert _lines(report)[-1].endswith(
        "upgrade them to 23.0, see https://github.com/moby/moby/issues/44378."
    )
    none = replace(report, swarm=Swarm(gpu_resource="tpu"))
    assert "GPUs cannot" not in str(none)


def test_nodes_by_constraints() -> None:
    """The report names the nodes that the connection's constraints select; without one it fails."""
    box2 = replace(REPORT, swarm=Swarm(constraints=("node.hostname==box2",)))
    none = replace(REPORT, swarm=Swarm(constraints=("node.labels.gpu==a100",)))
    away = replace(REPORT, nodes=(NodeCheck(node=BOX1 | {"Status": {"State": "down"}}),))

    assert (True, False, False) == (box2.is_fine, none.is_fine, away.is_fine)
    assert "Nodes with node.hostname==box2: box2." == _lines(box2)[3]
    expected = "No replica can run: no node is ready and active and meets node.labels.gpu==a100."
    assert expected == _lines(none)[3]
    assert "No replica can run: no node is ready and active." == _lines(away)[2]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"Driver": "macvlan", "Scope": "swarm"}, "is a macvlan network"),
        (OVERLAY | {"Ingress": True}, "is the ingress network"),
    ],
)
def test_a_network_that_apps_cannot_join(row: dict[str, Any], expected: str) -> None:
    """Only an overlay network reaches from node to node."""
    report = replace(REPORT, networks=(row,))

    assert not report.is_fine
    assert f"Network 'lan' {expected}, not an overlay network that apps can join. " in str(report)


def test_other_networks() -> None:
    """A missing one is created, also beside a bridge of its name; that of the hosts is there."""
    host = {"Name": "host", "Driver": "host", "Scope": "local"}
    bridge = {"Name": "lan", "Driver": "bridge", "Scope": "local"}
    of_hosts = replace(REPORT, network="host", networks=(host,))
    reports = [REPORT, replace(REPORT, networks=(bridge,)), of_hosts]
    created = "Network 'lan' will be created by the first launch."

    assert all(one.is_fine for one in reports)
    assert [created, created, "Network 'host' exists."] == [_lines(one)[-1] for one in reports]


def test_managers() -> None:
    """Each manager that cannot be asked fails the test, which says why; others are listed."""
    managers = [
        ManagerCheck(
            url=f"tcp://box{number}:2376", error="refused. Start it." if number == 3 else None
        )
        for number in (1, 2, 3)
    ]
    report = replace(REPORT, managers=tuple(managers))

    assert not report.is_fine
    assert [
        "Managers of the connection that answer: tcp://box1:2376, tcp://box2:2376.",
        "Manager tcp://box3:2376 cannot be asked: refused. Start it.",
    ] == _lines(report)[-2:]


def test_managers_that_the_connection_lacks() -> None:
    """A connection with fewer managers than the swarm has is fine; the report says so."""
    nodes = tuple(NodeCheck(node=node(name, ManagerStatus=MANAGER)) for name in "abc")
    report = replace(REPORT, nodes=nodes)

    assert report.is_fine
    assert _lines(report)[-1].startswith("The swarm has 3 managers and the connection 1: add ")


def test_nodes_whose_daemons_do_not_answer() -> None:
    """The report says what does not work without them, once for each cause."""
    nodes = [NodeCheck(node=node(name), error="no way. Set node_url.") for name in ("a", "b")]
    report = replace(REPORT, nodes=(*nodes, NodeCheck(node=BOX1, error="refused. Start it.")))

    assert not report.is_fine
    assert [
        "Files, usage and stacks of replicas on a, b cannot be read: no way. Set node_url.",
        "Files, usage and stacks of replicas on box1 cannot be read: refused. Start it.",
    ] == _lines(report)[-2:]


def test_a_login_that_fails() -> None:
    """It fails the test."""
    login = LoginCheck(registry="h:1", username="you", error="unauthorized. Check.")
    report = replace(REPORT, logins=(login,))

    assert not report.is_fine
    assert "Login to h:1 as 'you' failed: unauthorized. Check." == _lines(report)[-1]
