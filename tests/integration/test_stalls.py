"""A hung training under real torchrun."""

from __future__ import annotations

import io
import os
import sysconfig
import tarfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import docker
import pytest

from airflow_torchx.core.state.describe import replicas_of
from airflow_torchx.runtime import attach
from airflow_torchx.schedulers.docker_scheduler import DockerScheduler
from airflow_torchx.specs import AppDef, AppState, BindMount, Resource, Role
from tests.conftest import BUSYBOX

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_torchx.docker_engine import DockerEngine

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

BASE = os.environ.get("AIRFLOW_TORCHX_BASE_IMAGE") or "airflow-torchx/pytorch:local"
#: Each worker waits for a lock that it holds itself. It runs by `python -u`, where `print` makes
#: two writes of a line and its end: two lines of two workers may become one.
PROGRAM = """
import sys, threading
lock = threading.Lock()
def waits_for_ever_in_here():
    lock.acquire()
sys.stdout.write("begins\\n")
lock.acquire()
waits_for_ever_in_here()
"""

ENDS_ON_SIGTERM = """
import os, signal
def ends(number, frame):
    os.write(1, b"ends on SIGTERM\\n")
    os._exit(0)
signal.signal(signal.SIGTERM, ends)
"""


def _await_workers(scheduler: DockerScheduler, app: str) -> None:
    """Wait until both workers hang: a start that a busy machine delays is a stall as well."""
    log = (line for line in scheduler.log_iter(app, "trainer", should_tail=True))
    for _ in range(2):
        assert any("begins" in line for line in log)


def test_the_stacks_of_a_hung_training_are_in_its_log(
    docker_engine: DockerEngine, app_id: str
) -> None:
    """An app whose workers hang is stopped as failed, and its log shows where they hung."""
    script = (
        f"cat >/tmp/hangs.py <<'END'{PROGRAM}END\nexec torchrun --nproc-per-node 2 /tmp/hangs.py"
    )
    role = Role(
        "trainer",
        BASE,
        entrypoint="sh",
        args=["-c", script],
        resource=Resource(cpu=-1, gpu=-1, memMB=-1),
    )
    scheduler = DockerScheduler("test", docker_engine)
    app = scheduler.submit(AppDef(app_id, [role]), {"stalled_after_s": 8})
    _await_workers(scheduler, app)

    ended = scheduler.wait(app, timeout_s=250)

    assert AppState.FAILED is ended.state
    assert [True] == [replica.stalled for replica in replicas_of(ended)]
    log = "".join(scheduler.log_iter(app, "trainer"))
    assert 2 == log.count("begins")
    assert 2 == log.count("in waits_for_ever_in_here")
    assert 1 == log.count("the app has stalled; these stacks were asked for")
    assert "could not be read" not in log


def test_py_spy_dumps_the_stacks_of_a_hung_training(
    docker_engine: DockerEngine, app_id: str
) -> None:
    """With py-spy in the image, a dump ends no process: the workers still get SIGTERM.

    Its binary is static, so it runs in any image.
    """
    script = (
        f"cat >/tmp/hangs.py <<'END'{ENDS_ON_SIGTERM}{PROGRAM}END\n"
        "exec torchrun --nproc-per-node 2 /tmp/hangs.py"
    )
    py_spy = Path(sysconfig.get_path("scripts"), "py-spy")
    role = Role(
        "trainer",
        BASE,
        entrypoint="sh",
        args=["-c", script],
        mounts=[BindMount(str(py_spy), "/usr/local/bin/py-spy", read_only=True)],
        resource=Resource(cpu=-1, gpu=-1, memMB=-1),
    )
    scheduler = DockerScheduler("test", docker_engine)
    # Not all kernels need it: https://docs.kernel.org/admin-guide/LSM/Yama.html
    options = {"stalled_after_s": 8, "stop_grace_s": 60, "cap_add": ["SYS_PTRACE"]}
    app = scheduler.submit(AppDef(app_id, [role]), options)
    _await_workers(scheduler, app)

    ended = scheduler.wait(app, timeout_s=250)

    assert [True] == [replica.stalled for replica in replicas_of(ended)]
    log = "".join(scheduler.log_iter(app, "trainer"))
    assert 2 == log.count("waits_for_ever_in_here (hangs.py:")
    assert "most recent call first" not in log  # from faulthandler
    assert 2 == log.count("ends on SIGTERM")


def test_a_hung_program_without_stacks(docker_engine: DockerEngine, app_id: str) -> None:
    """The log of a program that is not Python says that its stacks could not be read."""
    none = Resource(cpu=-1, gpu=-1, memMB=-1)
    role = Role("waiter", BUSYBOX, entrypoint="sleep", args=["600"], resource=none)
    scheduler = DockerScheduler("test", docker_engine)
    app = scheduler.submit(AppDef(app_id, [role]), {"stalled_after_s": 3, "stop_grace_s": 1})

    ended = scheduler.wait(app, timeout_s=250)

    assert AppState.FAILED is ended.state
    log = "".join(scheduler.log_iter(app, "waiter"))
    assert 1 == log.count("the app has stalled; stacks could not be read")


@pytest.fixture
def bare_image(app_id: str) -> Iterator[str]:
    """Return an image that has one program, ``/sleep``, and neither a shell nor Python."""
    with closing(docker.from_env()) as client:
        source = client.containers.create(BUSYBOX)
        chunks, _ = source.get_archive("/bin/busybox")
        copied = io.BytesIO(b"".join(chunks))
        source.remove()
        with tarfile.open(fileobj=copied) as archive:
            member = archive.getmembers()[0]
            content = archive.extractfile(member)
            files = io.BytesIO()
            with tarfile.open(fileobj=files, mode="w") as bare:
                bare.addfile(member.replace(name="sleep"), content)
        name = f"{app_id}-bare"
        client.api.import_image_from_data(files.getvalue(), repository=name, tag="test")
        yield f"{name}:test"
        client.images.remove(f"{name}:test")


def test_an_app_that_cannot_be_asked(
    docker_engine: DockerEngine, app_id: str, bare_image: str
) -> None:
    """An app that hangs is stopped although it ignores SIGTERM, or can show no stacks."""
    nothing = Resource(cpu=-1, gpu=-1, memMB=-1)
    deaf = "trap '' TERM; while :; do sleep 100; done"
    roles = [
        Role("bare", bare_image, entrypoint="/sleep", args=["1000"], resource=nothing),
        Role("deaf", BUSYBOX, entrypoint="sh", args=["-c", deaf], resource=nothing),
    ]
    scheduler = DockerScheduler("test", docker_engine)
    app = scheduler.submit(AppDef(app_id, roles), {"stalled_after_s": 3, "stop_grace_s": 1})

    ended = scheduler.wait(app, timeout_s=250)

    assert AppState.FAILED is ended.state
    found = [(one.stalled, one.exit_code) for one in replicas_of(attach.look(docker_engine, app))]
    scheduler.delete(app)  # before its image
    assert [(True, 137), (True, 137)] == found
