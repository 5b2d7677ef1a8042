"""Workspace images on their way through a real registry to another daemon."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from airflow_torchx.core.engine import labels
from airflow_torchx.docker_engine import DockerEngine
from airflow_torchx.errors import ImagePushError
from airflow_torchx.schedulers.docker_scheduler import DockerScheduler
from airflow_torchx.specs import AppDef, Role, Workspace
from tests.conftest import BUSYBOX
from tests.integration.registry import PASSWORD, Wire

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_torchx.core.engine.images import ImageRow, RegistryLogin
    from tests.integration.registry import Registry

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("no_images_left")]

MB = 1_000_000


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """Return a workspace of a small and a large file."""
    folder = tmp_path / "code"
    folder.mkdir()
    folder.joinpath("train.py").write_text("1")
    folder.joinpath("data.bin").write_bytes(os.urandom(5 * MB))
    return folder


def forget(engine: DockerEngine, row: ImageRow) -> None:
    """Take all names from an image."""
    for tag in row.tags:
        engine.images.untag(tag)


def built(code: Path, repo: str, *logins: RegistryLogin) -> str:
    """Return the image of a workspace, built and pushed."""
    app = AppDef(
        "app", [Role("a", BUSYBOX, entrypoint="true", workspace=Workspace({str(code): ""}))]
    )
    with DockerScheduler("t", DockerEngine.connect(logins=logins), terminal=False) as scheduler:
        return scheduler.build(app, {"image_repo": repo}).roles[0].image


def test_a_pushed_image_is_neither_pushed_nor_built_again(
    registry: Registry, code: Path, docker_engine: DockerEngine
) -> None:
    """A pushed image is not built again, even where only the registry has it."""
    with Wire(registry.host) as wire:
        repo, login = f"{wire.host}/team/code", replace(registry.login, registry=wire.host)
        first = built(code, repo, login)
        sent_bytes = wire.sent_bytes
        second = built(code, repo, login)
        again_bytes = wire.sent_bytes - sent_bytes
        for row in docker_engine.images.rows({labels.WORKSPACE_ID: None}):
            if first in row.tags:
                forget(docker_engine, row)
        third = built(code, repo, login)

    assert first == second == third
    assert first.startswith(f"{repo}:")
    assert sent_bytes > 5 * MB
    assert again_bytes < 0.1 * MB
    assert docker_engine.find_image(first) is None


def test_after_one_changed_file_little_is_pushed(registry: Registry, code: Path) -> None:
    """After one changed file only the new layer is pushed."""
    with Wire(registry.host) as wire:
        repo, login = f"{wire.host}/team/small", replace(registry.login, registry=wire.host)
        first = built(code, repo, login)
        sent_bytes = wire.sent_bytes
        code.joinpath("train.py").write_text("2")

        second = built(code, repo, login)

        again_bytes = wire.sent_bytes - sent_bytes

    assert first != second
    assert again_bytes < 0.1 * MB


def test_a_push_that_is_refused_is_an_error_and_half_pushes_nothing(
    registry: Registry, code: Path, docker_engine: DockerEngine
) -> None:
    """A refused push says what to do, without the password, and tags nothing."""
    repo = f"{registry.host}/team/refused"
    wrong = replace(registry.login, password=f"not-{PASSWORD}")

    with pytest.raises(ImagePushError, match="docker_conn_ids") as caught:
        built(code, repo, wrong)

    assert PASSWORD not in str(caught.value)
    tags = [
        tag for row in docker_engine.images.rows({labels.WORKSPACE_ID: None}) for tag in row.tags
    ]
    assert [] == [tag for tag in tags if tag.startswith(repo)]


def test_the_plan_names_the_pushed_image(
    registry: Registry, code: Path, app_id: str, network_name: str
) -> None:
    """The plan names the pushed image, and the containers run it."""
    repo = f"{registry.host}/team/plan"
    role = Role("a", BUSYBOX, entrypoint="test", args=["-f", "train.py"])
    with DockerScheduler(
        "t", DockerEngine.connect(logins=[registry.login]), terminal=False
    ) as scheduler:
        app = AppDef(app_id, [replace(role, workspace=Workspace({str(code): ""}))])
        info = scheduler.submit_dryrun(app, {"image_repo": repo, "network": network_name})
        scheduler.schedule(info)
        ended = scheduler.wait(info.request.app_id, 60)
        scheduler.delete(info.request.app_id)

    (image,) = info.request.images
    assert image.startswith(f"{repo}:")
    assert "SUCCEEDED" == ended.state.name
