"""What the pages tell people to type works."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from airflow_torchx.core.engine import labels
from airflow_torchx.core.gpu.demand import GpuDemand
from airflow_torchx.core.plan.identity import container_name
from airflow_torchx.schedulers.docker_scheduler import DockerScheduler
from airflow_torchx.specs import AppDef, Role
from tests import pages
from tests.conftest import BUSYBOX, require_docker
from tests.integration.conftest import GPU_IDS
from tests.integration.uv_project import BASE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_torchx.core.connection.endpoint import Endpoint
    from airflow_torchx.docker_engine import DockerEngine

# The command line makes workspace images.
pytestmark = pytest.mark.xdist_group("images")

SHELL: Final = [block.text.strip() for block in pages.blocks("sh")]
PYTORCH: Final = "pytorch/pytorch:2.9.0-cuda12.8-cudnn9-runtime"
#: The block of the command line starts like this; it has a test of its own.
TRAINS: Final = "cd dags/workspace"
#: The block that finds leftovers, and the one that removes them.
FINDS: Final = "docker ps -a --filter"
REMOVES: Final = "app_id="
#: This command runs these tests, so they cannot run it.
TESTS: Final = "make test"
#: Installing from an index is what `make` did to get here; `bash -n` reads the block.
INSTALLS: Final = "git clone"
#: `test_quickstart`, `test_container_image`, `test_gpu_wait`, `test_connections` and
#: `tests/airflow/test_docs` run these: they look at a screen, or have a project and a registry, or
#: a database.
#: `make images` makes an image without CUDA where the other one cannot be pulled.
ELSEWHERE: Final = (
    "make demo",
    "make .venv/.installed && container/local-base.sh",
    "container/build.sh",
    'airflow-torchx run --workspace "" utils.sh',
    "airflow connections",
    "airflow pools",
    "airflow db migrate",
    "airflow torchx prune",
)
#: Prints the source of a component.
PRINTS: Final = "mkdir -p parts"
#: Lists GPUs.
LISTS_GPUS: Final = "airflow-torchx gpus\n"
#: Finds what apps leave that wait for GPUs.
FINDS_PLACES: Final = "docker container ls --all"
HERE: Final = (TRAINS, "airflow-torchx list", REMOVES, PRINTS, LISTS_GPUS, FINDS_PLACES)

#: Where `pip install` puts our command.
BIN: Final = str(Path(sys.executable).parent)
#: Runs each script that it gets, in this order, and tells which one failed.
RUN_ALL: Final = """\
import runpy, sys
for path in sys.argv[1:]:
    try:
        runpy.run_path(path)
    except BaseException:
        print("failed:", path, file=sys.stderr)
        raise
"""


def test_ci_runs_the_test_command_of_the_readme() -> None:
    """CI runs the command that the README names."""
    assert TESTS in SHELL
    assert TESTS in (pages.ROOT / ".ci/run").read_text()


def test_every_shell_block_is_run() -> None:
    """A test runs each shell block, here or where there is what the block needs."""
    known = (TESTS, INSTALLS, *ELSEWHERE, *HERE)
    assert [
        block for block in SHELL if not block.startswith(known) and not pages.is_for_swarm(block)
    ] == []


@pytest.mark.docker
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("no_images_left")
def test_the_block_that_trains() -> None:
    """The block trains on two nodes, shows the log of one, and then the end of both."""
    log, _, status = _run(pages.block_with(TRAINS).replace(PYTORCH, BASE)).partition("{")

    losses = re.findall(r"rank 1 epoch (\d) loss (\d\.\d+)$", log, re.MULTILINE)
    assert ["1", "2"] == [epoch for epoch, _ in losses]
    assert float(losses[1][1]) < float(losses[0][1])
    assert ["SUCCEEDED"] * 2 == [
        replica["state_name"]
        for role in json.loads(f"{{{status}")["roles"]
        for replica in role["replicas"]
    ]


@pytest.mark.docker
def test_the_blocks_that_find_and_remove_leftovers(
    docker_engine: DockerEngine, app_id: str
) -> None:
    """The commands list an app that stayed, and remove it without this package."""
    role = Role("echo", BUSYBOX, entrypoint="true")
    left = DockerScheduler("test", docker_engine).submit(AppDef(app_id, [role]), {})

    found = _run(pages.block_with(FINDS))
    _run(re.sub("^app_id=.*", f"app_id={left}", pages.block_with(REMOVES), flags=re.MULTILINE))

    assert f"/{left} " in found  # airflow-torchx list
    assert container_name(left, "echo", 0) in found  # docker ps
    assert () == docker_engine.rows({labels.APP_ID: left})


@pytest.mark.docker
def test_the_block_that_lists_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands list the GPUs of a daemon, and those that a connection names."""
    extra = {"gpu_ids": ["GPU-d0c5"]}
    connection = json.dumps({"conn_type": "torchx_docker", "extra": extra})
    monkeypatch.setenv("AIRFLOW_CONN_GPU_HOST", connection)

    listed = _run(pages.block_with(LISTS_GPUS))

    found = json.loads(listed[listed.index("{") :])
    assert ["GPU-d0c5"] == [gpu["id"] for gpu in found["gpus"]]


