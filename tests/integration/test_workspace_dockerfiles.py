"""Workspaces that bring a Dockerfile, and bases that take one."""

from __future__ import annotations

import io
import json
import os
import tarfile
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from airflow_torchx.core.connection.endpoint import Endpoint
from airflow_torchx.docker_engine.connection import open_client, resolve
from airflow_torchx.specs import Role
from airflow_torchx.workspace.docker_workspace import DockerWorkspaceMixin
from tests.conftest import BUSYBOX

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from airflow_torchx.docker_engine import DockerEngine

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("no_images_left")]


@pytest.fixture
def client(docker_engine: DockerEngine) -> Iterator[Any]:
    """Return a client of the SDK."""
    docker_engine.info()
    with closing(open_client(resolve(Endpoint(), os.environ))) as found:
        yield found


def built(engine: DockerEngine, folder: Path, base: str = BUSYBOX, **options: Any) -> str:  # noqa: ANN401 - any option
    """Return the image of a workspace."""
    mixin = DockerWorkspaceMixin(engine, terminal=False)
    role = Role("a", base, entrypoint="true")
    return mixin.build_workspace_and_update_role(role, str(folder), options).image


def files(client: Any, image: str, folder: str) -> dict[str, tuple[int, int]]:  # noqa: ANN401 - the SDK's
    """Return the files of a folder of an image, each with its owner and group."""
    held = client.create_container(image, command="x")["Id"]
    try:
        pieces, _ = client.get_archive(held, folder)
        with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as tar:
            return {m.name.partition("/")[2]: (m.uid, m.gid) for m in tar if m.isfile()}
    finally:
        client.remove_container(held)


def test_a_dockerfile_of_its_own_is_used(
    docker_engine: DockerEngine,
    client: Any,  # noqa: ANN401 - the SDK's
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A workspace's Dockerfile is used with its arguments, and each line of a RUN is logged."""
    caplog.set_level("INFO", "airflow_torchx")
    tmp_path.joinpath("Dockerfile.torchx").write_text(
        "ARG IMAGE\nFROM $IMAGE AS first\nARG WORKSPACE\nARG COLOUR\nCOPY . /x/\n"
        'RUN echo "$WORKSPACE $COLOUR" >/x/told; for n in 1 2 3; do echo line $n; done\n'
        "FROM first AS second\nRUN exit 1\n"
    )
    tmp_path.joinpath(".dockerignore").write_text("Dockerfile.torchx\n.dockerignore\n")
    tmp_path.joinpath("train.py").write_text("1")
    options: dict[str, Any] = {"build_args": {"COLOUR": "green"}, "target": "first"}

    image = built(docker_engine, tmp_path, **options)
    said = [message for message in caplog.messages if message.startswith("building: line ")]
    again = built(docker_engine, tmp_path, **options)

    assert image == again
    assert [f"building: line {n}" for n in (1, 2, 3)] == said
    assert {"train.py", "told"} == files(client, image, "/x").keys()
    held = docker_engine.images.prepare(image, f"torchx-{os.urandom(4).hex()}", {})
    try:
        assert f"{tmp_path} green\n" == docker_engine.read_file(held, "/x/told", 999).decode()
    finally:
        docker_engine.remove(held)


@pytest.mark.parametrize(
    "instructions", ["VOLUME /app\nWORKDIR /app", "WORKDIR /app\nONBUILD RUN true"]
)
def test_a_base_that_cannot_be_layered_is_built(
    docker_engine: DockerEngine,
    client: Any,  # noqa: ANN401 - the SDK's
    tmp_path: Path,
    instructions: str,
) -> None:
    """A base that needs a build gets exactly the files, owned by its user."""
    tag = f"airflow-torchx/test:{os.urandom(4).hex()}"
    text = f"FROM {BUSYBOX}\n{instructions}\nUSER 1000:100\n"
    for line in client.build(fileobj=io.BytesIO(text.encode()), tag=tag, rm=True):
        assert b"error" not in line, json.loads(line)
    tmp_path.joinpath("train.py").write_text("1")
    tmp_path.joinpath("folder").mkdir()

    try:
        image = built(docker_engine, tmp_path, tag)
        assert {"train.py": (1000, 100)} == files(client, image, "/app")
        docker_engine.images.untag(image)
    finally:
        docker_engine.images.untag(tag)
