"""What an import of the package imports with it."""

from __future__ import annotations

import subprocess
import sys


def test_importing_the_operators_imports_no_docker() -> None:
    """A DAG file is parsed without what only a running task needs."""
    code = (
        "import sys, airflow.sdk; from airflow.sdk import BaseOperator, BaseHook\n"
        "before = set(sys.modules)\n"
        "import airflow_torchx.operators, airflow_torchx.sensors\n"
        "import airflow_torchx.decorators, airflow_torchx.hooks\n"
        "late = {'docker', 'torchx', 'torch', 'rich', 'yaml', 'requests', 'filelock'}\n"
        "print(sorted(late & (set(sys.modules) - before)))"
    )
    command = [sys.executable, "-W", "ignore", "-c", code]

    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout

    assert answer.splitlines()[-1] == "[]"


def test_provider_info_imports_no_airflow() -> None:
    """Airflow's discovery reads the provider's description without an import of Airflow."""
    code = (
        "import sys, airflow_torchx.provider as p; p.get_provider_info()\n"
        "print(sorted({'airflow', 'docker', 'yaml'} & set(sys.modules)))"
    )

    answer = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout

    assert answer == "[]\n"
