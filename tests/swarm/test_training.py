"""PyTorch over three nodes: torchrun with its c10d rendezvous on an overlay network."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from airflow_torchx.core.engine import labels
from airflow_torchx.operators import TorchXDockerOperator
from tests.airflow.supervisor import Supervisor
from tests.integration.uv_project import BASE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_torchx.swarm_engine import SwarmEngine
    from tests.swarm.hosts import Hosts

# Its image takes about a minute to get to three daemons.
pytestmark = [pytest.mark.docker, pytest.mark.campaign, pytest.mark.timeout(600)]

CODE: Final = Path(__file__).parents[2] / "dags" / "workspace"


@pytest.fixture
def image(hosts: Hosts) -> Iterator[str]:
    """Return an image with PyTorch, which each node has without a registry."""
    hosts.bring_image(BASE)
    yield BASE
    for host in hosts.all:
        with closing(host.client) as client:
            client.remove_image(BASE, force=True)


def test_training_over_three_nodes(
    image: str,
    hosts: Hosts,
    swarm_engine: SwarmEngine,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
    app_id: str,
) -> None:
    """The loss falls, each node has one replica, and the result of replica 0 comes back."""
    endpoint = hosts.endpoint()
    assert endpoint.swarm is not None
    extra = {"scheduler": "docker_swarm", "node_url": endpoint.swarm.node_url}
    connection = {"conn_type": "torchx_docker", "host": endpoint.url, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_GPU_CLUSTER", json.dumps(connection))
    task = TorchXDockerOperator(
        task_id="gang",
        torchx_conn_id="gpu_cluster",
        component="dist.ddp",
        component_args=[
            *("-j", "3x1", "--cpu", "1", "--memMB", "1024", "--script", "/code/train.py"),
            f"--mounts=type=bind,src={CODE},dst=/code,readonly",
            *("--", "--metrics", "/tmp/metrics.json"),  # noqa: S108 - in the container
        ],
        image=image,
        env={"PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"},
        options={"max_replicas_per_node": 1, "placement": "spread"},
        result_path="/tmp/metrics.json",  # noqa: S108 - in the container
        on_finish="keep",
    )

    supervisor = Supervisor(task, run_id=app_id)
    ended = supervisor.run()
    rows = swarm_engine.rows({labels.RUN_ID: app_id})
    for row in rows:
        swarm_engine.remove(row.id)

    assert "SucceedTask" == ended.report, ended.error
    assert ["box1", "box2", "box3"] == sorted(row.node for row in rows)
    metrics = supervisor.xcoms["return_value"]
    record_property("outcome", f"loss {metrics['first_loss']:.3f} -> {metrics['final_loss']:.3f}")
    assert (10, 3) == (metrics["epochs"], metrics["world_size"])
    assert metrics["final_loss"] < metrics["first_loss"] / 2
