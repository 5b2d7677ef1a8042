"""A connection of a swarm: its test, its hook, and what the page reads by it."""

from __future__ import annotations

import asyncio
import json
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import pytest
from fastapi import HTTPException

from airflow_torchx.core.connection.swarm import SWARM_NETWORK, Swarm
from airflow_torchx.core.engine import labels
from airflow_torchx.core.plan.identity import TaskAttempt
from airflow_torchx.core.state.live import TaskApp
from airflow_torchx.core.swarm.report import SwarmReport
from airflow_torchx.hooks import TorchXDockerHook
from airflow_torchx.runtime.engines import diagnose
from airflow_torchx.specs import AppState
from airflow_torchx.ui.daemons import Daemons
from airflow_torchx.ui.live import NO_NODE, Live
from tests.swarm.hosts import wait_until
from tests.swarm.test_lifecycle import OBEDIENT, OPTIONS, _app

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_torchx.schedulers.docker_scheduler import DockerScheduler
    from airflow_torchx.ui.reading import LogPart
    from tests.swarm.hosts import Hosts

pytestmark = [pytest.mark.docker, pytest.mark.timeout(180)]

_CONN: Final = "AIRFLOW_CONN_GPU_CLUSTER"


def _connect_by(monkeypatch: pytest.MonkeyPatch, hosts: Hosts, **extra: object) -> TorchXDockerHook:
    """Return a hook on the swarm; other fields of the connection replace ours."""
    endpoint = hosts.endpoint()
    assert endpoint.swarm is not None
    fields = {"scheduler": "docker_swarm", "node_url": endpoint.swarm.node_url, **extra}
    text = json.dumps({"conn_type": "torchx_docker", "host": endpoint.url, "extra": fields})
    monkeypatch.setenv(_CONN, text)
    return TorchXDockerHook("gpu_cluster")


def test_the_test_of_a_connection(monkeypatch: pytest.MonkeyPatch, hosts: Hosts) -> None:
    """It describes each node, and changes nothing."""
    is_fine, text = _connect_by(monkeypatch, hosts).test_connection()

    assert is_fine, text
    swarm, *nodes, network, gpus = text.splitlines()
    assert swarm.startswith(f"Docker Swarm of 3 nodes at {hosts[1].url}: Docker ")
    assert [
        "Node box1 (manager, leader): ready",
        "Node box2 (worker): ready",
        "Node box3 (worker): ready",
    ] == [line[: line.index("ready") + 5] for line in nodes]
    assert [f"2 GPUs (GPU-{number}a, GPU-{number}b)." for number in (1, 2, 3)] == [
        line[line.index("2 GPUs") :] for line in nodes
    ]
    assert f"Network {SWARM_NETWORK!r} exists." == network
    assert gpus.startswith("GPUs cannot be used: managers with Docker Engine 20.10.")


def test_a_connection_with_faults(hosts: Hosts) -> None:
    """Its test names the node that takes no replicas, those out of reach, and a wrong network."""
    endpoint = replace(hosts.endpoint(1, 2), swarm=Swarm(managers=(hosts[2].url,)))
    with closing(hosts[1].client) as client:
        node = next(n for n in client.nodes() if n["Description"]["Hostname"] == "box3")
        spec = node["Spec"]
        client.update_node(node["ID"], node["Version"]["Index"], spec | {"Availability": "pause"})
        try:
            found = diagnose(endpoint, "bridge", ())
        finally:
            node = client.inspect_node(node["ID"])
            client.update_node(node["ID"], node["Version"]["Index"], spec)

    assert isinstance(found, SwarmReport)
    assert not found.is_fine
    for text in (
        "Node box3 (worker): paused, so it takes no replicas",
        "Network 'bridge' is a bridge network of the manager",
        (
            f"Manager {hosts[2].url} cannot be asked: the daemon at {hosts[2].url} is a worker of "
            f"a swarm, not a manager. Give the URL of a manager: the managers are "
            f"{hosts[1].address}."
        ),
        "replicas on box2, box3 cannot be read: the manager is a socket",
    ):
        assert text in str(found)


def test_a_daemon_of_a_swarm(hosts: Hosts) -> None:
    """The test of a connection of the daemon alone says how to use all nodes."""
    found = str(diagnose(replace(hosts.endpoint(), swarm=None), "bridge", ()))

    assert 'a manager of a Docker Swarm of 3 nodes: "scheduler": "docker_swarm"' in found
    worker = str(diagnose(replace(hosts.endpoint(2), swarm=None), "bridge", ()))
    assert "Swarm" not in worker


@contextmanager
def _running(hook: TorchXDockerHook, app_id: str) -> Iterator[tuple[DockerScheduler, TaskApp]]:
    """Run an app of a task on the connection of a hook."""
    attempt = TaskAttempt(
        dag_id="d", run_id=app_id, task_id="t", map_index=-1, max_tries=0, try_number=1
    )
    with hook.get_conn() as scheduler:
        context = scheduler.new_context(app_id, labels=attempt.labels)
        app = _app(f"echo found > /tmp/result; {OBEDIENT}")
        try:
            scheduler.schedule(scheduler.submit_dryrun(app, OPTIONS, context=context))
            wait_until(lambda: scheduler.describe(app_id).state is AppState.RUNNING)  # type: ignore[union-attr]
            names = {"dag_id": "d", "run_id": app_id, "task_id": "t", "map_index": -1}
            yield scheduler, TaskApp(**names, app_id=app_id, handle=context.handle)  # type: ignore[arg-type]
        finally:
            scheduler.delete(app_id)


def test_what_the_page_reads(monkeypatch: pytest.MonkeyPatch, hosts: Hosts, app_id: str) -> None:
    """States and logs come from the manager, and usage from each node that is reached."""

    async def read() -> tuple[dict[str, Any], dict[str, Any], LogPart]:
        with closing(Daemons()) as daemons:
            live = Live(daemons, answer_s=30)
            log, _ = await live.log(app, "role0", 1, tail=10, after=None)
            return await live.state(app), await live.usage(app), log

    workers = ["node.role==worker"]
    with _running(_connect_by(monkeypatch, hosts, constraints=workers), app_id) as (_, app):
        state, usage, log = asyncio.run(read())
        _connect_by(monkeypatch, hosts, node_url=f"{hosts[1].url}-{{hostname}}")
        with pytest.raises(HTTPException) as caught:
            asyncio.run(read())

    assert f"docker_swarm://gpu_cluster/{app_id}" == app.handle
    assert {"RUNNING": 3} == state["snapshot"]["roles"][0]["counts"]
    assert [0, 1, 2] == [one["id"] for one in usage["replicas"]]
    assert ["ready"] == log.lines
    assert NO_NODE == caught.value.detail


def test_files_behind_a_socket(monkeypatch: pytest.MonkeyPatch, hosts: Hosts, app_id: str) -> None:
    """The manager is a node itself, and its daemon needs no URL of its own."""
    where = {"node_url": "", "constraints": ["node.hostname==box1"]}

    with _running(_connect_by(monkeypatch, hosts, **where), app_id) as (scheduler, _):
        found = [
            scheduler.engine.read_file(row.id, "/tmp/result", 100)  # noqa: S108
            for row in scheduler.engine.rows({labels.APP_ID: app_id})
        ]

    assert [b"found\n"] * 3 == found
