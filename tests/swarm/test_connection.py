"""A connection of a swarm: its test, its hook, and what the page reads by it."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import sys
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
from airflow_torchx.schedulers.swarm_scheduler import SwarmScheduler
from airflow_torchx.specs import AppState
from airflow_torchx.ui.daemons import Daemons
from airflow_torchx.ui.live import NO_NODE, Live
from tests.conftest import BUSYBOX
from tests.swarm.ssh import reached_by_ssh
from tests.swarm.test_lifecycle import OBEDIENT, OPTIONS, _app, _await_ready

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from airflow_torchx.ui.reading import LogPart
    from tests.swarm.hosts import Hosts

pytestmark = [pytest.mark.docker, pytest.mark.timeout(180)]

_CONN: Final = "AIRFLOW_CONN_GPU_CLUSTER"
#: What a worker does on another host, by two connections of the swarm; it prints what it finds.
WORKER: Final = """
import json
import sys
from airflow_torchx.core.connection.settings import Settings
from airflow_torchx.core.engine import labels
from airflow_torchx.runtime.engines import connect, diagnose
from airflow_torchx.schedulers.swarm_scheduler import SwarmScheduler
from airflow_torchx.specs import AppDef, Role

app_id, image, *connections = sys.argv[1:]
first, other = [Settings.parse(**json.loads(one)).endpoint for one in connections]
role = Role("sh", image, entrypoint="sh", args=["-c", "hostname | tee /name"], num_replicas=3)
with SwarmScheduler("first", connect(first)) as scheduler:
    context = scheduler.new_context(app_id)
    scheduler.launch(scheduler.prepare(AppDef("a", [role]), {"placement": "spread"}, context))
    try:
        state = scheduler.wait(app_id).state.name
        with SwarmScheduler("other", connect(other)) as reader:
            logs = [[*reader.log_iter(app_id, "sh", index)] for index in range(3)]
            rows = sorted(reader.engine.rows({labels.APP_ID: app_id}), key=lambda row: row.name)
            files = [reader.engine.read_file(row.id, "/name", 100).decode() for row in rows]
    finally:
        scheduler.delete(app_id)
    left = len(scheduler.engine.rows({labels.APP_ID: app_id}))
nodes, report = [row.node for row in rows], diagnose(first, "torchx-swarm", ())
is_fine = getattr(report, "is_fine", False)
print(json.dumps([state, logs, files, nodes, left, is_fine, str(report)]))
"""


def _connect_by(monkeypatch: pytest.MonkeyPatch, hosts: Hosts, **extra: object) -> TorchXDockerHook:
    """Return a hook on the swarm; other fields of the connection replace ours."""
    endpoint = hosts.endpoint()
    assert endpoint.swarm is not None
    fields = {"scheduler": "docker_swarm", "node_url": endpoint.swarm.node_url, **extra}
    host = fields.pop("host", endpoint.url)
    text = json.dumps({"conn_type": "torchx_docker", "host": host, "extra": fields})
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
    with hosts.paused("box3"):
        found = diagnose(endpoint, "bridge", ())

    assert isinstance(found, SwarmReport)
    assert not found.is_fine
    for text in (
        "Node box3 (worker): paused, so it takes no replicas",
        "Network 'bridge' is a bridge network, not an overlay network",
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
def _running(hook: TorchXDockerHook, app_id: str) -> Iterator[tuple[SwarmScheduler, TaskApp]]:
    """Run an app of a task on the connection of a hook."""
    attempt = TaskAttempt(
        dag_id="d", run_id=app_id, task_id="t", map_index=-1, max_tries=0, try_number=1
    )
    with hook.get_conn() as scheduler:
        context = scheduler.new_context(app_id, labels=attempt.labels)
        app = _app(f"echo found > /tmp/result; {OBEDIENT}")
        try:
            scheduler.schedule(scheduler.submit_dryrun(app, OPTIONS, context=context))
            assert isinstance(scheduler, SwarmScheduler)
            _await_ready(scheduler, app_id)
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


def test_tls(hosts: Hosts, app_id: str, tmp_path: Path) -> None:
    """An app is launched, read on each node and removed over TLS, with one certificate for all.

    Nodes are reached like the manager, or by ``node_url``. The first manager may be down.
    """
    url, certificate = hosts[1].tls_url, hosts.certificate
    more = {"managers": [url], "node_url": "tcp://{addr}:2376"}
    given = (
        (url, certificate.texts()),
        (f"tcp://{hosts[1].address}:1", {**certificate.paths(), **more}),
    )
    connections = [
        json.dumps({"url": one, "extra": {"scheduler": "docker_swarm", **extra}})
        for one, extra in given
    ]

    script = shlex.join([sys.executable, "-c", WORKER, app_id, BUSYBOX, *connections])
    found = json.loads(hosts[2].shell(script, tmp_path))
    state, logs, files, nodes, left, is_fine, report = found

    names = [f"{app_id}-sh-{index}\n" for index in range(3)]
    assert ("SUCCEEDED", [[name] for name in names], names) == (state, logs, files)
    assert ["box1", "box2", "box3"] == sorted(nodes)
    assert 0 == left
    assert is_fine, report
    assert report.startswith(f"Docker Swarm of 3 nodes at {url}: Docker ")


# The program `ssh` must be installed.
@pytest.mark.campaign
def test_ssh(monkeypatch: pytest.MonkeyPatch, hosts: Hosts, app_id: str, tmp_path: Path) -> None:
    """An app is launched, read on each node and removed over ssh."""
    with reached_by_ssh(hosts.all, tmp_path) as program:
        monkeypatch.setenv("PATH", str(program), prepend=os.pathsep)
        hook = _connect_by(
            monkeypatch, hosts, host="ssh://train@box1", node_url="ssh://train@{hostname}"
        )
        _, report = hook.test_connection()
        with _running(hook, app_id) as (scheduler, _):
            rows = scheduler.engine.rows({labels.APP_ID: app_id})
            files = [scheduler.engine.read_file(row.id, "/tmp/result", 9) for row in rows]  # noqa: S108
            scheduler.cancel(app_id)
            ended = scheduler.describe(app_id)
            log = [*scheduler.log_iter(app_id, "role0", 0)]
        left = scheduler.exists(app_id)

    assert report.startswith("Docker Swarm of 3 nodes at ssh://train@box1: Docker ")
    assert ([b"found\n"] * 3, ["ready\n"]) == (files, log[:1])
    assert ended is not None
    assert (AppState.CANCELLED, False) == (ended.state, left)
