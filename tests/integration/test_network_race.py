"""One network, however many processes and hosts ask for it at once."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_torchx.docker_engine import DockerEngine

pytestmark = pytest.mark.docker

CODE = """
import sys, tempfile, time
tempfile.tempdir = sys.argv[2]
from airflow_torchx import network
from airflow_torchx.docker_engine import DockerEngine
with DockerEngine.connect() as engine:
    engine.info()
    print("ready", flush=True)
    sys.stdin.readline()
    network.ensure(engine, sys.argv[1])
"""


@pytest.mark.parametrize("hosts", [1, 8])
def test_32_processes_make_one_network(
    docker_engine: DockerEngine, network_name: str, tmp_path: Path, *, hosts: int
) -> None:
    """On one host they share a lock; on eight, each with locks of its own, the oldest is kept."""
    folders = [tmp_path / str(index) for index in range(hosts)]
    for folder in folders:
        folder.mkdir()
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CODE, network_name, str(folders[index % hosts])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for index in range(32)
    ]
    for process in processes:
        assert process.stdout is not None
        assert "ready\n" == process.stdout.readline()
    for process in processes:
        process.communicate("go\n", timeout=60)

    assert [0] * 32 == [process.returncode for process in processes]
    assert 1 == len(docker_engine.networks(network_name))
