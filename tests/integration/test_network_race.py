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

# One interpreter that becomes many when it has imported all.
CODE = """
import os, sys, tempfile
from airflow_torchx.runtime import network
from airflow_torchx.docker_engine import DockerEngine

DockerEngine.connect().close()
name, *folders = sys.argv[1:]
(all_ready, ready), (begun, begin) = os.pipe(), os.pipe()
children = []
for folder in folders:
    if child := os.fork():
        children.append(child)
        continue
    os.close(begin)
    tempfile.tempdir = folder
    with DockerEngine.connect() as engine:
        engine.info()
        os.write(ready, b".")
        os.read(begun, 1)
        network.ensure(engine, name)
    os._exit(0)
os.close(ready)
waiting = len(folders)
while waiting and (came := os.read(all_ready, waiting)):
    waiting -= len(came)
os.close(begin)
print(sum(not os.waitpid(child, 0)[1] for child in children))
"""


@pytest.mark.parametrize("hosts", [1, 8])
def test_32_processes_make_one_network(
    docker_engine: DockerEngine, network_name: str, tmp_path: Path, *, hosts: int
) -> None:
    """32 processes make one network, whether they share a lock or come from eight hosts."""
    folders = [tmp_path / str(index) for index in range(hosts)]
    for folder in folders:
        folder.mkdir()
    words = [network_name, *(str(folders[index % hosts]) for index in range(32))]

    ran = subprocess.run(
        [sys.executable, "-c", CODE, *words], check=True, capture_output=True, text=True
    )

    assert ("32\n", "") == (ran.stdout, ran.stderr)
    assert 1 == len(docker_engine.networks(network_name))
