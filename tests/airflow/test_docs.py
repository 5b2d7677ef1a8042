"""The page about testing DAGs tells how to run a task without Docker."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from airflow_torchx.specs import AppDef, Role
from airflow_torchx.testing import FakeEngine
from tests import pages
from tests.airflow.conftest import DAGS
from tests.airflow.one_task import OneTask


@pytest.mark.usefixtures("airflow_home")
def test_a_dag_runs_on_the_fake_engine(monkeypatch: pytest.MonkeyPatch, app_id: str) -> None:
    """The test of the page passes for a DAG with a task of two replicas, one of which fails."""
    (block,) = [b for b in pages.blocks("python") if "my_dag.test()" in b.text]
    page: dict[str, Any] = {}
    exec(block.text, page)  # noqa: S102 - our own page
    role = Role("train", "my-image", entrypoint="python", num_replicas=2)

    with OneTask(DAGS, FakeEngine(), app_id) as task:
        page["my_dag"] = SimpleNamespace(test=lambda: task.run(app=AppDef("fit", [role])))
        page["test_a_lost_replica_fails_the_run"](monkeypatch)
