"""Tests the commands on existing apps, on the fake engine."""

from __future__ import annotations

import pytest

from airflow_torchx.cli import apps
from airflow_torchx.core.plan.options import Opts
from airflow_torchx.runtime import lifecycle
from airflow_torchx.schedulers.docker_scheduler import DockerScheduler
from airflow_torchx.testing import FakeEngine
from tests.unit.apps import app


@pytest.mark.parametrize("is_running", [True, False])
def test_delete_of_an_app_that_another_client_removes(is_running: bool) -> None:
    """An app that another client removes after it was found is deleted without an error."""
    engine = FakeEngine(images=["busybox"])
    app_id = DockerScheduler("t", engine).submit(app(), Opts())
    if not is_running:
        lifecycle.cancel(engine, app_id)
    found = lifecycle.observe(engine, app_id)
    assert found is not None
    lifecycle.delete(engine, app_id)

    apps.remove(engine, found)

    assert () == engine.rows({})
