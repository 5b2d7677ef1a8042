"""What the README tells people to type works."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Final

import pytest

from airflow_torchx.core.plan.options import Opts
from tests.conftest import BUSYBOX, require_docker
from tests.integration.uv_project import BASE

# The command line makes workspace images.
pytestmark = pytest.mark.xdist_group("images")

ROOT: Final = Path(__file__).parents[2]
README: Final = (ROOT / "README.md").read_text()
BLOCKS: Final = re.findall(r"^```(\w+)\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
SHELL: Final = [text.strip() for language, text in BLOCKS if language == "sh"]
PYTHON: Final = [text for language, text in BLOCKS if language == "python"]
PYTORCH: Final = "pytorch/pytorch:2.9.0-cuda12.8-cudnn9-runtime"
#: The block of the command line begins so; it has a test of its own.
TRAINS: Final = "cd dags/workspace"
#: The command that runs these tests cannot be run by them.
TESTS: Final = "make test"
#: `test_quickstart`, `test_container_image` and `test_connections` run these blocks: they look at
#: the demo's screen, and have a project and a registry, or a database.
ELSEWHERE: Final = ("make demo", "container/build.sh", "airflow connections")


def test_ci_runs_the_test_command_of_the_readme() -> None:
    """And nothing else."""
    assert TESTS in SHELL
    assert TESTS in (ROOT / ".ci/run").read_text()


#: Where `pip install` puts our command.
BIN: Final = str(Path(sys.executable).parent)


def test_every_shell_block_is_run() -> None:
    """By a test that looks at what comes of it: here, or where there is what it needs."""
    assert [] == [
        block for block in SHELL if block != TESTS and not block.startswith((*ELSEWHERE, TRAINS))
    ]


@pytest.mark.docker
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("no_images_left")
def test_the_block_that_trains() -> None:
    """On two nodes, of which the log of one is shown, and then the end of both."""
    (block,) = (block for block in SHELL if block.startswith(TRAINS))

    log, _, status = _run(block).partition("{")

    losses = re.findall(r"rank 1 epoch (\d) loss (\d\.\d+)$", log, re.MULTILINE)
    assert ["1", "2"] == [epoch for epoch, _ in losses]
    assert float(losses[1][1]) < float(losses[0][1])
    assert ["SUCCEEDED"] * 2 == [
        replica["state"]
        for role in json.loads(f"{{{status}")["roles"]
        for replica in role["replicas"]
    ]


def _run(block: str) -> str:
    require_docker().close()

    command = ["bash", "-euc", block.replace(PYTORCH, BASE)]
    env = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
    ran = subprocess.run(command, check=False, cwd=ROOT, env=env, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.mark.docker
@pytest.mark.usefixtures("no_images_left")
@pytest.mark.parametrize("block", PYTHON)
def test_python_blocks_run(block: str, tmp_path: Path) -> None:
    """Each in an interpreter of its own, with the image of the tests."""
    require_docker().close()
    script = tmp_path / "block.py"
    script.write_text(block.replace('"busybox"', repr(BUSYBOX)))
    command = [sys.executable, "-W", "ignore", str(script)]

    ran = subprocess.run(
        command,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "AIRFLOW_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )

    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_every_option_is_in_the_table() -> None:
    """And none that does not exist."""
    table = README.split("## Run options")[1].split("\n## ")[0]
    named = {
        name
        for row in re.findall(r"^\| (`[^|]*) \|", table, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", row)
    }

    assert {option.name for option in fields(Opts)} == named
