"""The routes of running apps, on a swarm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from fastapi.testclient import TestClient

from airflow_torchx.core.connection.endpoint import Endpoint
from airflow_torchx.core.connection.swarm import Swarm
from airflow_torchx.errors import NodeUnreachableError
from airflow_torchx.runtime import engines
from airflow_torchx.testing import FakeNode, FakeSwarm
from airflow_torchx.ui.daemons import Daemons, endpoint_of
from airflow_torchx.ui.live import NO_NODE
from tests.ui.live_app import OURS, LiveApps, path_of, states
from tests.ui.test_live import app_of

if TYPE_CHECKING:
    from airflow_torchx.testing import Verb


@pytest.fixture
def apps() -> LiveApps:
    """Return a swarm of two nodes with the app of one task, a replica on each."""
    found = LiveApps()

    def before(verb: Verb, name: str) -> None:
        found.before(verb, name)

    found.engine = FakeSwarm(
        images=["busybox"],
        programs=lambda _: found.program,
        before=before,
        clock=found.clock,
        sleep=found.clock.sleep,
        nodes=[FakeNode("box1"), FakeNode("box2")],
    )
    found.launch()
    return found


def _handle() -> str:
    return f"docker_swarm://gpu_host/{OURS.app_id}"


def test_what_runs(apps: LiveApps) -> None:
    """States and logs come from a manager, and usage from the daemon of each node."""
    with TestClient(app_of(apps)) as client:
        state = client.get(path_of(OURS, "live", handle=_handle())).json()
        log = client.get(path_of(OURS, "logs", handle=_handle(), role="trainer", replica=1))
        apps.clock.advance(10)
        usage = client.get(path_of(OURS, "stats", handle=_handle())).json()

    assert ["RUNNING", "RUNNING"] == states(state)
    assert _handle() == state["snapshot"]["handle"]
    assert "one\ntwo\n" == log.text
    assert (2, [0, 1]) == (usage["running"], [one["id"] for one in usage["replicas"]])


def test_nodes_that_the_server_cannot_reach(apps: LiveApps) -> None:
    """The answer says so, and names no address; states and logs need no node."""
    broken = {"trainer-0"}

    def before(verb: str, name: str) -> None:
        if verb == "usage" and name[-9:] in broken:
            raise NodeUnreachableError("no Docker daemon at tcp://secret:2376.", fix="Start it.")

    apps.before = before
    with TestClient(app_of(apps)) as client:
        some: Any = client.get(path_of(OURS, "stats", handle=_handle()))
        broken.add("trainer-1")
        apps.clock.advance(10)
        none = client.get(path_of(OURS, "stats", handle=_handle()))
        log = client.get(path_of(OURS, "logs", handle=_handle(), role="trainer", replica=0))

    assert (2, [1]) == (some.json()["running"], [one["id"] for one in some.json()["replicas"]])
    assert (504, NO_NODE) == (none.status_code, none.json()["detail"])
    assert "one\ntwo\n" == log.text


def test_the_connection_of_a_swarm_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page connects to a swarm as a task does, and its nodes have as little time."""
    text = '{"conn_type": "torchx_docker", "host": "unix:///d", "extra": %s}'
    monkeypatch.setenv("AIRFLOW_CONN_GPU_CLUSTER", text % '{"scheduler": "docker_swarm"}')

    found = endpoint_of("gpu_cluster")

    assert Endpoint(url="unix:///d", request_timeout_s=5.0, swarm=Swarm()) == found
    assert (engines.connect,) == (Daemons.__init__.__defaults__ or ())[1:2]
