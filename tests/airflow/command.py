"""Airflow's own command line, as a process."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import NamedTuple


class Answer(NamedTuple):
    """What a command line said.

    Args:
        code: its exit code.
        output: what it wrote to its standard output.
        errors: what it wrote to its standard error.
    """

    code: int
    output: str
    errors: str


def airflow(*words: str, **environ: str) -> Answer:
    """Run ``airflow`` with the Airflow of the tests, and some more of an environment."""
    ran = subprocess.run(
        [sys.executable, "-m", "airflow", *words],
        check=False,
        # Wide enough for every message on one line.
        env={**os.environ, "COLUMNS": "1000", **environ},
        capture_output=True,
        text=True,
    )
    return Answer(ran.returncode, ran.stdout, ran.stderr)
