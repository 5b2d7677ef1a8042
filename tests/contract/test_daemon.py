"""The daemon, its images and its networks."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from airflow_torchx.core.engine.protocol import Engine
from airflow_torchx.errors import EngineConflictError, EngineError, ImagePullError
from tests.conftest import BUSYBOX
from tests.contract.bench import Bench
from tests.contract.script import Script

if TYPE_CHECKING:
    from airflow_torchx.docker_engine import DockerEngine


def test_protocol(engine: Engine) -> None:
    """Both engines implement all methods of the protocol."""
    assert isinstance(engine, Engine)


def test_info(engine: Engine) -> None:
    """A daemon reports its identity and its resources."""
    info = engine.info()

    assert info.id
    assert info.id == engine.info().id
    assert info.url
    assert info.is_local
    assert info.os
    assert info.version
    assert info.cpus > 0
    assert info.memory_bytes > 2**28
    assert "runc" in info.runtimes


def test_close(engine: Engine) -> None:
    """Closing an engine twice is allowed."""
    engine.close()
    engine.close()


def test_context(engine: Engine) -> None:
    """An engine is its own context manager."""
    with engine as entered:
        assert engine is entered


def test_find_image(bench: Bench) -> None:
    """An image is found by name and tag, and by its full or short id."""
    image_id = bench.engine.find_image(bench.image)

    assert image_id is not None
    assert image_id.startswith("sha256:")
    assert image_id == bench.engine.find_image(image_id)
    assert image_id == bench.engine.find_image(image_id.removeprefix("sha256:")[:12])
    assert image_id == bench.engine.find_image(f"docker.io/{bench.image}")


@pytest.mark.parametrize(
    "ref",
    [
        "airflow-torchx/busybox",
        "airflow-torchx/busybox:other",
        "airflow-torchx/no-such:local",
        f"airflow-torchx/busybox@sha256:{'0' * 64}",
        f"sha256:{'0' * 64}",
    ],
)
def test_find_missing_image(bench: Bench, ref: str) -> None:
    """A missing image gives None, and a name without a tag means latest."""
    assert bench.engine.find_image(ref) is None


def test_image_by_id(bench: Bench) -> None:
    """A container can be created from an image id, which its row then shows."""
    image_id = bench.engine.find_image(bench.image)
    assert image_id is not None

    container_id = bench.run_to_its_end(replace(bench.spec(Script()), image=image_id))

    assert image_id == bench.row(container_id).image


def test_pull_error(bench: Bench) -> None:
    """Pulling an unknown image, for containers or to build on it, raises an error."""
    for pull in (bench.engine.pull, bench.engine.images.pull):
        with pytest.raises(ImagePullError, match=r"127\.0\.0\.1:9/none"):
            pull("127.0.0.1:9/none", lambda _: None)


def test_network(bench: Bench, network_name: str) -> None:
    """A network is found by name once it exists."""
    engine, before = bench.engine, datetime.now(UTC)
    assert () == engine.networks(network_name)

    network_id = engine.create_network(network_name)
    rows = engine.networks(network_name)

    assert [(network_id, network_name)] == [(row.id, row.name) for row in rows]
    assert before - timedelta(seconds=1) < rows[0].created_at <= datetime.now(UTC)
    assert () == engine.networks(network_name[:-1])


def test_network_twice(bench: Bench, network_name: str) -> None:
    """A second network with the same name is refused."""
    network_id = bench.engine.create_network(network_name)

    with pytest.raises(EngineConflictError):
        bench.engine.create_network(network_name)

    assert [network_id] == [row.id for row in bench.engine.networks(network_name)]


def test_remove_network(bench: Bench, network_name: str) -> None:
    """A removed network is gone, and removing it again is allowed."""
    network_id = bench.engine.create_network(network_name)

    bench.engine.remove_network(network_id)
    bench.engine.remove_network(network_id)

    assert () == bench.engine.networks(network_name)


def test_remove_network_in_use(bench: Bench, network_name: str) -> None:
    """A network stays while a container runs on it; exited containers do not keep it."""
    network_id = bench.engine.create_network(network_name)
    container_id = bench.run(replace(bench.spec(Script(then_s=None)), network=network_name))

    with pytest.raises(EngineError):
        bench.engine.remove_network(network_id)
    bench.engine.stop(container_id, 0)
    bench.engine.remove_network(network_id)

    assert () == bench.engine.networks(network_name)


@pytest.mark.parametrize("network", ["bridge", "host", "none"])
def test_built_in_networks(bench: Bench, network: str) -> None:
    """Containers run on the networks that each daemon has."""
    assert 1 == len(bench.engine.networks(network))

    container_id = bench.run_to_its_end(replace(bench.spec(Script()), network=network))

    assert 0 == bench.detail(container_id).exit_code


def test_container_network(bench: Bench) -> None:
    """A container can join the network of another one."""
    other = bench.run(Script(then_s=None))

    shared = replace(bench.spec(Script()), network=f"container:{other}")

    assert 0 == bench.ended(bench.run(shared)).exit_code


@pytest.mark.docker
def test_names_resolve(docker_engine: DockerEngine, app_id: str, network_name: str) -> None:
    """Peers resolve a container by the name in its spec, even after a rename."""
    bench = Bench(docker_engine, app_id, BUSYBOX)
    docker_engine.create_network(network_name)
    target = replace(bench.spec(Script(then_s=None)), network=network_name)
    target_id = bench.run(target)
    asks = bench.spec(Script())
    command = f"nslookup {target.name} && ping -c 1 {target.name}"
    asks = replace(asks, network=network_name, args=("-c", command))

    before = bench.ended(bench.run(asks))
    docker_engine.rename(target_id, f"{target.name}.cancelled")
    after = bench.ended(bench.run(replace(asks, name=f"{asks.name}-again")))

    assert [0, 0] == [before.exit_code, after.exit_code]
