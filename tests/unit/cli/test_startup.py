"""Tests that the command line starts fast, importing only what a command needs."""

from __future__ import annotations

import subprocess
import sys

HEAVY = {"docker", "requests", "rich", "airflow", "yaml", "structlog", "torchx", "asyncio"}


def test_what_is_imported() -> None:
    """Help imports no heavy module, and commands on the daemon only its SDK."""
    code = (
        "import sys\n"
        "from airflow_torchx.cli import main\n"
        f"heavy = {HEAVY!r}\n"
        "for argv in (['--help'], ['run', '--help'], ['runopts']):\n"
        "    try: main(argv)\n"
        "    except SystemExit: pass\n"
        "print('help', sorted(heavy & set(sys.modules)))\n"
        "import airflow_torchx.cli.apps, docker\n"
        "print('list', sorted(heavy & set(sys.modules)))"
    )
    command = [sys.executable, "-W", "ignore", "-c", code]

    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()

    assert "help []" in lines
    assert "list ['docker', 'requests']" == lines[-1]
