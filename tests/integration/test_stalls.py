"""A hung training under real torchrun."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from airflow_torchx.core.state.describe import replicas_of
from airflow_torchx.schedulers.docker_scheduler import DockerScheduler
from airflow_torchx.specs import AppDef, AppState, Resource, Role

if TYPE_CHECKING:
    from airflow_torchx.docker_engine import DockerEngine

pytestmark = pytest.mark.docker

BASE = os.environ.get("AIRFLOW_TORCHX_BASE_IMAGE") or "airflow-torchx/pytorch:local"
#: Each worker waits for a lock that it holds itself.
PROGRAM = """
import threading
lock = threading.Lock()
def waits_for_ever_in_here():
    lock.acquire()
print("begins", flush=True)
lock.acquire()
waits_for_ever_in_here()
"""


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

    ended = scheduler.wait(app, timeout_s=100)

    assert AppState.FAILED is ended.state
    assert [True] == [replica.stalled for replica in replicas_of(ended)]
    log = "".join(scheduler.log_iter(app, "trainer"))
    assert 2 == log.count("begins")
    assert 2 == log.count("in waits_for_ever_in_here")
