"""Rounds on a real daemon on which something has changed since the launch."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import docker
import pytest

from airflow_torchx.core.engine import labels
from airflow_torchx.core.state.describe import replicas_of
from airflow_torchx.runtime.replica_log import ReplicaLog
from airflow_torchx.schedulers.docker_scheduler import DockerScheduler
from airflow_torchx.specs import AppDef, AppState, BindMount, Role
from tests.airflow.stack import free_port
from tests.conftest import BUSYBOX

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from airflow_torchx.docker_engine import DockerEngine

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

#: Fails in the launch, and succeeds in the first round after it.
PROGRAM = '[ "$TORCHX_RESTART" = 1 ]'


@pytest.fixture
def scheduler(docker_engine: DockerEngine) -> DockerScheduler:
    """Return a scheduler on the daemon."""
    return DockerScheduler("rounds", docker_engine)


@pytest.fixture
def client() -> Iterator[docker.DockerClient]:
    """Return a client that changes the daemon."""
    with contextlib.closing(docker.from_env()) as found:
        yield found


def trainer(image: str = BUSYBOX, **fields: object) -> Role:
    """Return a role that may be restarted once."""
    args = ["-c", PROGRAM]
    return Role("trainer", image, entrypoint="sh", args=args, max_retries=1, **fields)  # type: ignore[arg-type]


def ended(scheduler: DockerScheduler, app_id: str, role: Role, **options: object) -> None:
    """Launch an app, and return once its replica has ended and its restart is due."""
    context = scheduler.new_context(app_id)
    scheduler.schedule(scheduler.prepare(AppDef("app", [role]), options, context))
    while any(row.state != "exited" for row in scheduler.engine.rows({labels.APP_ID: app_id})):
        time.sleep(0.05)
    found = scheduler.describe(app_id)
    assert found is not None
    assert AppState.PENDING is found.state


def test_a_published_port(scheduler: DockerScheduler, app_id: str) -> None:
    """Each round publishes the same port of the host, which the one before it has freed."""
    ended(scheduler, app_id, trainer(port_map={"http": free_port()}), publish_ports=True)

    assert AppState.SUCCEEDED is scheduler.wait(app_id, timeout_s=60).state


@pytest.mark.parametrize("is_moved", [False, True])
def test_a_tag_that_has_changed(
    scheduler: DockerScheduler, client: docker.DockerClient, app_id: str, *, is_moved: bool
) -> None:
    """A round runs the image of the launch, although its tag was removed or moved."""
    image = client.images.get(BUSYBOX)
    tag = f"{app_id}:latest"
    image.tag(tag)
    try:
        ended(scheduler, app_id, trainer(tag))
        if is_moved:
            made = client.containers.create(BUSYBOX, name=f"{app_id}-other")
            made.commit(app_id, "latest", conf={"Entrypoint": ["false"]})
            made.remove()
        else:
            client.images.remove(tag)

        assert AppState.SUCCEEDED is scheduler.wait(app_id, timeout_s=60).state
        rows = scheduler.engine.rows({labels.APP_ID: app_id})
        images = {client.api.inspect_container(row.id)["Image"] for row in rows}
        assert {image.id} == images
    finally:
        for row in scheduler.engine.rows({labels.APP_ID: app_id}):
            scheduler.engine.remove(row.id)
        if is_moved:
            client.images.remove(tag, force=True)


def test_a_network_that_is_gone(
    scheduler: DockerScheduler,
    client: docker.DockerClient,
    app_id: str,
    network_name: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The failure is final, as ``docker network prune`` removed the network between two rounds."""
    ended(scheduler, app_id, trainer(), network=network_name)
    client.networks.get(network_name).remove()

    found = scheduler.wait(app_id, timeout_s=60)

    assert AppState.FAILED is found.state
    assert f"network {network_name} not found" in caplog.text


def test_a_host_path_that_is_gone(
    scheduler: DockerScheduler, app_id: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The failure is final, and the log says why."""
    data = tmp_path / "data"
    data.mkdir()
    ended(scheduler, app_id, trainer(mounts=[BindMount(str(data), "/data")]))
    data.rmdir()

    found = scheduler.wait(app_id, timeout_s=60)

    assert AppState.FAILED is found.state
    assert str(data) in caplog.text
    assert 1 == len(replicas_of(found))


@pytest.mark.parametrize("network", ["none", "host"])
def test_a_network_of_docker(scheduler: DockerScheduler, app_id: str, network: str) -> None:
    """A round has the network of the launch, also if that is one of Docker's own."""
    ended(scheduler, app_id, trainer(), network=network)

    assert AppState.SUCCEEDED is scheduler.wait(app_id, timeout_s=60).state


def test_a_long_name_and_a_high_number(scheduler: DockerScheduler, app_id: str) -> None:
    """The name of a container of round 12 may be longer than its host name, of 63 characters."""
    args = ["-c", 'hostname; [ "$TORCHX_RESTART" = 12 ]']
    role = replace(trainer(), name="trainer-" + "x" * 60, max_retries=12, args=args)
    ended(scheduler, app_id, role)

    found = scheduler.wait(app_id, timeout_s=120)

    assert AppState.SUCCEEDED is found.state
    replica = replicas_of(found)[0]
    assert 12 == replica.round
    log = ReplicaLog(scheduler.engine, replica.container_id)
    assert [replica.hostname] == [line.text for line in log]
