"""A swarm of three nodes for all tests that need one, which one worker runs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import pytest

from airflow_torchx.cli import main, screen
from airflow_torchx.core.connection.swarm import SWARM_NETWORK
from airflow_torchx.core.engine import labels
from airflow_torchx.docker_engine.request import request
from airflow_torchx.errors import EngineError
from airflow_torchx.schedulers.swarm_scheduler import SwarmScheduler
from airflow_torchx.swarm_engine import SwarmEngine
from tests.conftest import BUSYBOX
from tests.swarm.hosts import swarm, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_torchx.core.engine.containers import EngineInfo
    from tests.integration.registry import Registry
    from tests.swarm.hosts import Hosts

#: A service of the tests' own.
KEEPER: Final = "keeper"


@pytest.fixture(scope="session")
def hosts() -> Iterator[Hosts]:
    """Return a swarm of three nodes, of which the first is the manager."""
    with swarm(options=gpus) as found:
        _keep_network(found)
        yield found


@pytest.fixture(scope="session")
def swarm_registry(hosts: Hosts) -> Iterator[Registry]:
    """Return a registry that all nodes reach, and which asks for a login."""
    with hosts.registry(auth=True, port=5001) as found:
        yield found


def _keep_network(hosts: Hosts) -> None:
    """Let each node stay on the overlay network.

    Engine 20.10 ends tasks with GPUs when their node joins one (moby#44378).
    """
    body = {
        "Name": KEEPER,
        "Mode": {"Global": {}},
        "TaskTemplate": {
            "ContainerSpec": {"Image": BUSYBOX, "Command": ["sleep", "infinity"]},
            "Networks": [{"Target": SWARM_NETWORK}],
        },
    }
    with SwarmEngine.connect(hosts.endpoint()) as engine:
        engine.create_network(SWARM_NETWORK)
        with closing(hosts[1].client) as client:
            request(client, "POST", "/services/create", json=body)


def _is_kept(hosts: Hosts) -> bool:
    """Return whether each node is on the network; a node that was away comes back to it later."""
    with closing(hosts[1].client) as client:
        tasks = client.tasks({"service": KEEPER, "desired-state": "running"})
    return ["running"] * 3 == [one["Status"]["State"] for one in tasks]


class NewerSwarm(SwarmEngine):
    """A swarm that says that it is new enough for GPUs, which `_keep_network` makes true."""

    def info(self) -> EngineInfo:
        """Describe it."""
        return replace(super().info(), version="23.0.0")


def gpus(number: int) -> list[str]:
    """Return the options of a daemon with two GPUs, which are names only."""
    return [f"--node-generic-resource=gpu=GPU-{number}{letter}" for letter in "ab"]


@pytest.fixture
def swarm_engine(hosts: Hosts, app_id: str) -> Iterator[SwarmEngine]:
    """Return the swarm as an engine; what a test leaves on it is removed."""
    wait_until(lambda: _is_kept(hosts))
    with NewerSwarm.connect(hosts.endpoint()) as engine:
        yield engine
        rows = engine.rows({labels.APP_ID: None})
        left = [row.id for row in rows if app_id in row.labels[labels.APP_ID]]
        # A swarm kills none at once: a removal of one that runs took 3.7 s.
        for one in left:
            with suppress(EngineError):
                engine.signal(one, "SIGKILL")
        with ThreadPoolExecutor(max(1, len(left))) as pool:
            list(pool.map(engine.remove, left))


@pytest.fixture
def scheduler(swarm_engine: SwarmEngine) -> SwarmScheduler:
    """Return a scheduler on the swarm."""
    return SwarmScheduler("gpu_cluster", swarm_engine, terminal=False)


@pytest.fixture
def pruned(
    hosts: Hosts, swarm_engine: SwarmEngine, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Assert that ``prune`` on the manager leaves nothing that a test has made."""
    yield
    monkeypatch.setenv("DOCKER_HOST", str(swarm_engine.endpoint.url))
    monkeypatch.setattr(screen, "configure", lambda _: None)
    assert 0 == main(["prune", "-s", "docker_swarm", "--older-than", "0s"])
    with closing(hosts[1].client) as client:
        # The lock of placing is a service, too.
        assert [KEEPER] == [one["Spec"]["Name"] for one in client.services()]
        assert [] == client.configs()
