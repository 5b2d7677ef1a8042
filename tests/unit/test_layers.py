"""Every import contract breaks when it is violated."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
LINT: Final = Path(sys.executable).with_name("lint-imports")


@pytest.mark.parametrize(
    ("module", "line", "rule"),
    [
        ("core/plan/job_plan.py", "import airflow_torchx.runtime.lifecycle", "imports point down"),
        ("runtime/lifecycle.py", "import docker", "only the door imports docker"),
        ("testing/clock.py", "import requests", "only the door imports docker"),
        ("runtime/attach.py", "import airflow.sdk", "only the Airflow face imports airflow"),
        ("operators.py", "import torchx.specs", "only torchx_compat imports torchx"),
        ("core/state/describe.py", "import threading", "decisions and data are pure"),
        ("newcomer.py", "", "imports point down"),
        ("task/newcomer.py", "", "imports point down in the room of the task"),
        ("runtime/newcomer.py", "", "imports point down in the room of one app"),
        (
            "core/state/report.py",
            "import airflow_torchx.core.task",
            "among the decisions",
        ),
    ],
)
def test_a_planted_import_breaks_its_rule(
    tmp_path: Path, module: str, line: str, rule: str
) -> None:
    """A planted import breaks its own contract, and a new module must choose its layer."""
    shutil.copytree(ROOT / "airflow_torchx", tmp_path / "airflow_torchx")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / "airflow_torchx" / module).open("a") as planted:
        planted.write(f"\n{line}\n")

    linted = subprocess.run(
        [LINT, "--no-cache"], check=False, cwd=tmp_path, capture_output=True, text=True
    )

    said = linted.stdout + linted.stderr
    assert linted.returncode == 1
    assert f"{rule} BROKEN" in said or f"'{Path(module).stem}'" in said


def test_one_module_asks_for_the_rights_of_users() -> None:
    """Airflow promises nothing about these modules, so one module of ours has to follow them."""
    package = ROOT / "airflow_torchx"
    users = [
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if re.search(r"^\s*(?:from|import) airflow\.api_fastapi", path.read_text(), re.MULTILINE)
    ]

    assert ["ui/auth.py"] == users
