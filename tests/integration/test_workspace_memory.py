"""How much memory a large workspace takes."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Final

import pytest

from tests.conftest import BUSYBOX

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_torchx.docker_engine import DockerEngine

pytestmark = pytest.mark.xdist_group("images")

BOUND_KB: Final = 150 << 10
#: Prints the image, and the KiB by which the most memory of this process grew while it was built.
#: Not `ru_maxrss`: a process begins with that of the one that started it, which may be larger.
BUILD: Final = """
import re, sys
from pathlib import Path
from airflow_torchx.specs import Role
from airflow_torchx.workspace.docker_workspace import DockerWorkspaceMixin

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])

with DockerWorkspaceMixin(terminal=False) as workspaces:
    role = Role("a", sys.argv[1], entrypoint="true")
    assert workspaces.engine.find_image(role.image)
    before = peak()
    options = {"max_context_mb": 2048}
    made = workspaces.build_workspace_and_update_role(role, sys.argv[2], options)
    print(made.image, peak() - before)
"""


@pytest.mark.docker
@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("size_mb", "dockerfile"),
    [
        pytest.param(1024, None, id="layer"),
        pytest.param(300, "ARG IMAGE\nFROM $IMAGE\nCOPY . .\n", id="dockerfile"),
    ],
)
def test_peak(
    docker_engine: DockerEngine, tmp_path: Path, size_mb: int, dockerfile: str | None
) -> None:
    """A workspace is read, hashed and sent in pieces, however large one of its files is."""
    folder = tmp_path / "code"
    folder.mkdir()
    with folder.joinpath("data.bin").open("wb") as data:
        data.truncate(size_mb << 20)  # without taking room here; it is sent as zeros
    if dockerfile is not None:
        folder.joinpath("Dockerfile.torchx").write_text(dockerfile)
    command = [sys.executable, "-c", BUILD, BUSYBOX, str(folder)]

    done = subprocess.run(command, check=True, capture_output=True, text=True)
    image, grown_kb = done.stdout.split()
    docker_engine.images.untag(image)

    assert image.startswith("airflow-torchx/workspace:")
    assert int(grown_kb) < BOUND_KB
