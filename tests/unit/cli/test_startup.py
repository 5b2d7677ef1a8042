"""The command line is quick to answer: it imports what a command needs, and nothing before."""

from __future__ import annotations

import subprocess
import sys

HEAVY = {"docker", "requests", "rich", "airflow", "yaml", "structlog", "torchx", "asyncio"}


def test_what_is_imported() -> None:
    """For help nothing heavy, for what asks the daemon only the way to it."""
    code = (
        "import sys\n"
        "from airflow_torchx.cli import main\n"
        f"heavy = {HEAVY!r}\n"
        "for words in (['--help'], ['run', '--help'], ['runopts']):\n"
        "    try: main(words)\n"
        "    except SystemExit: pass\n"
        "print('help', sorted(heavy & set(sys.modules)))\n"
        "import airflow_torchx.cli.apps, docker\n"
        "print('list', sorted(heavy & set(sys.modules)))"
    )
    command = [sys.executable, "-W", "ignore", "-c", code]

    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()

    assert "help []" in told
    assert "list ['docker', 'requests']" == told[-1]
