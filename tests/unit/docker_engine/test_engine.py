"""The Docker door, before a daemon is asked."""

from __future__ import annotations

import subprocess
import sys


def test_importing_it_imports_no_docker() -> None:
    """Docker's SDK, and requests below it, are imported once a daemon is talked to."""
    code = (
        "import sys, airflow_torchx.docker_engine as door\n"
        "print('docker' in sys.modules, 'requests' in sys.modules)\n"
        "from airflow_torchx.core.connection.endpoint import Endpoint\n"
        "door.why_unreachable(Endpoint(url='unix:///nowhere')); print('docker' in sys.modules)"
    )

    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)

    assert ["False", "False", "True"] == found.stdout.split()
