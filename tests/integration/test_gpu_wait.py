"""The command line waits for GPUs, on a terminal."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from airflow_torchx.cli import main, screen
from airflow_torchx.core.engine import labels
from airflow_torchx.runtime import lifecycle
from airflow_torchx.schedulers.docker_scheduler import DockerScheduler
from airflow_torchx.specs import AppDef, Resource, Role
from tests import pages
from tests.conftest import BUSYBOX
from tests.integration.conftest import GPU_IDS
from tests.integration.terminal import CTRL_C, Terminal

if TYPE_CHECKING:
    from airflow_torchx.core.connection.endpoint import Endpoint
    from airflow_torchx.docker_engine import DockerEngine

pytestmark = pytest.mark.docker

#: The page launches an app that needs two GPUs.
RUN: Final = pages.block_with("--gpu 2").replace("--image busybox", f"--image {BUSYBOX}")


@pytest.fixture
def holder(gpu_engine: DockerEngine) -> str:
    """Return an app that holds all GPUs."""
    all_gpus = Resource(cpu=0, gpu=len(GPU_IDS), memMB=64)
    role = Role("main", BUSYBOX, entrypoint="sleep", args=["600"], resource=all_gpus)
    return DockerScheduler("test", gpu_engine).submit(AppDef("holder", [role]), {"stop_grace_s": 0})


def running(daemon: Endpoint, folder: Path) -> Terminal:
    """Run an app on a terminal."""
    env = {
        "DOCKER_HOST": str(daemon.url),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(pages.ROOT),
    }
    return Terminal(("bash", "-euc", RUN), cwd=folder, env=env, columns=1000)


def test_a_wait_is_shown(
    gpu_daemon: Endpoint, gpu_engine: DockerEngine, holder: str, tmp_path: Path
) -> None:
    """The screen says for what the app waits, and which GPU it gets when there is one."""
    with running(gpu_daemon, tmp_path) as terminal:
        terminal.wait_for(f"are held by app {holder} (")
        lifecycle.delete(gpu_engine, holder)

        assert 0 == terminal.end()

    first_two = ",".join(GPU_IDS[:2])
    assert f"waiting for 2 GPUs on {gpu_engine.info().host}: GPU-" in terminal.text
    assert f" gets {first_two.replace(',', ', ')}\n" in terminal.text
    assert f"sh/0 {first_two}\n" in terminal.text
    (row,) = gpu_engine.rows({})
    assert "exited" == row.state


def test_commands_on_an_app_that_waits(
    gpu_daemon: Endpoint,
    gpu_engine: DockerEngine,
    holder: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each command on one app says that the app waits, changes nothing, and returns 1."""
    monkeypatch.setenv("DOCKER_HOST", str(gpu_daemon.url))
    # It sets the log of the whole process.
    monkeypatch.setattr(screen, "configure", lambda _: None)
    with running(gpu_daemon, tmp_path) as terminal:
        terminal.wait_for(f"are held by app {holder} (")
        (ticket,) = gpu_engine.rows({labels.GPU_MARKER: "ticket"})
        app_id = ticket.labels[labels.GPU_APP]

        for command in ("status", "describe", "log", "cancel", "delete"):
            assert 1 == main([command, app_id])
            assert f"app {app_id!r} has waited for GPUs for " in capsys.readouterr().err
        assert (ticket,) == gpu_engine.rows({labels.GPU_MARKER: "ticket"})
        terminal.type(CTRL_C)

        assert 130 == terminal.end()


def test_a_wait_is_interrupted(
    gpu_daemon: Endpoint, gpu_engine: DockerEngine, holder: str, tmp_path: Path
) -> None:
    """After Ctrl-C, nothing of the app is on the daemon, and the error says so."""
    before = gpu_engine.rows({})
    with running(gpu_daemon, tmp_path) as terminal:
        terminal.wait_for(f"are held by app {holder} (")
        assert len(before) < len(gpu_engine.rows({}))
        terminal.type(CTRL_C)

        assert 130 == terminal.end()

    assert "was stopped.\nNothing was left behind." in terminal.text
    assert {row.id for row in before} == {row.id for row in gpu_engine.rows({})}
