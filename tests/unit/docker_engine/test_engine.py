"""Importing the package that wraps Docker's SDK."""

from __future__ import annotations

import subprocess
import sys


def test_import_does_not_import_docker() -> None:
    """Docker's SDK and requests are imported on the first connection, not on import."""
    code = (
        "import sys, airflow_torchx.docker_engine as door\n"
        "print('docker' in sys.modules, 'requests' in sys.modules)\n"
        "from airflow_torchx.core.connection.endpoint import Endpoint\n"
        "door.unreachable_reason(Endpoint(url='unix:///nowhere')); print('docker' in sys.modules)"
    )

    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)

    assert ["False", "False", "True"] == found.stdout.split()
