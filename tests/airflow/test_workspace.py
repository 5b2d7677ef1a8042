"""Workspaces of tasks: code on a worker's disk that runs in containers."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import pytest

from airflow_torchx.core.engine import labels
from airflow_torchx.errors import ImageBuildError, ImagePushError, WorkspaceError
from airflow_torchx.operators import TorchXDockerOperator
from airflow_torchx.specs import AppDef, Role, to_dict
from airflow_torchx.task.context import IMAGES_KEY
from tests.airflow.apps import FOREVER
from tests.airflow.supervisor import Answer, Point, Supervisor
from tests.conftest import BUSYBOX
from tests.integration.registry import PASSWORD, serving

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_torchx.docker_engine import DockerEngine
    from tests.airflow.one_task import OneTask

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("no_images_left")]

APP = to_dict(AppDef("app", [Role("sh", BUSYBOX, entrypoint="sh", args=["train.sh"])]))


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """Return a workspace whose script writes a result."""
    folder = tmp_path / "code"
    folder.mkdir()
    folder.joinpath("train.sh").write_text("echo 1 >/result")
    return folder


def test_a_task_runs_the_code_of_its_workspace(
    one_task: OneTask, code: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A task runs the current code of its workspace, and builds nothing if no file has changed."""
    caplog.set_level(logging.INFO, "airflow_torchx")

    first = one_task.run(app=APP, workspace=str(code), result_path="/result")
    again = one_task.run(app=APP, workspace=str(code), result_path="/result")
    code.joinpath("train.sh").write_text("echo 2 >/result")
    edited = one_task.run(app=APP, workspace=str(code), result_path="/result")

    assert [1, 1, 2] == [run.xcom() for run in (first, again, edited)]
    lines = [text for text in caplog.messages if "workspace image" in text]
    assert ["built", "is up to date", "built"] == [
        "built" if text.startswith("built workspace image") else text.split(maxsplit=3)[3]
        for text in lines
        if not text.startswith("adding")
    ]


def test_a_workspace_is_a_template(one_task: OneTask, code: Path) -> None:
    """A workspace may be a template, also one that renders to the text of a mapping."""
    code.joinpath("config.json").write_text('{"lr": 0.1}')

    ended = one_task.run(
        app=APP,
        workspace="{'{{ params.code }}': '', '{{ params.code }}/config.json': sub/copy.json}",
        params={"code": str(code)},
        result_path="/workspace/sub/copy.json",
    )

    assert {"lr": 0.1} == ended.xcom()


def test_a_dockerfile_that_fails_fails_the_task(one_task: OneTask, code: Path) -> None:
    """A failing Dockerfile fails the task with the step, its command and its last lines."""
    code.joinpath("Dockerfile.torchx").write_text(
        "ARG IMAGE\nFROM $IMAGE\nRUN echo the reason; exit 3\n"
    )

    ended = one_task.run(app=APP, workspace=str(code))

    assert isinstance(ended.error, ImageBuildError)
    assert "the reason" in str(ended.error)
    assert "RUN echo the reason; exit 3" in str(ended.error)
    assert [] == ended.rows


def test_a_workspace_that_is_not_there_fails_the_task(one_task: OneTask, tmp_path: Path) -> None:
    """A missing workspace fails the task before anything is created."""
    ended = one_task.run(app=APP, workspace=str(tmp_path / "nothing"))

    assert isinstance(ended.error, WorkspaceError)
    assert "does not exist" in str(ended.error)
    assert [] == ended.rows


def test_a_workspace_comes_from_object_storage(one_task: OneTask, code: Path) -> None:
    """A workspace may be a URL that Airflow's object storage reads."""
    ended = one_task.run(app=APP, workspace=code.as_uri(), result_path="/result")

    assert 1 == ended.xcom()


def test_a_task_pushes_with_the_login_of_a_connection(
    one_task: OneTask,
    code: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A task pushes with a connection's login, whose password is shown nowhere."""
    caplog.set_level(logging.INFO)
    folder = tmp_path / "registry"
    folder.mkdir()
    with serving(folder) as registry:
        connection = {"conn_type": "docker", "host": registry.host}
        connection |= {"login": registry.login.username, "password": registry.login.password}
        monkeypatch.setenv("AIRFLOW_CONN_REGISTRY", json.dumps(connection))
        options = {"image_repo": f"{registry.host}/team/code"}
        wanted: dict[str, Any] = {"app": APP, "workspace": str(code), "options": options}

        refused = one_task.run(**wanted)
        pushed = one_task.run(**wanted, docker_conn_ids=["registry"], result_path="/result")

    assert "docker_conn_ids" in str(refused.error)
    assert isinstance(refused.error, ImagePushError)
    assert 1 == pushed.xcom()
    logged = "".join([*capfd.readouterr(), *caplog.messages])
    assert f"pushed image {registry.host}/team/code:" in logged
    assert PASSWORD not in logged + str(pushed.xcom("app_handle"))


def test_a_retry_adopts_its_app_while_the_registry_is_down(
    docker_engine: DockerEngine, code: Path, tmp_path: Path, app_id: str
) -> None:
    """A retry waits for the running app of its task without a request to the registry."""
    folder = tmp_path / "registry"
    folder.mkdir()
    code.joinpath("train.sh").write_text(FOREVER)
    with serving(folder, auth=False) as registry:
        task = TorchXDockerOperator(
            task_id="gang",
            app=APP | {"name": app_id},
            workspace=str(code),
            options={"image_repo": f"{registry.host}/team/code"},
            deferrable=True,
        )
        supervisor = Supervisor(task, run_id=app_id)
        supervisor.fail(Point("SetXCom", key=IMAGES_KEY), Answer.SERVER_ERROR)
        lost = supervisor.run()

    adopted = supervisor.run(2)

    rows = docker_engine.rows({labels.RUN_ID: app_id})
    for row in rows:
        docker_engine.remove(row.id)
    assert lost.error is not None
    assert "DeferTask" == adopted.report, adopted.error
    assert [adopted.message.trigger_kwargs["app_id"]] == [row.labels[labels.APP_ID] for row in rows]
    assert ["1"] == [row.labels[labels.TRY_NUMBER] for row in rows]
