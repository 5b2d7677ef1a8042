"""Files in dags/ without a server: `dag.test()`, and as scripts.

tests/airflow/test_whole_stack.py runs all of them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from airflow_torchx.core import labels
from tests.integration.uv_project import BASE

if TYPE_CHECKING:
    from airflow_torchx.docker_engine import DockerEngine

DAGS: Final = Path(__file__).parents[2] / "dags"

pytestmark = [
    pytest.mark.docker,
    pytest.mark.timeout(600),
    pytest.mark.usefixtures("airflow_home", "docker_engine", "no_images_left"),
]


def printed(*command: str) -> str:
    """Return what a Python prints that has dags/ as its DAGs folder."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", *command],
        env=os.environ
        | {"AIRFLOW__CORE__DAGS_FOLDER": str(DAGS), "AIRFLOW_TORCHX_BASE_IMAGE": BASE},
        cwd=DAGS,
        capture_output=True,
        text=True,
        check=False,
    )
    # What pytest shows of a test that fails.
    print(done.stdout, done.stderr)  # noqa: T201
    assert not done.returncode
    return done.stdout


def told(module: str, code: str) -> Any:  # noqa: ANN401 - any JSON
    """Return the ``answer`` that code gives which knows all names of a DAG file."""
    ask = f"import json; from {module} import *\n{code}\nprint(json.dumps(answer))"
    return json.loads(printed("-c", ask).splitlines()[-1])


def test_gate_without_an_app() -> None:
    """An app that is not there fails the pipeline, and is no success for want of a failure."""
    code = """
    run = gated.test(run_conf={"app_handle": "local_docker://torchx/nothing-here"})
    answer = run.state
    """.replace("\n    ", "\n")

    assert "failed" == told("sensor_gated_pipeline", code)


def test_torchx_decorator(docker_engine: DockerEngine) -> None:
    """As a script, it prints what came out of it."""
    *_, last = printed("torchx_decorator.py").splitlines()

    told, error = last.rstrip(".").rsplit(maxsplit=1)
    assert "The largest error is" == told
    assert float(error) < 0.1
    assert () == docker_engine.rows({labels.DAG_ID: "torchx_decorator"})
