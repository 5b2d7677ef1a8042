"""What a DAG processor imports for our DAG files."""

from __future__ import annotations

import inspect
import runpy
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Final

from airflow_torchx.hooks import TorchXDockerHook

DAGS: Final = Path(__file__).parents[2] / "dags"
#: Each costs an interpreter a part of a second, and a DAG processor starts one per file.
COSTLY: Final = ("docker", "requests", "rich", "torch", "torchx", "yaml")


def test_dag_files_are_cheap() -> None:
    """No DAG file imports a costly package beyond those that Airflow imports for every DAG file."""
    files = [str(path) for path in sorted(DAGS.glob("*.py")) if "airflow" in path.read_text()]
    code = (
        "import runpy, sys, airflow.sdk; airflow.sdk.DAG, airflow.sdk.BaseOperator\n"
        "before = set(sys.modules)\n"
        f"for file in {files!r}:\n"
        "    runpy.run_path(file)\n"
        f"    print(file, *({COSTLY!r} & (sys.modules.keys() - before)))"
    ).replace(repr(COSTLY), repr(set(COSTLY)))

    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True
    )

    assert files
    assert files == done.stdout.splitlines()[-len(files) :]


def test_other_files_are_no_dag_files() -> None:
    """A file of the folder that is not a DAG file does not look like one to Airflow."""
    others = [path.read_text().lower() for path in DAGS.glob("*.py")]

    assert [] == [text for text in others if "airflow" not in text and "dag" in text]


def test_the_params_of_prune() -> None:
    """The params of dags/prune.py are the arguments of the hook's `prune`, with its defaults."""
    arguments = inspect.signature(TorchXDockerHook.prune).parameters.values()
    defaults = {one.name: one.default for one in arguments if one.name != "self"}
    params = runpy.run_path(str(DAGS / "prune.py"))["dag"].params.dump()

    hours = defaults.pop("older_than") / timedelta(hours=1)
    assert {"conn_id": "", "older_than_hours": hours, **defaults} == params
