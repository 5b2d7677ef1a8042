"""The files in dags/ are what they claim to be: each runs on a real Engine, with real PyTorch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import docker
import pytest
from docker.errors import NotFound

from airflow_torchx.core import labels
from tests.integration.uv_project import BASE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_torchx.docker_engine import DockerEngine

DAGS: Final = Path(__file__).parents[2] / "dags"

pytestmark = [
    pytest.mark.docker,
    pytest.mark.timeout(600),
    pytest.mark.usefixtures("airflow_home", "docker_engine", "no_images_left"),
]


def printed(*command: str) -> str:
    """Return what a Python prints that has dags/ as its DAGs folder."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", *command],
        env=os.environ
        | {"AIRFLOW__CORE__DAGS_FOLDER": str(DAGS), "AIRFLOW_TORCHX_BASE_IMAGE": BASE},
        cwd=DAGS,
        capture_output=True,
        text=True,
        check=False,
    )
    # What pytest shows of a test that fails.
    print(done.stdout, done.stderr)  # noqa: T201
    assert not done.returncode
    return done.stdout


def told(module: str, code: str) -> Any:  # noqa: ANN401 - any JSON
    """Return the ``answer`` that code gives which knows all names of a DAG file."""
    ask = f"import json; from {module} import *\n{code}\nprint(json.dumps(answer))"
    return json.loads(printed("-c", ask).splitlines()[-1])


def apps_of(engine: DockerEngine, dag_id: str) -> int:
    """Return how many containers a DAG has left."""
    return len(engine.rows({labels.DAG_ID: dag_id}))


@pytest.fixture
def volume(app_id: str) -> Iterator[str]:
    """Return the name of a volume, gone at the end."""
    yield app_id
    client = docker.from_env()
    with suppress(NotFound):
        client.volumes.get(app_id).remove()
    client.close()


_RETRAIN: Final = """
from airflow.models.asset import AssetEvent
from airflow.utils.session import create_session

def ended(day, epochs):
    conf = {"volume": %r, "epochs": epochs}
    run = dag.test(logical_date=datetime(2026, 3, day, tzinfo=UTC), run_conf=conf)
    states = {ti.task_id: ti.state for ti in run.get_task_instances()}
    losses = run.get_task_instance("evaluate").xcom_pull(task_ids="evaluate")
    with create_session() as session:
        events = session.query(AssetEvent).filter_by(source_run_id=run.run_id).count()
    return run.state, states["promote"], events, losses

answer = [ended(day, epochs) for day, epochs in ((2, 20), (3, 1), (4, 60))]
"""


def test_scheduled_retraining(volume: str, docker_engine: DockerEngine) -> None:
    """The first model is promoted, a worse one is not, a better one is; so the asset follows."""
    first, worse, better = told("scheduled_retraining", _RETRAIN % volume)

    assert ["success", "success", 1] == first[:3]
    assert first[3]["promoted"] is None
    assert ["success", "skipped", 0] == worse[:3]
    assert worse[3]["promoted"] < worse[3]["candidate"]
    assert ["success", "success", 1] == better[:3]
    assert better[3]["candidate"] < better[3]["promoted"]
    assert 0 == apps_of(docker_engine, "scheduled_retraining")


_BY_HAND: Final = """
conf = {"volume": %r, "epochs": 1}
others = "evaluate|is_better|promote"
run = dag.test(logical_date=None, run_conf=conf, mark_success_pattern=others)
answer = run.state
"""


def test_retraining_by_hand(volume: str) -> None:
    """A run without a date has no interval, and trains on the last day."""
    assert "success" == told("scheduled_retraining", _BY_HAND % volume)


_GATED: Final = """
run = launch.test(mark_success_pattern="hand_over", run_conf={"epochs": 2})
app_handle = run.get_task_instance("launch").xcom_pull(task_ids="launch")
run = gated.test(run_conf={"app_handle": app_handle})
pull = lambda task_id: run.get_task_instance(task_id).xcom_pull(task_ids=task_id)
answer = [run.state, pull("runs"), pull("first_line"), pull("done"), app_handle]
"""


def test_sensor_gated_pipeline(docker_engine: DockerEngine) -> None:
    """The second DAG works with the app while it runs, sees it end, and takes it away."""
    state, runs, line, done, handle = told("sensor_gated_pipeline", _GATED)

    assert "success" == state
    assert (handle, handle) == (runs["app_handle"], done["app_handle"])
    assert line
    assert "SUCCEEDED" == done["state"]
    assert 0 == apps_of(docker_engine, "sensor_gated_launch")


def test_gate_without_an_app() -> None:
    """An app that is not there fails the pipeline, and is no success for want of a failure."""
    code = """
    run = gated.test(run_conf={"app_handle": "local_docker://torchx/nothing-here"})
    answer = run.state
    """.replace("\n    ", "\n")

    assert "failed" == told("sensor_gated_pipeline", code)


def test_hyperparameter_sweep() -> None:
    """Every rate is tried, and the best one is picked."""
    code = """
    run = dag.test(run_conf={"epochs": 1})
    tis = [ti for ti in run.get_task_instances() if ti.task_id == "train"]
    best = run.get_task_instance("pick_best").xcom_pull(task_ids="pick_best")
    answer = [run.state, sorted(ti.rendered_map_index for ti in tis), best]
    """.replace("\n    ", "\n")
    state, names, best = told("hyperparameter_sweep", code)

    assert "success" == state
    assert ["lr=0.001", "lr=0.01", "lr=0.03"] == names
    assert 0.001 < best["lr"]
    assert 1 == best["epochs"]


def test_torchx_decorator(docker_engine: DockerEngine) -> None:
    """As a script, it prints what came out of it."""
    *_, last = printed("torchx_decorator.py").splitlines()

    told, error = last.rstrip(".").rsplit(maxsplit=1)
    assert "The largest error is" == told
    assert float(error) < 0.1
    assert 0 == apps_of(docker_engine, "torchx_decorator")
