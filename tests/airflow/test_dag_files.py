"""What importing our DAG files and our operators costs, and that Airflow knows this provider."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

DAGS: Final = Path(__file__).parents[2] / "dags"
#: Each costs an interpreter a part of a second, and a DAG processor starts one per file.
COSTLY: Final = ("docker", "requests", "rich", "torch", "torchx", "yaml")


def ran(*command: str) -> str:
    """Return what a Python with this Airflow prints."""
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
    return done.stdout


def costly_imports(code: str) -> set[str]:
    """Return the costly packages that a fresh interpreter has imported after running ``code``."""
    ask = f"import sys; print(*({COSTLY!r} & sys.modules.keys()))"
    return set(ran("-c", f"{code}\n{ask}").splitlines()[-1].split())


@pytest.fixture(scope="module")
def airflow_imports() -> set[str]:
    """Return the costly packages that Airflow itself imports for every DAG file."""
    return costly_imports("import airflow.sdk; airflow.sdk.DAG, airflow.sdk.BaseOperator")


@pytest.mark.parametrize(
    "module",
    [f"airflow_torchx.{name}" for name in ("operators", "decorators", "sensors", "hooks")],
)
def test_import_is_cheap(module: str, airflow_imports: set[str]) -> None:
    """Importing an operator imports no costly package beyond those of Airflow."""
    assert airflow_imports == costly_imports(f"import {module}")


@pytest.mark.parametrize("file", sorted(DAGS.glob("*.py")), ids=lambda file: file.stem)
def test_dag_file_is_cheap(file: Path, airflow_imports: set[str]) -> None:
    """A DAG file imports no costly package either; other files of the folder are no DAG files."""
    text = file.read_text().lower()
    if "airflow" not in text:
        assert "dag" not in text
        return
    imported = costly_imports(f"import runpy; runpy.run_path({str(file)!r})")

    assert imported <= airflow_imports


def test_provider_is_discovered() -> None:
    """Airflow lists this provider, with its operators, its hook and its connection type."""
    listed = ran("-m", "airflow", "providers", "list", "--output", "plain")
    shown = ran("-m", "airflow", "providers", "get", "airflow-torchx", "--full", "-o", "json")

    assert "airflow-torchx" in listed
    assert "airflow_torchx.operators" in shown
    assert "torchx_docker" in shown
