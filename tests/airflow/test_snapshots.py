"""The XCom ``torchx_app`` while a task runs, is deferred, and after its end."""

from __future__ import annotations

import json
from importlib import resources
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from airflow_torchx.core.engine import labels
from tests.airflow.apps import both_modes, shell
from tests.airflow.processes import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_torchx.docker_engine import DockerEngine
    from tests.airflow.one_task import OneTask
    from tests.airflow.stack import Task

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]

SCHEMA = json.loads(
    resources.files("airflow_torchx.core.state").joinpath("snapshot.v1.json").read_text()
)


def checked(found: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON
    """Return a snapshot that its schema describes."""
    snapshot: dict[str, Any] = json.loads(found) if isinstance(found, str) else found
    jsonschema.Draft202012Validator(SCHEMA).validate(snapshot)
    return snapshot


@both_modes
@pytest.mark.parametrize(
    ("script", "state"), [("true", "SUCCEEDED"), ("echo why; exit 3", "FAILED")]
)
def test_the_end_of_an_app(one_task: OneTask, script: str, state: str) -> None:
    """The last snapshot has the states, times and last lines of an app that is gone."""
    ended = one_task.run(app=shell(script))

    found = checked(ended.xcom("torchx_app"))
    (role,) = found["roles"]
    assert ([], state) == (ended.rows, found["state"])
    assert (role["n"], False) == (found["n_replicas"], found["truncated"])
    assert found["finished"] >= found["created"]
    for replica in role["replicas"]:
        assert ["SUBMITTED", "RUNNING"] == [name for _, name in replica["t"]][:2]
    if state == "FAILED":
        assert ("exit", 3, ["why"]) == tuple(found["failure"][k] for k in ("kind", "exit", "lines"))
        blamed = f"{role['name']}/{found['failure']['id']}"
        assert found["app_id"] == ended.xcom(f"torchx_failure:{blamed},exit,exit=3")
    else:
        assert found["failure"] is None


@pytest.mark.parametrize(
    ("dag_id", "state", "writer"),
    [("half", "running", "worker"), ("half_deferrable", "deferred", "trigger")],
)
def test_a_transition_is_shown(
    launch: Callable[[str], Task],
    docker_engine: DockerEngine,
    dag_id: str,
    state: str,
    writer: str,
) -> None:
    """A replica that fails while the app runs on is shown by Airflow's API, in both modes."""
    task = launch(dag_id)
    task.wait_for(state)

    def rows() -> Any:  # noqa: ANN401 - rows
        wanted = {labels.DAG_ID: task.dag_id, labels.RUN_ID: task.run_id}
        return sorted(docker_engine.rows(wanted), key=lambda row: row.name)

    def shown(*states: str) -> Callable[[], dict[str, Any] | None]:
        def look() -> dict[str, Any] | None:
            keys = task.stack.get(f"{task._path}/xcomEntries")["xcom_entries"]  # noqa: SLF001 - tests
            if "torchx_app" not in {one["key"] for one in keys}:
                return None
            found = checked(task.xcom("torchx_app"))
            now = [one["state"] for one in found["roles"][0]["replicas"]]
            return found if [*states] == now else None

        return look

    first = until(shown("RUNNING", "RUNNING"), "a snapshot of the launch", patience_s=60)
    docker_engine.stop(rows()[1].id, 0)
    second = until(shown("RUNNING", "FAILED"), "a snapshot of the failure", patience_s=60)

    assert second["seq"] > first["seq"]
    assert ("worker", writer) == (first["writer"], second["writer"])
    assert state == task.now().state
    docker_engine.stop(rows()[0].id, 0)
    assert "failed" == task.wait_for("failed")
    last = checked(task.xcom("torchx_app"))
    assert ("worker", "FAILED") == (last["writer"], last["state"]), task.record()
    assert last["seq"] > second["seq"]
    assert 1 == last["failure"]["id"]
    assert last == checked(task.stack.get(f"{task._path}/state-store/torchx_app:1")["value"])  # noqa: SLF001 - tests
    assert _failure_key(task).startswith(f"torchx_failure:{last['roles'][0]['name']}/1,")


def _failure_key(task: Task) -> str:
    """Return the key that a list of all apps shows for a failed one."""
    query = {"xcom_key_prefix_pattern": "torchx_failure:", "order_by": "-timestamp"}
    listed = task.stack.get("dags/~/dagRuns/~/taskInstances/~/xcomEntries", **query)
    (key,) = (one["key"] for one in listed["xcom_entries"] if one["run_id"] == task.run_id)
    return str(key)


@pytest.mark.parametrize("dag_id", ["steps", "steps_deferrable"])
def test_progress(launch: Callable[[str], Task], docker_engine: DockerEngine, dag_id: str) -> None:
    """How far a program is, is in its task's log while it runs, and an XCom at its end."""
    task = launch(dag_id)
    until(lambda: "step 2/9, loss 0.5" in [one["event"] for one in task.logs()], "the second step")

    for row in docker_engine.rows({labels.DAG_ID: dag_id, labels.RUN_ID: task.run_id}):
        docker_engine.signal(row.id, "SIGUSR1")

    assert "success" == task.wait_for("success")

    found = task.xcom("progress")
    found = json.loads(found) if isinstance(found, str) else found
    assert (9, 9, {"loss": 0.5}) == (found["step"], found["total"], found["metrics"])
    assert found == checked(task.xcom("torchx_app"))["progress"]
    assert "step 9/9, loss 0.5" in [one["event"] for one in task.logs()]
