"""Tests of what the set-up of `make` prints."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from typing import Final

from tests import pages

#: Like pip: it ends by itself at SIGINT, and its exit code is 1.
LIKE_PIP: Final = """
import os, signal, sys, time
def ends(*_):
    print("ERROR: Operation cancelled by user")
    sys.exit(1)
signal.signal(signal.SIGINT, ends)
print("Collecting apache-airflow")
open(sys.argv[1], "w").close()
while True:
    signal.pause()
"""
SCRIPT: Final = """
set -euo pipefail
. container/lib.sh
step "Installing" python3 -u -c "$1" "$2"
echo "the next step"
"""


def test_a_step_that_is_interrupted(tmp_path: object) -> None:
    """Ctrl-C ends a step with one line, without the output of its command."""
    ready = f"{tmp_path}/ready"
    os.mkfifo(ready)
    # A shell ignores SIGINT for jobs in the background, and its children inherit that.
    shell = ["env", "--default-signal=INT", "bash", "-c", SCRIPT, "bash", LIKE_PIP, ready]
    with subprocess.Popen(
        shell,
        cwd=pages.ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as script:
        timer = threading.Timer(60, script.kill)
        timer.start()
        with open(ready):  # noqa: PTH123 - a pipe, which opens when the command runs
            os.killpg(script.pid, signal.SIGINT)
        screen, _ = script.communicate()
        timer.cancel()

    assert (130, "Installing: interrupted") == (script.returncode, screen.splitlines()[-1])
    assert "Operation cancelled" not in screen
    assert "failed" not in screen
