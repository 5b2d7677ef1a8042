"""Apps launched from an image that a user has committed from a container of an app."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import docker
import pytest

from airflow_torchx.core.engine import labels
from airflow_torchx.runtime import lifecycle
from airflow_torchx.schedulers.docker_scheduler import DockerScheduler
from airflow_torchx.specs import AppDef, AppState, Role
from tests.conftest import BUSYBOX

if TYPE_CHECKING:
    from airflow_torchx.docker_engine import DockerEngine

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

#: Fails in the launch, and succeeds in the first round after it.
PROGRAM = '[ "$TORCHX_RESTART" = 1 ]'


def test_an_image_of_a_round(docker_engine: DockerEngine, app_id: str) -> None:
    """Its labels of the round, the budget and the options do not count for another app."""
    scheduler = DockerScheduler("rounds", docker_engine)

    def ended(
        name: str, image: str, retries: int, program: str = PROGRAM, **options: object
    ) -> AppState:
        role = Role("trainer", image, entrypoint="sh", args=["-c", program], max_retries=retries)
        context = scheduler.new_context(name)
        scheduler.schedule(scheduler.prepare(AppDef("app", [role]), options, context))
        return scheduler.wait(name, timeout_s=60).state

    assert AppState.SUCCEEDED is ended(app_id, BUSYBOX, 1, stalled_after_s=600)
    newest = max(lifecycle.rows_of(docker_engine, app_id), key=lambda row: row.name)
    assert "1" == newest.labels[labels.ROUND]
    with contextlib.closing(docker.from_env()) as client:
        image = client.containers.get(newest.id).commit(app_id, "round")
        try:
            assert AppState.FAILED is ended(f"{app_id}-0", f"{app_id}:round", 0, "exit 1")
            assert 1 == len(lifecycle.rows_of(docker_engine, f"{app_id}-0"))
            assert AppState.SUCCEEDED is ended(f"{app_id}-1", f"{app_id}:round", 1)
        finally:
            for name in (f"{app_id}-0", f"{app_id}-1"):
                for row in docker_engine.rows({labels.APP_ID: name}):
                    docker_engine.remove(row.id)
            client.images.remove(image.id, force=True)
