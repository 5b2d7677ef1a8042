"""A file of dags/ as a script; tests/airflow/test_whole_stack.py runs all of them in an Airflow."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from airflow_torchx.core import labels
from tests.integration.uv_project import BASE

if TYPE_CHECKING:
    from airflow_torchx.docker_engine import DockerEngine

DAGS: Final = Path(__file__).parents[2] / "dags"


@pytest.mark.docker
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("airflow_home", "no_images_left")
def test_torchx_decorator(docker_engine: DockerEngine) -> None:
    """It prints what came out of it."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "torchx_decorator.py"],
        env=os.environ
        | {"AIRFLOW__CORE__DAGS_FOLDER": str(DAGS), "AIRFLOW_TORCHX_BASE_IMAGE": BASE},
        cwd=DAGS,
        capture_output=True,
        text=True,
        check=False,
    )

    assert not done.returncode, done.stdout + done.stderr
    told, error = done.stdout.splitlines()[-1].rstrip(".").rsplit(maxsplit=1)
    assert "The largest error is" == told
    assert float(error) < 0.1
    assert () == docker_engine.rows({labels.DAG_ID: "torchx_decorator"})
