"""Tests that the command line starts fast, importing only what a command needs, and quietly."""

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


def test_ctrl_c_during_the_imports() -> None:
    """Ctrl-C before the command is known prints no traceback."""
    code = (
        "import sys\n"
        "class Interrupt:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'airflow_torchx.cli.dispatch': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupt())\n"
        "from airflow_torchx.cli import main\n"
        "sys.exit(main(['--version']))"
    )

    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )

    assert (130, "", "") == (ended.returncode, ended.stdout, ended.stderr)
