"""The real `torchx` command line on what the operator launched."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from airflow_torchx.core.labels import APP_ID
from airflow_torchx.schedulers.docker_scheduler import DockerScheduler
from airflow_torchx.specs import AppState
from tests.airflow.apps import shell

if TYPE_CHECKING:
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
