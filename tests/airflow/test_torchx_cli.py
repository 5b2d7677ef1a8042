"""The real `torchx` command line on what the operator launched."""

from __future__ import annotations

import os
import re
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from airflow_torchx.core.labels import APP_ID
from airflow_torchx.schedulers.docker_scheduler import DockerScheduler
from airflow_torchx.sensors import TorchXDockerSensor
from airflow_torchx.specs import AppState, app_id_of
from tests.airflow.apps import shell
from tests.conftest import BUSYBOX

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_torchx.docker_engine import DockerEngine
    from tests.airflow.one_task import OneTask

pytestmark = [pytest.mark.docker, pytest.mark.timeout(180)]

TORCHX: Final = Path(__file__).parents[2] / ".venv-torchx/bin/torchx"


@pytest.fixture
def torchx() -> str:
    """Return the path of the command, which the set-up installs apart from ours."""
    if not TORCHX.exists():
        why = "no .venv-torchx: run `make .venv-torchx/.installed`"
        if os.environ.get("CI") == "true":
            pytest.fail(why)
        pytest.skip(why)
    return str(TORCHX)


@pytest.fixture
def launched(torchx: str, docker_engine: DockerEngine) -> Iterator[str]:
    """Return the handle that `torchx run` tells of an app that runs for ten minutes."""
    # Without a workspace: it would make an image of the current folder.
    launch = [torchx, "run", "-s", "local_docker", "--workspace", "", "utils.sh"]
    command = [*launch, "--image", BUSYBOX, "--num_replicas", "2", "sleep", "600"]
    env = os.environ | {"PYTHONUNBUFFERED": "1"}
    # It stays until the app has ended.
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as run:
        assert run.stdout is not None
        handle = run.stdout.readline().strip()
        assert handle.startswith("local_docker://torchx/sh-")

        yield handle

        DockerScheduler("torchx", docker_engine).delete(handle)
        run.kill()


def test_the_sensor_waits_for_what_it_launches(
    one_task: OneTask, launched: str, docker_engine: DockerEngine
) -> None:
    """A handle is all that the sensor needs."""

    def kill() -> None:
        for row in docker_engine.rows({APP_ID: app_id_of(launched)}):
            docker_engine.stop(row.id, 0)

    running = one_task.run(
        TorchXDockerSensor, app_handle=launched, target_states=["RUNNING"], min_replicas=2
    )
    killer = threading.Timer(3, kill)
    killer.start()
    ended = one_task.run(
        TorchXDockerSensor,
        app_handle=launched,
        target_states=["FAILED"],
        failed_states=(),
        deferrable=True,
    )
    killer.join()

    for task, state, code in ((running, "RUNNING", None), (ended, "FAILED", 137)):
        told = [{"role": "sh", "id": i, "state": state, "exit_code": code} for i in (0, 1)]
        assert told == task.xcom()["replicas"]


def test_it_lists_shows_follows_and_cancels(
    one_task: OneTask, torchx: str, docker_engine: DockerEngine
) -> None:
    """An engineer who knows TorchX is at home on the daemon of an Airflow."""
    script = "trap 'exit 0' TERM; echo hello from ${replica_id}; while true; do sleep 0.1; done"
    ended = one_task.run(app=shell(script), wait_for_completion=False)
    app_id = ended.rows[0].labels[APP_ID]
    handle = f"local_docker://torchx/{app_id}"

    def run(*args: str) -> str:
        ran = subprocess.run(
            [torchx, *args], check=False, capture_output=True, text=True, timeout=60
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    role = ended.rows[0].labels["torchx.pytorch.org/role-name"]
    assert ended.xcom() == handle
    assert re.search(rf"^{handle} +RUNNING$", run("list", "-s", "local_docker"), re.MULTILINE)
    assert "RUNNING" in run("status", handle)
    with subprocess.Popen(
        [torchx, "log", "--tail", f"{handle}/{role}/1"], stdout=subprocess.PIPE, text=True
    ) as following:
        assert following.stdout is not None
        assert "hello from 1" in following.stdout.readline()
        run("cancel", handle)
        assert following.wait(timeout=30) == 0

    # TorchX stops containers and leaves no mark on them: both see how their processes ended.
    seen = DockerScheduler("torchx", docker_engine).wait(app_id, timeout_s=60)
    assert seen.state is AppState.SUCCEEDED
    assert "SUCCEEDED" in run("status", handle)
