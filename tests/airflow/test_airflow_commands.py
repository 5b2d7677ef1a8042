"""Tests ``airflow torchx``, our commands in Airflow's command line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from airflow_torchx.cli.airflow_commands import get_commands
from airflow_torchx.cli.commands import COMMANDS
from tests.airflow.command import airflow
from tests.conftest import BUSYBOX

if TYPE_CHECKING:
    from airflow_torchx.docker_engine import DockerEngine

pytestmark = [pytest.mark.docker, pytest.mark.timeout(240), pytest.mark.usefixtures("airflow_home")]


def test_every_command_is_listed() -> None:
    """Airflow finds the commands through the provider and lists them with their help."""
    answer = airflow("torchx", "--help")

    assert 0 == answer.code
    listed = [
        line.split(maxsplit=1) for line in answer.output.splitlines() if line.startswith("    ")
    ]
    assert sorted([one.name, one.help] for one in COMMANDS) == sorted(listed)


def test_arguments_and_exit_codes_are_the_same(docker_engine: DockerEngine, app_id: str) -> None:
    """Airflow passes all arguments unchanged, including those of the component."""
    cfg = f"labels=of-test:{app_id},env=A:1;B:2"
    argv = ["torchx", "run", "-s", "docker", "-cfg", cfg, "--workspace", "", "--json", "utils.sh"]

    answer = airflow(*argv, "--image", BUSYBOX, "--", "sh", "-c", "echo $A$B --help; exit 4")
    for row in docker_engine.rows({"of-test": app_id}):
        docker_engine.remove(row.id)

    assert 1 == answer.code, answer
    assert "FAILED" == json.loads(answer.output)["state"]
    assert "sh/0 12 --help\n" in answer.errors


def test_gpus_of_a_connection_in_the_database() -> None:
    """The command gpus finds a connection in Airflow's database, and says if it is not there."""
    extra = json.dumps({"gpu_ids": ["GPU-7e57"]})
    added = ("torchx_gpus_of_test", "--conn-type", "torchx_docker", "--conn-extra", extra)
    assert 0 == airflow("connections", "add", *added).code

    answer = airflow("torchx", "gpus", "--json", "--conn", added[0])
    assert 0 == airflow("connections", "delete", added[0]).code
    missing = airflow("torchx", "gpus", "--conn", added[0])

    assert ["GPU-7e57"] == [gpu["id"] for gpu in json.loads(answer.output)["gpus"]]
    assert 1 == missing.code
    assert f"there is no connection '{added[0]}'; add one of type 'torchx_docker'" in missing.errors


def test_group_has_every_command() -> None:
    """The command group has each command with each of its arguments."""
    from airflow.cli.cli_config import GroupCommand

    (group,) = get_commands()

    assert isinstance(group, GroupCommand)
    assert "torchx" == group.name
    flags = {one.name: [arg.flags for arg in one.args] for one in group.subcommands}
    assert {one.name: [arg.flags for arg in one.arguments] for one in COMMANDS} == flags
