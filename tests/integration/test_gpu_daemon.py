"""GPUs of a real daemon, whose driver gives a container the ids of its GPUs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from airflow_torchx.core.engine.containers import GpuRequest
from tests.conftest import BUSYBOX
from tests.contract.bench import Bench
from tests.contract.script import Script
from tests.integration.conftest import GPU_IDS

if TYPE_CHECKING:
    from airflow_torchx.docker_engine import DockerEngine

pytestmark = pytest.mark.docker


def test_info(gpu_engine: DockerEngine, docker_engine: DockerEngine) -> None:
    """The daemon reports the ids of its GPUs, and is another one than that of other tests."""
    info = gpu_engine.info()

    assert GPU_IDS == info.gpu_ids
    assert info.is_local
    assert info.id != docker_engine.info().id


@pytest.mark.parametrize(
    ("request_", "visible"),
    [
        (GpuRequest(count=2, device_ids=("GPU-aaaa", "GPU-bbbb")), b"GPU-aaaa,GPU-bbbb"),
        (GpuRequest(count=2), b"0,1"),
        (GpuRequest(count=-1), b"all"),
        (None, b""),
    ],
)
def test_visible_gpus(
    gpu_engine: DockerEngine, app_id: str, request_: GpuRequest | None, visible: bytes
) -> None:
    """A container sees the GPUs that it requests, or without ids always the first ones."""
    bench = Bench(gpu_engine, app_id, BUSYBOX)
    spec = replace(bench.spec(Script()), args=("-c", "echo $NVIDIA_VISIBLE_DEVICES"), gpus=request_)

    container_id = bench.run_to_its_end(spec)

    assert [("stdout", visible + b"\n")] == bench.log(container_id)
    assert (() if request_ is None else (request_,)) == bench.detail(container_id).gpus
