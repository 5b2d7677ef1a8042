"""What a connection of a swarm says of managers that cannot be asked."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import pytest

from airflow_torchx.core.connection.endpoint import Endpoint
from airflow_torchx.core.connection.swarm import Swarm
from airflow_torchx.core.engine.images import RegistryLogin
from airflow_torchx.core.swarm.report import SwarmReport
from airflow_torchx.docker_engine import DockerEngine
from airflow_torchx.errors import EngineUnreachableError, NodeUnreachableError
from airflow_torchx.runtime.engines import diagnose
from airflow_torchx.swarm_engine import SwarmEngine
from airflow_torchx.swarm_engine.nodes import Nodes
from airflow_torchx.testing import ManualClock
from tests.integration.stub import Request, Stub, failure, json_answer
from tests.integration.tls import LOCAL, Certificate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

NOT_A_MANAGER: Final = (
    "This node is not a swarm manager. Worker nodes can't be used to view or modify cluster state."
)
NO_LEADER: Final = (
    "rpc error: code = Unknown desc = The swarm does not have a leader. It's possible that too few "
    "managers are online."
)
WORKER: Final = {
    "LocalNodeState": "active",
    "ControlAvailable": False,
    "RemoteManagers": [{"Addr": "10.0.0.9:2377"}],
}


def _answer(swarm: dict[str, Any], refusal: str = "") -> Callable[[Request], Iterable[bytes]]:
    """Return the answers of a daemon whose swarm is this; it may refuse all questions about it."""

    def answer(request: Request) -> Iterable[bytes]:
        path = request.target.split("/", 2)[2].partition("?")[0]
        if path == "info":
            return json_answer({"Swarm": swarm})
        return failure(503, refusal) if refusal else json_answer([])

    return answer


def _swarm(*paths: Path, **swarm: Any) -> Endpoint:  # noqa: ANN401 - a Swarm's fields
    first, *more = [f"unix://{path}" for path in paths]
    return Endpoint(url=first, swarm=Swarm(managers=tuple(more), **swarm))


def test_a_worker(address: Path) -> None:
    """The error names the managers, which the worker knows, to a task and to the test."""
    with Stub(_answer(WORKER, NOT_A_MANAGER), address):
        found = diagnose(_swarm(address), "lan", ())
        with pytest.raises(EngineUnreachableError) as caught:
            SwarmEngine.connect(_swarm(address))

    assert f"the daemon at unix://{address} is a worker of a swarm, not a manager." == (
        caught.value.what
    )
    assert "the managers are 10.0.0.9." in str(caught.value.fix)
    assert found == str(caught.value).replace("\n", " ")


def test_a_daemon_without_a_swarm(address: Path) -> None:
    """The error says how to make it a manager."""
    with (
        Stub(_answer({"LocalNodeState": "inactive"}, NOT_A_MANAGER), address),
        pytest.raises(EngineUnreachableError, match=r"not in a swarm.\s+Run `docker swarm init`"),
    ):
        SwarmEngine.connect(_swarm(address))


def test_a_daemon_that_became_a_manager(address: Path) -> None:
    """A daemon that refuses, and then says that it is a manager, is asked again later."""
    manager = {"LocalNodeState": "active", "ControlAvailable": True}
    with (
        Stub(_answer(manager, NOT_A_MANAGER), address),
        pytest.raises(EngineUnreachableError, match=r"not a swarm manager[^$]*Try again."),
    ):
        SwarmEngine.connect(_swarm(address))


def test_no_leader(address: Path) -> None:
    """A swarm that has lost the majority of its managers is unreachable; its containers run on."""
    with Stub(_answer(WORKER, NO_LEADER), address):
        found = diagnose(_swarm(address), "lan", ())
        with pytest.raises(EngineUnreachableError) as caught:
            SwarmEngine.connect(_swarm(address))

    for text in (str(found), str(caught.value)):
        assert "The swarm does not have a leader" in text
        assert "More than half of its managers must be up" in text
        assert "Containers run on" in text


def test_a_manager_that_hangs(address: Path) -> None:
    """A daemon that answers what it is, and not what it knows, has perhaps no leader."""
    leave = threading.Event()

    def hang(_: Request) -> list[bytes]:
        leave.wait(20)
        return []

    with Stub(hang, address):
        found = diagnose(_swarm(address), "lan", ())
        leave.set()

    assert isinstance(found, str)
    assert "did not answer in time" in found
    assert "If it does, its swarm has no leader. More than half of its managers" in found


def test_managers_of_two_swarms(tmp_path: Path) -> None:
    """The test of the connection names the one that is not of the swarm of the first."""
    urls = [tmp_path / name for name in "abc"]

    def answers(node: str, *nodes: str) -> Callable[[Request], Iterable[bytes]]:
        def answer(request: Request) -> Iterable[bytes]:
            if request.target.endswith("/nodes"):
                return json_answer([{"ID": one} for one in nodes])
            return _answer({"ControlAvailable": True, "NodeID": node})(request)

        return answer

    with (
        Stub(answers("a", "a", "c"), urls[0]),
        Stub(answers("b", "b"), urls[1]),
        Stub(answers("c", "a", "c"), urls[2]),
    ):
        found = diagnose(_swarm(*urls), "lan", ())

    assert isinstance(found, SwarmReport)
    other = f"the daemon at unix://{urls[1]} is a manager of another swarm. Leave it out of the "
    assert [None, f"{other}managers of the connection.", None] == [
        one.error for one in found.managers
    ]


def test_no_manager_answers(address: Path, tmp_path: Path) -> None:
    """One error has the causes of all managers."""
    with Stub(_answer(WORKER, NOT_A_MANAGER), address):
        endpoint = _swarm(tmp_path / "none", address)
        found = diagnose(endpoint, "lan", ())
        with pytest.raises(EngineUnreachableError) as caught:
            SwarmEngine.connect(endpoint)

    assert caught.value.what.startswith(
        f"no manager of the swarm can be asked: no Docker daemon at unix://{tmp_path}/none: its "
    )
    assert f"; the daemon at unix://{address} is a worker" in caught.value.what
    fix = str(caught.value.fix)
    assert ("Start Docker" in fix, "Give the URL of a manager" in fix) == (True, True)
    first, second = str(found).splitlines()
    assert first.startswith(f"no Docker daemon at unix://{tmp_path}/none")
    assert second.startswith(f"the daemon at unix://{address} is a worker of a swarm")


def test_one_manager_answers(address: Path, tmp_path: Path) -> None:
    """The test fails, and its report has what that manager knows and why the other is not asked."""
    login = RegistryLogin(registry="h:1", username="me", password="hidden-word")  # noqa: S106 - not a real one

    def answer(request: Request) -> Iterable[bytes]:
        if request.target.endswith("/auth"):
            return failure(401, "unauthorized")
        return _answer({"ControlAvailable": True, "NodeID": "a"})(request)

    with Stub(answer, address) as stub:
        found = diagnose(_swarm(tmp_path / "none", address), "lan", [login])

    assert isinstance(found, SwarmReport)
    assert not found.is_fine
    assert f"Docker Swarm of 0 nodes at unix://{address}: Docker  (API 1.41)." in str(found)
    assert f"Managers of the connection that answer: unix://{address}." in str(found)
    assert f"Manager unix://{tmp_path}/none cannot be asked: no Docker daemon" in str(found)
    assert "Login to h:1 as 'me' failed: unauthorized." in str(found)
    assert "hidden-word" not in repr(found)
    assert {"GET", "POST"} == {request.method for request in stub.requests}
    assert ["POST /auth"] == [one for one in stub.asked if one.startswith("POST")]


def test_tls_that_fails(tmp_path: Path) -> None:
    """A manager whose certificate is not trusted is unreachable; no error shows the key."""
    (tmp_path / "other").mkdir()
    mine, other = Certificate.make(tmp_path), Certificate.make(tmp_path / "other")
    texts = mine.texts()
    with Stub(_answer(WORKER), LOCAL, tls=other.context()) as stub:
        endpoint = Endpoint.parse(f"tcp://127.0.0.1:{stub.port}", texts)
        endpoint = replace(endpoint, swarm=Swarm(managers=(f"tcp://127.0.0.1:{stub.port}/",)))
        found = diagnose(endpoint, "lan", ())
        with pytest.raises(EngineUnreachableError) as caught:
            SwarmEngine.connect(endpoint)

    for text in (str(found), str(caught.value)):
        assert "TLS failed" in text
        assert "tls_ca, tls_cert and tls_private_key of the connection" in text
        assert texts["tls_private_key"].splitlines()[1] not in text


def test_managers_and_nodes_over_tls(tmp_path: Path) -> None:
    """One certificate, given as text, leads to each manager and to the daemon of each node."""
    certificate = Certificate.make(tmp_path)
    nodes: list[dict[str, Any]] = []

    def answer(request: Request) -> Iterable[bytes]:
        if request.target.endswith("/nodes"):
            return json_answer(nodes)
        return _answer({"ControlAvailable": True, "NodeID": "a"})(request)

    with (
        Stub(answer, LOCAL, tls=certificate.context()) as manager,
        Stub(_answer({"NodeID": "b"}), LOCAL, tls=certificate.context()) as node,
    ):
        endpoint = Endpoint.parse(f"tcp://127.0.0.1:{manager.port}", certificate.texts())
        url = f"tcp://127.0.0.1:{node.port}"
        swarm = Swarm(node_url=f"tcp://{{addr}}:{node.port}")
        nodes += [_node("a"), _node("b"), _node("c"), _node("d", state="down")]
        found = diagnose(replace(endpoint, swarm=swarm), "lan", ())

    assert isinstance(found, SwarmReport)
    expected = f"the daemon at {url} is not that of node c. Correct node_url of the connection."
    assert [None, None, expected, None] == [one.error for one in found.nodes]
    # The manager is a node itself, and a daemon that is down is not asked.
    assert ["GET /info"] * 2 == node.asked


def _node(name: str, state: str = "ready") -> dict[str, Any]:
    return {
        "ID": name,
        "Spec": {"Availability": "active"},
        "Status": {"State": state, "Addr": "127.0.0.1"},
        "Description": {"Hostname": name},
    }


def test_the_daemon_of_a_node(address: Path, tmp_path: Path) -> None:
    """A node that does not answer is left alone for a while; the manager is a node itself."""
    clock, inspected = ManualClock(), list[str]()

    def inspect(node_id: str) -> dict[str, Any]:
        inspected.append(node_id)
        return _node(node_id)

    node = tmp_path / "b"
    with (
        Stub(_answer({"ControlAvailable": True, "NodeID": "a"}), address),
        DockerEngine.connect(Endpoint(url=f"unix://{address}")) as manager,
    ):
        swarm = Swarm(node_url=f"unix://{tmp_path}/{{hostname}}")
        nodes = Nodes(inspect, lambda: manager, swarm, clock)
        assert nodes.engine_of("a") is manager
        for _ in range(2):
            with pytest.raises(NodeUnreachableError, match=r"(?s)does not exist.*node_url"):
                nodes.engine_of("b")
        assert ["b"] == inspected

        clock.advance(60)
        with Stub(_answer({"NodeID": "b"}), node):
            assert nodes.engine_of("b") is nodes.engine_of("b")
        with (
            Stub(_answer({"NodeID": "b"}), tmp_path / "c"),
            pytest.raises(NodeUnreachableError, match="is not that of node c"),
        ):
            nodes.engine_of("c")
        nodes.close()
    assert ["b", "b", "c"] == inspected


def test_nodes_behind_a_socket(address: Path) -> None:
    """A connection by a socket must say how other nodes are reached."""
    with (
        Stub(_answer({"ControlAvailable": True, "NodeID": "a"}), address),
        DockerEngine.connect(Endpoint(url=f"unix://{address}")) as manager,
        pytest.raises(NodeUnreachableError, match="Set node_url of the connection"),
    ):
        Nodes(_node, lambda: manager, Swarm()).engine_of("b")
