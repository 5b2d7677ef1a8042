"""GPUs of a real daemon, whose driver gives a container the ids of its GPUs."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from airflow_torchx.cli import main, screen
from airflow_torchx.core.engine.containers import GpuRequest
from airflow_torchx.schedulers.docker_scheduler import DockerScheduler
from airflow_torchx.specs import AppDef, Resource, Role
from tests.conftest import BUSYBOX
from tests.contract.bench import Bench
from tests.contract.script import Script
from tests.integration.conftest import GPU_IDS

if TYPE_CHECKING:
    from airflow_torchx.core.connection.endpoint import Endpoint
    from airflow_torchx.docker_engine import DockerEngine

pytestmark = [pytest.mark.docker, pytest.mark.xdist_group("gpus")]


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


def test_the_command_lists_who_holds_gpus(
    gpu_daemon: Endpoint,
    gpu_engine: DockerEngine,
    app_id: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The command gpus lists the GPUs of apps and of other containers, and those that are free."""
    bench = Bench(gpu_engine, app_id, BUSYBOX)
    forever = replace(bench.spec(Script()), args=("-c", "sleep 600"))
    notebook = replace(forever, labels={}, gpus=GpuRequest(count=1, device_ids=("GPU-cccc",)))
    gpu_engine.start(gpu_engine.create(notebook))
    resource = Resource(cpu=1, gpu=1, memMB=64)
    role = Role("train", BUSYBOX, entrypoint="sleep", args=["600"], num_replicas=2)
    app = DockerScheduler("test", gpu_engine).submit(
        AppDef("fit", [replace(role, resource=resource)]), {"network": "host"}
    )
    monkeypatch.setenv("DOCKER_HOST", str(gpu_daemon.url))
    # It sets the log of the whole process.
    monkeypatch.setattr(screen, "configure", lambda _: None)

    assert 0 == main(["gpus", "--json"])
    found = {gpu["id"]: gpu for gpu in json.loads(capsys.readouterr().out)["gpus"]}
    assert 0 == main(["gpus"])
    lines = capsys.readouterr().out.splitlines()

    assert list(GPU_IDS) == list(found)
    assert [app, app, None, None] == [gpu["app_id"] for gpu in found.values()]
    assert ["held"] * 3 + ["free"] == [gpu["state"] for gpu in found.values()]
    assert notebook.name == found["GPU-cccc"]["container"]
    assert ["GPU-aaaa", "held", app] == lines[1].split()[1:4]
    assert ["container", notebook.name] == lines[3].split()[3:5]
