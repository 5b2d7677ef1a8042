"""The demo, from end to end: PyTorch in two containers, started by a DAG."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from airflow_torchx.core.engine import labels
from tests import pages

if TYPE_CHECKING:
    from airflow_torchx.docker_engine import DockerEngine

pytestmark = pytest.mark.xdist_group("images")

ROOT: Final = Path(__file__).parents[2]


@pytest.mark.docker
@pytest.mark.usefixtures("no_images_left")
@pytest.mark.timeout(300)
def test_quickstart(docker_engine: DockerEngine) -> None:
    """The demo trains, shows the replicas and the loss, removes them, and says where to go on."""
    # Not those of the make that runs the tests.
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}

    done = subprocess.run(
        ["make", "demo"], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )

    screen = done.stdout
    assert 0 == done.returncode, screen + done.stderr
    rows = re.findall(
        r"^train/([01]) +(\w+) +(\d+) +\d.* s +peak .* MiB of 1 GiB ", screen, re.MULTILINE
    )
    assert [("0", "SUCCEEDED", "0"), ("1", "SUCCEEDED", "0")] == rows
    for rank in range(2):
        assert re.search(rf"rank {rank} epoch 10 loss \d\.\d+$", screen, re.MULTILINE)

    *_, loss, last = screen.splitlines()
    told = re.fullmatch(r"loss +([\d.]+) -> ([\d.]+) in 10 epochs on 2 processes", loss)
    assert told
    assert float(told[1]) / 2 > float(told[2])
    ended = re.fullmatch(
        r"The containers of app (quickstart-train-\S+) were removed\. Go on: (\S+)", last
    )
    assert ended
    assert () == docker_engine.rows({labels.APP_ID: ended[1]})
    page, heading = ended[2].split("#")
    assert heading in pages.anchors(ROOT / page)


def test_quickstart_fails(airflow_home: Path) -> None:
    """A demo that cannot run says why on a short screen, and its exit code is 1."""
    file = ROOT / "dags" / "quickstart.py"
    settings = {
        "AIRFLOW_HOME": str(airflow_home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(file.parent),
        "DOCKER_HOST": "unix:///nonexistent",
    }

    done = subprocess.run(
        [sys.executable, str(file)],
        env=os.environ | settings,
        capture_output=True,
        text=True,
        check=False,
    )

    assert 1 == done.returncode
    assert "no Docker daemon at unix:///nonexistent" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
