"""The demo, from end to end: PyTorch in two containers, started by a DAG."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from airflow_torchx.core import labels

if TYPE_CHECKING:
    from airflow_torchx.docker_engine import DockerEngine

pytestmark = pytest.mark.xdist_group("images")

QUICKSTART: Final = Path(__file__).parents[2] / "dags" / "quickstart.py"


def quickstart(home: Path, file: Path = QUICKSTART, **env: str) -> subprocess.CompletedProcess[str]:
    """Return what the demo printed, in an Airflow whose database is ready."""
    settings = {"AIRFLOW_HOME": str(home), "AIRFLOW__CORE__DAGS_FOLDER": str(file.parent)}
    return subprocess.run(
        [sys.executable, str(file)],
        env=os.environ | settings | env,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.docker
@pytest.mark.usefixtures("no_images_left")
@pytest.mark.timeout(300)
def test_quickstart(
    airflow_home: Path, tmp_path: Path, docker_engine: DockerEngine, app_id: str
) -> None:
    """The demo trains, shows both replicas, the loss and the handle, and leaves nothing behind.

    The second run builds nothing; after an edit, the edited script trains.
    """
    dags = tmp_path / "dags"
    shutil.copytree(QUICKSTART.parent, dags)
    script = dags / "workspace" / "train.py"
    # Of the folder as it is, another test may have left the image.
    script.write_text(f"{script.read_text()}# {app_id}\n")

    done = quickstart(airflow_home, dags / "quickstart.py")
    script.write_text(script.read_text().replace("default=10", "default=1"))
    edited = quickstart(airflow_home, dags / "quickstart.py").stdout
    again = quickstart(airflow_home, dags / "quickstart.py").stdout

    screen = done.stdout
    assert 0 == done.returncode, screen + done.stderr
    rows = re.findall(r"^train/([01]) +(\w+) +(\d+) +[\d.]+ s$", screen, re.MULTILINE)
    assert [("0", "SUCCEEDED", "0"), ("1", "SUCCEEDED", "0")] == rows
    for rank in range(2):
        assert re.search(rf"rank {rank} epoch 10 loss \d\.\d+$", screen, re.MULTILINE)

    *_, loss, handle = screen.splitlines()
    told = re.fullmatch(r"loss +([\d.]+) -> ([\d.]+) in 10 epochs on 2 processes", loss)
    assert told
    assert float(told[1]) / 2 > float(told[2])
    ended = handle.removeprefix("handle  local_docker://torchx/")
    assert ended.startswith("quickstart-train-")
    assert () == docker_engine.rows({labels.APP_ID: ended})

    assert "built workspace image airflow-torchx/workspace:" in screen
    assert "built workspace image airflow-torchx/workspace:" in edited
    assert "nothing changed, nothing to build" in again
    assert all("in 1 epochs" in later for later in (edited, again))


def test_quickstart_fails(airflow_home: Path) -> None:
    """A demo that cannot run says why on a short screen, and its exit code is 1."""
    done = quickstart(airflow_home, DOCKER_HOST="unix:///nonexistent")

    assert 1 == done.returncode
    assert "no Docker daemon at unix:///nonexistent" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
