"""What happens where the disk of the daemon is full, on a daemon with a disk of 64 MiB.

That daemon is another one as well: what the first has pushed runs there without a build.
"""

from __future__ import annotations

import os
import tarfile
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

import pytest

from airflow_torchx.core.connection.endpoint import Endpoint
from airflow_torchx.core.engine import labels
from airflow_torchx.core.workspace.recipe import own_tags, with_workspace
from airflow_torchx.docker_engine import DockerEngine
from airflow_torchx.docker_engine.connection import open_client, resolve
from airflow_torchx.errors import EngineError, ImageBuildError, ImagePullError
from airflow_torchx.schedulers.docker_scheduler import DockerScheduler
from airflow_torchx.specs import AppDef, Role
from airflow_torchx.workspace.docker_workspace import DockerWorkspaceMixin
from tests.conftest import BUSYBOX
from tests.integration.second_daemon import running, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.integration.registry import Registry
    from tests.integration.second_daemon import SecondDaemon

pytestmark = pytest.mark.docker

DISK_MB: Final = 64
LARGE_MB: Final = 70  # does not fit
HALF_MB: Final = 35  # fits once
SLACK_BYTES: Final = 1 << 20  # of the daemon's own files
#: What is done about a full disk.
ADVICE: Final = "docker system df"
WHY: Final = "(?i)no space left on device"
COPY: Final = "ARG IMAGE\nFROM $IMAGE\nCOPY . .\n"
WRITE: Final = "RUN dd if=/dev/zero of=/file bs=1M count="


@pytest.fixture(scope="module")
def daemon() -> Iterator[SecondDaemon]:
    """Return a daemon with a small disk."""
    with running(DISK_MB) as daemon:
        yield daemon


