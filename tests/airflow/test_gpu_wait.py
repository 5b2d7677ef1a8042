"""A task that waits for GPUs under `dag.test()`, on a daemon that has some."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import pytest

from airflow_torchx.core.engine import labels
from airflow_torchx.docker_engine import DockerEngine
from airflow_torchx.errors import GpuWaitTimeoutError
from airflow_torchx.runtime import lifecycle
from airflow_torchx.schedulers.docker_scheduler import DockerScheduler
from airflow_torchx.specs import AppDef, Resource, Role
from tests.airflow.conftest import DAGS
from tests.airflow.one_task import OneTask
from tests.airflow.processes import until
from tests.conftest import BUSYBOX
from tests.integration.second_daemon import running_with_gpus

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.docker

GPUS: Final = ("GPU-aaaa", "GPU-bbbb")
both_modes = pytest.mark.parametrize("deferrable", [False, True], ids=["waits", "defers"])


@pytest.fixture(scope="module")
def engine() -> Iterator[DockerEngine]:
    """Return a connection to a daemon with two GPUs."""
    with running_with_gpus(GPUS) as daemon, DockerEngine.connect(daemon.endpoint) as engine:
        yield engine


@pytest.fixture
def task(
    airflow_home: Path, engine: DockerEngine, app_id: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[OneTask]:
    """Return a task on the daemon with GPUs, which are all held by an app of another client."""
    assert airflow_home
    monkeypatch.setenv("DOCKER_HOST", str(engine.endpoint.url))
    holder = DockerScheduler("shell", engine).submit(needing("sleep 600"), {"stop_grace_s": 0})
    with OneTask(DAGS, engine, app_id) as task:
        yield task
    for row in engine.rows({labels.APP_ID: holder}):
        engine.remove(row.id)

    assert () == engine.rows({})


def needing(script: str) -> AppDef:
    """Return an app of one replica that needs both GPUs."""
    resource = Resource(cpu=0, gpu=len(GPUS), memMB=64)
    role = Role("worker", BUSYBOX, entrypoint="sh", args=["-c", script], resource=resource)
    return AppDef("app", [role])


@contextmanager
def freeing(engine: DockerEngine) -> Iterator[None]:
    """End the apps that hold GPUs as soon as an app waits for some."""

    def free() -> None:
        until(lambda: engine.rows({labels.GPU_MARKER: "ticket"}), "an app that waits")
        for app in lifecycle.apps(engine):
            lifecycle.delete(engine, app.app_id)

    with ThreadPoolExecutor(1) as pool:
        freed = pool.submit(free)
        yield
        freed.result()


@both_modes
def test_the_end_of_another_app(task: OneTask, engine: DockerEngine, *, deferrable: bool) -> None:
    """A task launches its app with the GPUs of an app that ends while it waits."""
    script = 'echo "\\"$NVIDIA_VISIBLE_DEVICES\\"" > /result.json'

    with freeing(engine):
        ended = task.run(app=needing(script), result_path="/result.json", deferrable=deferrable)

    assert ",".join(GPUS) == ended.xcom()
    assert [["GPU-aaaa", "GPU-bbbb"]] == [one["gpus"] for one in ended.xcom("replicas")]


@both_modes
def test_no_app_ends(task: OneTask, *, deferrable: bool) -> None:
    """A task that has waited as long as it may fails, and names what holds the GPUs."""
    options = {"gpu_wait_timeout_s": 0.5}

    ended = task.run(app=needing("true"), options=options, deferrable=deferrable)

    assert isinstance(ended.error, GpuWaitTimeoutError)
    assert "GPU-aaaa, GPU-bbbb are held by app app-" in str(ended.error)
    assert [] == ended.rows
