"""What Airflow's OpenLineage provider gets from a task, and a program from the provider."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from airflow_torchx.task.lineage import LineageMixin
from tests.airflow.apps import both_modes, shell

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.airflow.one_task import OneTask

pytestmark = pytest.mark.docker

PARENT = ("JOB_NAMESPACE", "JOB_NAME", "RUN_ID")


@pytest.fixture
def switched_on(airflow_home: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Switch OpenLineage on."""
    assert airflow_home
    from airflow.providers.openlineage import conf

    def forget() -> None:
        for value in vars(conf).values():
            if hasattr(value, "cache_clear"):
                value.cache_clear()

    monkeypatch.setenv("AIRFLOW__OPENLINEAGE__TRANSPORT", '{"type": "console"}')
    monkeypatch.setenv("AIRFLOW__OPENLINEAGE__NAMESPACE", "lab")
    forget()
    yield
    monkeypatch.undo()
    forget()


def tell_parent() -> str:
    """Return a script whose result is the program's variables of its parent run."""
    words = ", ".join(f'\\"$OPENLINEAGE_PARENT_{name}\\"' for name in PARENT)
    return f'echo "[{words}]" > /result.json'


def test_programs_know_their_parent_run(one_task: OneTask, switched_on: None) -> None:
    """OpenLineage's variables name the task's namespace, job and run."""
    assert switched_on is None

    ended = one_task.run(app=shell(tell_parent()), result_path="/result.json")

    namespace, job, run_id = ended.xcom()
    assert "lab" == namespace
    assert job.endswith(".gang")
    assert str(uuid.UUID(run_id)) == run_id


def test_without_openlineage_there_is_no_parent_run(one_task: OneTask) -> None:
    """Without OpenLineage a program gets no variables of a parent run."""
    ended = one_task.run(app=shell(tell_parent()), result_path="/result.json")

    assert ["", "", ""] == ended.xcom()


FACETS: list[Any] = []


def ask(context: Any, result: object) -> None:  # noqa: ANN401 - Airflow's hook
    """Ask a task that has ended, as the provider does."""
    assert result
    lineage = context["task"].get_openlineage_facets_on_complete(context["ti"])
    FACETS.append(lineage.run_facets["torchx_app"])


@both_modes
def test_a_run_bears_the_app(one_task: OneTask) -> None:
    """A lineage run has the app's handle, its images and how each replica ended."""
    FACETS.clear()

    ended = one_task.run(app=shell("true"), post_execute=ask)

    (facet,) = FACETS
    assert ended.xcom("app_handle") == facet.handle
    assert ended.xcom("app_id") == facet.app_id
    assert ended.xcom("image_ids") == facet.images
    assert [0, 0] == [replica["exit_code"] for replica in facet.replicas]
    json.dumps(facet.replicas)


def test_a_task_that_launched_nothing_bears_nothing() -> None:
    """A task that launched no app adds no facet to its lineage run."""
    lineage = LineageMixin().get_openlineage_facets_on_complete(None)

    assert {} == lineage.run_facets
