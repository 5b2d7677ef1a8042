"""Where a stub listens, a registry, and a daemon with GPUs."""

from __future__ import annotations

import contextlib
import gc
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.conftest import require_docker
from tests.integration.registry import serving
from tests.integration.second_daemon import running_with_gpus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_torchx.core.connection.endpoint import Endpoint
    from airflow_torchx.docker_engine import DockerEngine
    from tests.integration.registry import Registry

#: The GPUs of `gpu_daemon`.
GPU_IDS: Final = ("GPU-aaaa", "GPU-bbbb", "GPU-cccc", "GPU-dddd")


@pytest.fixture
def address(tmp_path: Path) -> Path:
    """Return a place for a socket."""
    return tmp_path / "docker.sock"


@pytest.fixture
def no_socket_left() -> Iterator[None]:
    """Assert that a test leaves no socket open."""
    before = _sockets()
    # What is there now is not collected, with its sockets: beside Airflow in this process, each
    # collection of all takes 0.7 s of a core.
    gc.freeze()
    yield
    gc.collect()
    gc.unfreeze()
    assert _sockets() <= before


def _sockets() -> set[str]:
    links = []
    for descriptor in Path("/proc/self/fd").iterdir():
        # The one of the folder that is read is gone.
        with contextlib.suppress(FileNotFoundError):
            links.append(str(descriptor.readlink()))
    return {link for link in links if link.startswith("socket:")}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """Return a registry that asks for a login; what is pushed to it lives as long as the module."""
    require_docker().close()
    with serving(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture(scope="session")
def gpu_daemon() -> Iterator[Endpoint]:
    """Return where a daemon listens that has the GPUs `GPU_IDS`, and the image of the tests.

    A container finds the ids of its GPUs in its environment, as NVIDIA_VISIBLE_DEVICES.
    """
    with running_with_gpus(GPU_IDS) as daemon:
        yield daemon.endpoint


@pytest.fixture
def gpu_engine(gpu_daemon: Endpoint) -> Iterator[DockerEngine]:
    """Return a connection to a daemon with GPUs, on which a test finds and leaves no container."""
    from airflow_torchx.docker_engine import DockerEngine

    with DockerEngine.connect(gpu_daemon) as engine:
        yield engine

    with DockerEngine.connect(gpu_daemon) as engine:
        for row in engine.rows({}):
            engine.remove(row.id)

        assert () == engine.rows({})
