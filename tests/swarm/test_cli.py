"""Tests the command line on a swarm, as its user calls it: with DOCKER_HOST, a manager's URL."""

from __future__ import annotations

import json
import logging
import re
from typing import TYPE_CHECKING

import pytest

from airflow_torchx.cli import main
from airflow_torchx.core.engine import labels
from airflow_torchx.specs import AppDef, Resource, Role
from tests.conftest import BUSYBOX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from airflow_torchx.schedulers.swarm_scheduler import SwarmScheduler
    from airflow_torchx.swarm_engine import SwarmEngine
    from tests.swarm.hosts import Hosts

    Cli = Callable[..., tuple[int, str, str]]

pytestmark = [pytest.mark.docker, pytest.mark.timeout(180)]


@pytest.fixture
def cli(
    hosts: Hosts,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    swarm_engine: SwarmEngine,
    app_id: str,
) -> Iterator[Cli]:
    """Return a function that runs a command line and returns exit code, output and errors.

    Containers with the test's label are removed at its end.
    """
    logger = logging.getLogger("airflow_torchx")
    before = logger.level, logger.handlers, logger.propagate
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DOCKER_HOST", hosts[1].url)
    for name in ("TORCHXCONFIG", "NO_COLOR", "FORCE_COLOR", "LOGLEVEL"):
        monkeypatch.delenv(name, raising=False)

    def call(*argv: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(argv)
        return (code, *capsys.readouterr())

    yield call

    for row in swarm_engine.rows({"of-test": app_id}):
        swarm_engine.remove(row.id)
    logger.level, logger.handlers, logger.propagate = before


def _argv(app_id: str, script: str, *options: str, cfg: str = "stop_grace_s=1") -> list[str]:
    """Return arguments that launch a shell in three replicas, with the test's label."""
    cfg = f"{cfg},labels=of-test:{app_id}"
    argv = ["run", "-s", "docker_swarm", "-cfg", cfg, *options, "utils.sh", "--image", BUSYBOX]
    return [*argv, "--num_replicas", "3", "--", "sh", "-c", script]


def test_an_app_from_launch_to_removal(cli: Cli, app_id: str, swarm_engine: SwarmEngine) -> None:
    """Every command works on an app of a swarm, by its handle, or by its id with -s."""
    # Else the first one that fails may stop another one before its line.
    code, handle, errors = cli(*_argv(app_id, "echo hello; exit 3", cfg="failure_policy=wait_all"))
    handle = handle.strip()
    app = handle.rpartition("/")[2]

    assert (1, f"docker_swarm://torchx/{app}") == (code, handle)
    assert "sh/0 hello\n" in errors
    assert f"airflow-torchx delete {handle}" in errors
    listed = json.loads(cli("list", "-s", "docker_swarm", "--json")[1])
    (mine,) = [one for one in listed if one["app_id"] == app]
    assert ("docker_swarm", handle, "FAILED") == (mine["scheduler"], mine["handle"], mine["state"])
    assert 3 == mine["failure"]["exit_code"]
    for argv in ((handle,), ("-s", "docker_swarm", app[:-1])):
        code, output, _ = cli("status", *argv)
        assert (0, f"{handle} is FAILED") == (code, output.splitlines()[0])
    code, log, _ = cli("log", f"{handle}/sh/1")
    assert (0, "sh/1 hello\n") == (code, log)
    described = json.loads(cli("describe", "--json", handle)[1])
    assert ("docker_swarm", 3) == (described["scheduler"], described["roles"][0]["num_replicas"])
    unowned = cli("prune", "-s", "docker_swarm", "--older-than", "0s", "--dry-run", "--json")[1]
    assert app in [one["name"] for one in json.loads(unowned)["found"]]
    assert (0, "", f"app {app} is already FAILED\n") == cli("cancel", handle)
    assert (0, "", f"deleted app {app}\n") == cli("delete", "-s", "docker_swarm", app)
    assert () == swarm_engine.rows({labels.APP_ID: app})
    code, _, errors = cli("status", handle)
    assert (1, True) == (code, f"no app '{app}' on this swarm" in errors)


def test_a_detached_app_is_cancelled(cli: Cli, app_id: str) -> None:
    """With --detach it runs on, on each node; the hints of the command work as they are."""
    code, output, errors = cli(*_argv(app_id, "sleep 60 & wait", "-d", "--json"))
    result = json.loads(output)
    assert (0, "docker_swarm", "RUNNING") == (code, result["scheduler"], result["state"])
    (cancel,) = re.findall(r"airflow-torchx (cancel .*)", errors)

    code, _, errors = cli(*cancel.split())

    assert (0, True) == (code, f"app {result['app_id']} is CANCELLED" in errors)
    assert f"airflow-torchx delete {result['handle']}" in errors


def test_daemons_that_are_not_managers(
    cli: Cli, hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says what to do on a worker, and on a daemon without a swarm."""
    monkeypatch.setenv("DOCKER_HOST", hosts[2].url)
    code, _, worker = cli("list", "-s", "docker_swarm")
    assert (1, True) == (code, "is a worker of a swarm, not a manager" in worker)
    assert f"Give the URL of a manager: the managers are {hosts[1].address}." in worker

    monkeypatch.delenv("DOCKER_HOST")
    code, _, alone = cli("list", "-s", "docker_swarm")
    assert (1, True) == (
        code,
        "Run `docker swarm init` there" in alone,
    )


def test_gpus(cli: Cli, app_id: str, scheduler: SwarmScheduler) -> None:
    """The command lists the GPUs of all nodes with the apps that hold them, and those that wait."""
    for name in ("holds", "waits"):
        role = Role(
            "trainer",
            image=BUSYBOX,
            entrypoint="sleep",
            args=["60"],
            num_replicas=2,
            resource=Resource(cpu=0, gpu=2, memMB=16),
        )
        context = scheduler.new_context(f"{app_id}-{name}")
        app = AppDef(name, [role])
        scheduler.schedule(scheduler.submit_dryrun(app, {"stop_grace_s": 0}, context=context))

    found = json.loads(cli("gpus", "-s", "docker_swarm", "--json")[1])

    assert [(f"box{n}", f"GPU-{n}{letter}") for n in (1, 2, 3) for letter in "ab"] == [
        (one["host"], one["id"]) for one in found["gpus"]
    ]
    assert ["free"] * 2 + [f"{app_id}-holds"] * 4 == sorted(
        one["app_id"] or one["state"] for one in found["gpus"]
    )
    assert [(f"{app_id}-waits", 4)] == [(one["app_id"], one["gpus"]) for one in found["waiting"]]
    scheduler.delete(f"{app_id}-holds")