@pytest.fixture
def small(daemon: SecondDaemon, registry: Registry) -> Iterator[DockerEngine]:
    """Return a connection to it; no container, image or layer is left after the test."""
    with DockerEngine.connect(daemon.endpoint, [registry.login]) as engine:
        before = [row.tags for row in engine.images.rows({})]
        free_bytes = daemon.free_bytes
        yield engine

        wait_until(lambda: daemon.free_bytes >= free_bytes - SLACK_BYTES)
        assert () == engine.rows({})
        assert before == [row.tags for row in engine.images.rows({})]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder for code."""
    folder = tmp_path / "code"
    folder.mkdir()
    return folder


def build(engine: DockerEngine, folder: Path) -> str:
    """Return the image of a folder."""
    role = Role("a", BUSYBOX, entrypoint="true")
    workspaces = DockerWorkspaceMixin(engine, terminal=False)
    return workspaces.build_workspace_and_update_role(role, str(folder)).image


def fill(folder: Path, files_mb: Mapping[str, int], dockerfile: str | None = None) -> None:
    """Write files of so many MiB."""
    for name, size_mb in files_mb.items():
        folder.joinpath(name).write_bytes(bytes(size_mb << 20))
    if dockerfile is not None:
        folder.joinpath("Dockerfile.torchx").write_text(dockerfile)


def tar_of(content: bytes) -> Iterator[bytes]:
    """Yield a tar of one file, as large as a multiple of a block."""
    entry = tarfile.TarInfo("file")
    entry.size = len(content)
    yield from (entry.tobuf(), content, bytes(2 * tarfile.BLOCKSIZE))


def assert_room(engine: DockerEngine, folder: Path) -> None:
    """The daemon builds again once the workspace is small, and nothing of before is in the way."""
    for path in folder.iterdir():
        path.unlink()
    fill(folder, {"small": 1})
    image = build(engine, folder)

    assert engine.find_image(image)
    engine.images.untag(image)


@pytest.mark.parametrize("size_mb", [LARGE_MB, HALF_MB], ids=["sending", "making the layer"])
def test_workspace(small: DockerEngine, folder: Path, size_mb: int) -> None:
    """A workspace that is too large for the disk is a clear error, and leaves nothing."""
    fill(folder, {"file": size_mb})

    with pytest.raises(EngineError, match=WHY) as caught:
        build(small, folder)

    assert ADVICE in caught.value.fix
    assert () == small.rows({})
    assert_room(small, folder)


@pytest.mark.parametrize(
    ("size_mb", "dockerfile"),
    [
        pytest.param(LARGE_MB, COPY, id="context"),
        pytest.param(HALF_MB, COPY, id="copy"),
        pytest.param(1, f"{COPY}{WRITE}{LARGE_MB}\n", id="run"),
        pytest.param(1, f"{COPY}{WRITE}{HALF_MB}\n", id="layer"),
    ],
)
def test_dockerfile(
    daemon: SecondDaemon, small: DockerEngine, folder: Path, size_mb: int, dockerfile: str
) -> None:
    """A Dockerfile that fills the disk is an error at any step; finished steps can be pruned."""
    fill(folder, {"file": size_mb}, dockerfile)

    with pytest.raises(ImageBuildError, match=WHY) as caught:
        build(small, folder)

    assert "docker image prune" in caught.value.fix
    assert () == small.rows({})
    assert_room(small, folder)
    with closing(open_client(daemon.endpoint)) as client:
        client.prune_images()


def test_buildkit(daemon: SecondDaemon, small: DockerEngine, folder: Path, app_id: str) -> None:
    """BuildKit keeps what it got of the context; where anything else is freed, it can be pruned."""
    fill(folder, {"file": LARGE_MB}, f"{COPY}RUN --mount=type=tmpfs,target=/x true\n")
    other = small.images.prepare(BUSYBOX, app_id, {})
    small.images.put_files(other, tar_of(bytes(4 << 20)))

    with pytest.raises(ImageBuildError, match=WHY) as caught:
        build(small, folder)

    assert "docker builder prune" in caught.value.fix
    small.remove(other)
    with closing(open_client(daemon.endpoint)) as client:
        client.prune_builds()
    assert_room(small, folder)


@pytest.mark.parametrize("is_dense", [True, False], ids=["download", "unpacking"])
def test_pull(
    small: DockerEngine, folder: Path, registry: Registry, app_id: str, *, is_dense: bool
) -> None:
    """An image that is too large for the disk is a clear error, and no layer of it is left."""
    image = f"{registry.host}/{app_id}:1"
    publish(image, os.urandom(LARGE_MB << 20) if is_dense else bytes(LARGE_MB << 20), registry)

    with pytest.raises(ImagePullError, match=WHY) as caught:
        small.pull(image, lambda _line: None)

    assert ADVICE in caught.value.fix
    assert small.find_image(image) is None
    assert_room(small, folder)


def publish(image: str, content: bytes, registry: Registry) -> None:
    """Push an image of one file from the first daemon, where it does not stay."""
    client: Any = open_client(resolve(Endpoint(), os.environ))
    with closing(client), DockerEngine.connect(logins=[registry.login]) as engine:
        repository, _, tag = image.rpartition(":")
        client.import_image_from_data(b"".join(tar_of(content)), repository, tag)
        try:
            engine.images.push(image, lambda _line: None)
        finally:
            engine.images.untag(image)


def test_what_was_pushed_runs_elsewhere(
    small: DockerEngine,
    folder: Path,
    registry: Registry,
    app_id: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Another daemon takes a workspace image from the repository, and builds nothing."""
    caplog.set_level("INFO")
    folder.joinpath("words").write_text(app_id)
    app = AppDef(app_id, [Role("a", BUSYBOX, entrypoint="cat", args=["words"])])
    options = {"image_repo": f"{registry.host}/{app_id}", "network": "none"}
    with DockerEngine.connect(logins=[registry.login]) as engine:
        first = DockerScheduler("tests", engine, terminal=False)
        image = first.build(with_workspace(app, str(folder)), options).roles[0].image
        for row in engine.images.rows({labels.WORKSPACE_ID: None}):
            if image in row.tags:
                for tag in own_tags(row):
                    engine.images.untag(tag)
    caplog.clear()

    second = DockerScheduler("tests", small, terminal=False)
    launched = second.submit(app, options, str(folder))
    ended = second.wait(launched, 60)
    said = list(second.log_iter(launched, "a"))
    (row,) = small.images.rows({labels.WORKSPACE_ID: None})
    second.delete(launched)
    small.images.untag(image)

    assert "SUCCEEDED" == ended.state.name
    assert [f"{app_id}\n"] == said
    assert (image,) == row.tags
    assert f"workspace image {image} is already in its registry" in caplog.messages
