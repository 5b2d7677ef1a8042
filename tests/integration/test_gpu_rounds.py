"""GPUs between two rounds of an app, while another app waits for them."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from airflow_torchx.core.engine import labels
from airflow_torchx.core.state.rounds import round_of
from airflow_torchx.schedulers.docker_scheduler import DockerScheduler
from airflow_torchx.specs import AppDef, AppState, Resource, Role
from tests.conftest import BUSYBOX
from tests.integration.conftest import GPU_IDS

if TYPE_CHECKING:
    from airflow_torchx.docker_engine import DockerEngine

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]


def app(name: str, script: str, retries: int = 0) -> AppDef:
    """Return an app that needs all GPUs."""
    every = Resource(cpu=0, gpu=len(GPU_IDS), memMB=64)
    args = ["-c", script]
    role = Role("main", BUSYBOX, entrypoint="sh", args=args, resource=every, max_retries=retries)
    return AppDef(name, [role])


def submit(engine: DockerEngine, launched: AppDef) -> DockerScheduler:
    """Launch an app once it has its GPUs, and return its scheduler; its id is its name."""
    scheduler = DockerScheduler("test", engine)
    context = scheduler.new_context(launched.name)
    scheduler.schedule(scheduler.prepare(launched, {"stop_grace_s": 0}, context))
    return scheduler


def test_an_app_that_waits_gets_no_gpu_between_two_rounds(gpu_engine: DockerEngine) -> None:
    """It gets them when the app that is restarted has ended."""
    script = 'sleep 1; [ "$TORCHX_RESTART" = 4 ]'
    scheduler = submit(gpu_engine, app("restarted", script, 4))
    other = threading.Thread(target=submit, args=(gpu_engine, app("waiting", "true")))
    other.start()

    ended = scheduler.wait("restarted", timeout_s=120)
    other.join(120)

    assert AppState.SUCCEEDED is ended.state
    assert AppState.SUCCEEDED is scheduler.wait("waiting", timeout_s=60).state
    rounds = gpu_engine.rows({labels.APP_ID: "restarted"})
    assert [0, 1, 2, 3, 4] == sorted(map(round_of, rounds))
    last = gpu_engine.inspect(max(rounds, key=round_of).id)
    first = gpu_engine.inspect(gpu_engine.rows({labels.APP_ID: "waiting"})[0].id)
    assert last is not None
    assert first is not None
    assert last.finished_at is not None
    assert first.started_at is not None
    assert last.finished_at <= first.started_at