@pytest.mark.docker
def test_the_block_that_finds_places_in_the_queue_for_gpus(
    gpu_daemon: Endpoint, gpu_engine: DockerEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command lists tickets and claims, also those that a client was about to remove."""
    demand = GpuDemand(key="of-docs", count=1, listed=GPU_IDS, image=BUSYBOX)
    ids = [gpu_engine.create(demand.spec(place)) for place in ("ticket", "claim")]
    gpu_engine.rename(ids[1], f"airflow-torchx-discarded-{ids[1]}")
    monkeypatch.setenv("DOCKER_HOST", str(gpu_daemon.url))

    found = _run(pages.block_with(FINDS_PLACES))

    names = {line.split()[0] for line in found.splitlines()}
    assert {"airflow-torchx-gpu-ticket-of-docs", f"airflow-torchx-discarded-{ids[1]}"} == names


@pytest.mark.docker
def test_the_block_that_prints_a_component(tmp_path: Path) -> None:
    """The commands write a component into a file of an empty folder."""
    _run(pages.block_with(PRINTS), tmp_path)

    assert "\ndef ddp(" in (tmp_path / "parts" / "trainer.py").read_text()


def test_the_block_that_makes_certificates(tmp_path: Path) -> None:
    """Clients take them that check strictly, as Python 3.13 does, each for its own side."""
    _run(pages.block_with("openssl req -x509"), tmp_path)

    check = ["openssl", "verify", "-x509_strict", "-CAfile", "ca.pem"]
    taken = {
        (name, side)
        for name in ("box1", "airflow")
        for side in ("sslserver", "sslclient")
        if not subprocess.run(
            [*check, "-purpose", side, f"{name}.pem"],
            check=False,
            cwd=tmp_path,
            capture_output=True,
        ).returncode
    }
    assert {("box1", "sslserver"), ("airflow", "sslclient")} == taken


def _run(block: str, folder: Path = pages.ROOT) -> str:
    require_docker().close()

    ran = subprocess.run(
        ["bash", "-euc", block],
        check=False,
        cwd=folder,
        env={**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def _needs_docker(block: pages.Block) -> bool:
    return "create_scheduler(" in block.text


def _needs_pytorch(block: pages.Block) -> bool:
    """Return whether a block is a script for containers, which other tests run there."""
    return block.text.startswith(("import torch", "from torch"))


def test_python_blocks_run(tmp_path: Path) -> None:
    """Every Python block runs; those that need no daemon have none."""
    needs_nothing = [
        b for b in pages.blocks("python") if not _needs_docker(b) and not _needs_pytorch(b)
    ]
    _run_python(needs_nothing, tmp_path)


@pytest.mark.docker
@pytest.mark.usefixtures("no_images_left")
def test_python_blocks_with_a_daemon_run(tmp_path: Path) -> None:
    """Every Python block that launches an app runs, with the image of the tests."""
    require_docker().close()

    _run_python([block for block in pages.blocks("python") if _needs_docker(block)], tmp_path)


def _run_python(blocks: Sequence[pages.Block], folder: Path) -> None:
    """Run blocks in one interpreter, as importing Airflow takes most of the time."""
    scripts = []
    for block in blocks:
        script = folder / f"{block.page}_{block.line}.py"
        script.write_text(block.text.replace('"busybox"', repr(BUSYBOX)))
        scripts.append(script)
    assert len(scripts) > 1

    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", RUN_ALL, *scripts],
        check=False,
        cwd=folder,
        env={**os.environ, "AIRFLOW_HOME": str(folder), "PYTHONPATH": str(pages.ROOT)},
        capture_output=True,
        text=True,
    )

    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_the_site_builds(tmp_path: Path) -> None:
    """`make docs` finds nothing to warn of, and the site has every page and an index to search."""
    build = [f"{BIN}/mkdocs", "build", "--strict", f"--site-dir={tmp_path}"]

    subprocess.run(build, check=True, cwd=pages.ROOT)

    index = json.loads((tmp_path / "search" / "search_index.json").read_text())
    found = {entry["location"].partition("#")[0] for entry in index["docs"]}
    names = {page.stem for page in pages.PAGES} - {"README"} | {"index"}
    assert {f"{name}.html" for name in names} == found
