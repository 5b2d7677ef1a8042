"""The real `torchx` command line on what we launched, and we on what it launched.

Each test runs with the nightly of TorchX and with its last release. Asked for an app that is gone,
the release answers SUCCEEDED: so nothing here is asked for once it is removed.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from airflow_torchx.core.engine.labels import APP_ID
from airflow_torchx.core.state.app_ref import app_ref
from airflow_torchx.docker_engine import DockerEngine
from airflow_torchx.schedulers.docker_scheduler import DockerScheduler
from airflow_torchx.sensors import TorchXDockerSensor
from airflow_torchx.specs import AppState
from tests.airflow.apps import shell
from tests.conftest import BUSYBOX, do_without
from tests.integration.second_daemon import running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.airflow.one_task import OneTask

pytestmark = [pytest.mark.docker, pytest.mark.timeout(180)]

ROOT: Final = Path(__file__).parents[2]
#: Version of TorchX, and where the set-up installs it, apart from us.
VERSIONS: Final = {"nightly": ".venv-torchx", "0.7.0": ".venv-torchx-0.7"}
#: Prints its name, and runs until it is stopped.
SCRIPT: Final = "trap 'exit 3' TERM; echo hello from ${replica_id}; sleep 600 & wait"


@pytest.fixture(params=VERSIONS)
def torchx(request: pytest.FixtureRequest) -> str:
    """Return the path of the command, of each version."""
    folder = VERSIONS[request.param]
    command = ROOT / folder / "bin/torchx"
    if not command.exists():
        do_without(f"no {folder}: run `make {folder}/.installed`")
    return str(command)


@pytest.fixture
def launched(torchx: str, docker_engine: DockerEngine) -> Iterator[str]:
    """Return the handle that `torchx run` tells of an app of two replicas of `SCRIPT`."""
    # Without a workspace: it would make an image of the current folder.
    launch = [torchx, "run", "-s", "local_docker", "--workspace", "", "utils.sh"]
    replicas = ["--image", BUSYBOX, "--num_replicas", "2"]
    command = [*launch, *replicas, "exec", "sh", "-c", SCRIPT]
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
    """The sensor waits for an app that TorchX launched; the handle is enough."""

    def stop() -> None:
        for row in docker_engine.rows({APP_ID: app_ref(launched).app_id}):
            docker_engine.stop(row.id, 10)

    running = one_task.run(
        TorchXDockerSensor, app_handle=launched, target_states=["RUNNING"], min_replicas=2
    )
    stopper = threading.Timer(3, stop)
    stopper.start()
    ended = one_task.run(
        TorchXDockerSensor,
        app_handle=launched,
        target_states=["FAILED"],
        failed_states=(),
        deferrable=True,
    )
    stopper.join()

    for task, state, code in ((running, "RUNNING", None), (ended, "FAILED", 3)):
        told = [{"role": "sh", "id": i, "state": state, "exit_code": code} for i in (0, 1)]
        assert told == task.xcom()["replicas"]


def test_our_verbs_are_for_what_it_launches_too(
    torchx: str, launched: str, docker_engine: DockerEngine
) -> None:
    """Our scheduler describes, follows and cancels an app that TorchX launched, by its handle."""
    scheduler, app_id = DockerScheduler("torchx", docker_engine), app_ref(launched).app_id

    seen = scheduler.describe(app_id)
    follow = scheduler.log_iter(app_id, "sh", 1, should_tail=True)
    first = next(iter(follow))
    scheduler.cancel(app_id)
    ended = scheduler.describe(app_id)

    assert seen is not None
    assert (AppState.RUNNING, 2) == (seen.state, len(seen.roles_statuses[0].replicas))
    assert app_id in {app.app_id for app in scheduler.list()}
    assert ["hello from 1\n"] == [first, *follow]
    assert ended is not None
    assert AppState.CANCELLED is ended.state
    # It knows no such state, and tells how the processes ended.
    assert "FAILED" in run(torchx, "status", launched)


def test_our_command_line_is_for_what_it_launches_too(launched: str) -> None:
    """Our command line shows, follows and cancels an app that TorchX launched."""

    def ours(*words: str) -> str:
        command = [sys.executable, "-W", "ignore", "-m", "airflow_torchx.cli", *words]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return done.stdout + done.stderr

    assert launched in ours("list")
    assert "RUNNING" in ours("status", launched)
    assert "sh/1 hello from 1" in ours("log", f"{launched}/sh/1")
    assert "CANCELLED" in ours("cancel", launched)
    assert "CANCELLED" in ours("describe", launched)


def run(torchx: str, *words: str) -> str:
    """Return what a `torchx` command that succeeds prints."""
    ran = subprocess.run([torchx, *words], check=False, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.fixture
def own_daemon(
    monkeypatch: pytest.MonkeyPatch, airflow_home: Path, app_id: str
) -> Iterator[tuple[OneTask, DockerEngine]]:
    """Return a task that runs on a daemon of its own, and that daemon.

    TorchX asks for the exit code of each container in its list, and fails if one was removed in
    between, as those of tests beside this one are. Engine 20.10 even lists one that was renamed
    during its removal until the daemon restarts: TorchX's list fails each time then.
    """
    from tests.airflow.one_task import OneTask

    with running(disk_mb=200) as daemon:
        monkeypatch.setenv("DOCKER_HOST", str(daemon.endpoint.url))
        with (
            DockerEngine.connect(daemon.endpoint) as engine,
            OneTask(airflow_home / "dags", engine, app_id) as task,
        ):
            yield task, engine
            for row in engine.rows({APP_ID: None}):
                engine.remove(row.id)


def test_it_lists_shows_follows_and_cancels(
    own_daemon: tuple[OneTask, DockerEngine], torchx: str
) -> None:
    """TorchX's command line lists, shows, follows and cancels an app that Airflow launched."""
    task, engine = own_daemon
    script = "trap 'exit 0' TERM; echo hello from ${replica_id}; while true; do sleep 0.1; done"
    ended = task.run(app=shell(script), wait_for_completion=False)
    app_id = ended.rows[0].labels[APP_ID]
    handle = f"local_docker://torchx/{app_id}"

    role = ended.rows[0].labels["torchx.pytorch.org/role-name"]
    assert ended.xcom() == handle
    listed = run(torchx, "list", "-s", "local_docker")
    assert re.search(rf"^{handle} +RUNNING$", listed, re.MULTILINE)
    assert "RUNNING" in run(torchx, "status", handle)
    with subprocess.Popen(
        [torchx, "log", "--tail", f"{handle}/{role}/1"], stdout=subprocess.PIPE, text=True
    ) as following:
        assert following.stdout is not None
        assert "hello from 1" in following.stdout.readline()
        run(torchx, "cancel", handle)
        assert following.wait(timeout=30) == 0

    # TorchX stops containers and leaves no mark on them: both see how their processes ended.
    seen = DockerScheduler("torchx", engine).wait(app_id, timeout_s=60)
    assert seen.state is AppState.SUCCEEDED
    assert "SUCCEEDED" in run(torchx, "status", handle)
