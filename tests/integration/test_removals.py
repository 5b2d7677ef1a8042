"""Removals that meet a rename, on a daemon of their own: Engine 20.10 lists some for good."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from airflow_torchx.core.engine import labels
from airflow_torchx.docker_engine import DockerEngine
from airflow_torchx.errors import EngineConflictError, EngineNotFoundError
from airflow_torchx.schedulers.docker_scheduler import DockerScheduler
from airflow_torchx.specs import AppDef, Role
from tests.conftest import BUSYBOX
from tests.integration.second_daemon import running_with_gpus

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]


def test_a_container_that_is_renamed_while_it_is_removed() -> None:
    """A container is gone when its removal returns, although another client renames it."""
    with running_with_gpus(()) as daemon, DockerEngine.connect(daemon.endpoint) as engine:
        scheduler = DockerScheduler("shell", engine)
        role = Role("r", BUSYBOX, entrypoint="true", num_replicas=40)
        app_id = scheduler.submit(AppDef("app", [role]), {})
        rows = engine.rows({labels.APP_ID: app_id})
        assert 40 == len(rows)

        def rename(container_id: str) -> None:
            for number in range(3):
                with suppress(EngineConflictError, EngineNotFoundError):
                    engine.rename(container_id, f"{container_id[:12]}-{number}")

        with ThreadPoolExecutor(4) as threads:
            calls = [
                threads.submit(call, row.id) for row in rows for call in (rename, engine.remove)
            ]
            for call in calls:
                call.result()

        assert () == engine.rows({labels.APP_ID: None})
