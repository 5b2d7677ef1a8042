"""Content and layers of workspace images, on the fake and on a real daemon."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any, Final

import pytest

from airflow_torchx.concurrency import parallel
from airflow_torchx.core.engine import labels
from airflow_torchx.core.workspace.recipe import SourceRoot, own_tags, workspace_id
from airflow_torchx.core.workspace.source import parse_workspace
from airflow_torchx.errors import EngineNotFoundError, MissingOptionError, WorkspaceError
from airflow_torchx.schedulers.docker_scheduler import DockerScheduler
from airflow_torchx.specs import AppDef, Role, Workspace
from airflow_torchx.workspace.docker_workspace import DockerWorkspaceMixin
from tests.conftest import BUSYBOX

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from airflow_torchx.core.engine.images import ImageRow
    from airflow_torchx.core.engine.protocol import Engine

BIG: Final = 100_000


class Workspaces(DockerWorkspaceMixin):
    """Builds the workspaces of one test and lists their images."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        super().__init__(engine, terminal=False)
        self.folder = folder
        self._ids = {self._id()}

    def build(self, **options: Any) -> str:  # noqa: ANN401 - any option
        """Build the folder on the image of the tests, and return the image."""
        self._ids.add(self._id())
        role = Role("a", BUSYBOX, entrypoint="true")
        return self.build_workspace_and_update_role(role, str(self.folder), options).image

    def images(self) -> list[ImageRow]:
        """Return the images of the folders that were built."""
        rows = self.engine.images.rows({labels.WORKSPACE_ID: None})
        ours = (row for row in rows if row.labels[labels.WORKSPACE_ID] in self._ids)
        return sorted(ours, key=lambda row: row.created_s)

    def read(self, image: str, path: str) -> str:
        """Return a file of an image."""
        container = self.engine.images.prepare(image, f"torchx-read-{os.urandom(4).hex()}", {})
        try:
            return self.engine.images.read_file(container, path, 1 << 20).decode()
        finally:
            self.engine.images.discard(container)

    def depth(self, image: str) -> int:
        """Return the number of layers with workspace files."""
        (row,) = [row for row in self.images() if image in row.tags]
        return int(row.labels[labels.WORKSPACE_DEPTH])

    def _id(self) -> str:
        source = parse_workspace(str(self.folder))
        return workspace_id(source, BUSYBOX, SourceRoot("", ""))


@pytest.fixture
def workspaces(engine: Engine, tmp_path: Path) -> Iterator[Workspaces]:
    """Return a workspace with a small and a large file; its images are removed at the end."""
    folder = tmp_path / "code"
    folder.mkdir()
    folder.joinpath("train.py").write_text("print(1)")
    # Random, so that no other test run makes images with the same content, and thus the same name.
    folder.joinpath("data.bin").write_bytes(os.urandom(BIG))
    found = Workspaces(engine, folder)

    yield found

    for row in found.images():
        for tag in own_tags(row):
            engine.images.untag(tag)


def test_files_are_in_the_image(workspaces: Workspaces) -> None:
    """Workspace files are in the working directory of the base, or in /workspace."""
    image = workspaces.build()

    assert "print(1)" == workspaces.read(image, "/workspace/train.py")
    assert image.startswith("airflow-torchx/workspace:")


def test_unchanged_workspace_is_not_rebuilt(workspaces: Workspaces) -> None:
    """An unchanged workspace is not rebuilt, regardless of file times."""
    first = workspaces.build()
    os.utime(workspaces.folder / "train.py", (1, 1))

    second = workspaces.build()

    assert first == second
    assert 1 == len(workspaces.images())


def test_one_changed_file_is_one_small_layer(workspaces: Workspaces) -> None:
    """A changed file adds one small layer to the last image, which stays unchanged."""
    first = workspaces.build()
    workspaces.folder.joinpath("train.py").write_text("print(2)")
    workspaces.folder.joinpath("new.py").write_text("new")

    second = workspaces.build()

    assert "print(1)" == workspaces.read(first, "/workspace/train.py")
    assert "print(2)" == workspaces.read(second, "/workspace/train.py")
    assert "new" == workspaces.read(second, "/workspace/new.py")
    assert (1, 2) == (workspaces.depth(first), workspaces.depth(second))


def test_reverted_change_gives_the_first_image(workspaces: Workspaces) -> None:
    """A reverted change gives the first image again."""
    first = workspaces.build()
    workspaces.folder.joinpath("train.py").write_text("print(2)")
    workspaces.build()
    workspaces.folder.joinpath("train.py").write_text("print(1)")

    assert first == workspaces.build()


def test_a_deleted_file_is_gone(workspaces: Workspaces) -> None:
    """After a deletion, all files are added to the base again."""
    workspaces.folder.joinpath("old.py").write_text("old")
    workspaces.build()
    workspaces.folder.joinpath("old.py").unlink()

    second = workspaces.build()

    assert "print(1)" == workspaces.read(second, "/workspace/train.py")
    with pytest.raises(EngineNotFoundError):
        workspaces.read(second, "/workspace/old.py")
    assert 1 == workspaces.depth(second)


def test_a_changed_mode_is_another_image(workspaces: Workspaces) -> None:
    """A changed file mode adds one small layer."""
    first = workspaces.build()
    workspaces.folder.joinpath("train.py").chmod(0o755)

    second = workspaces.build()

    assert first != second
    assert 2 == workspaces.depth(second)


def test_a_large_change_starts_from_the_base(workspaces: Workspaces) -> None:
    """A large change starts from the base, because replaced files still take space below."""
    workspaces.build()
    workspaces.folder.joinpath("data.bin").write_bytes(os.urandom(BIG + 1))

    assert 1 == workspaces.depth(workspaces.build())


def test_layers_are_limited(workspaces: Workspaces) -> None:
    """After 16 layers, all files are added to the base again."""
    depths = []
    for number in range(18):
        workspaces.folder.joinpath("train.py").write_text(f"print({number})")
        depths.append(workspaces.depth(workspaces.build(keep_images=2)))

    # Among images created within one second, the deeper one counts as newer, so 17 may be
    # followed by a first layer again.
    assert [*range(1, 17), 1] == depths[:17]
    assert depths[17] in {1, 2}


def test_old_images_are_removed(workspaces: Workspaces, caplog: pytest.LogCaptureFixture) -> None:
    """Old images are removed, except the newest and those with containers."""
    # A failure shows what the daemon answered.
    caplog.set_level("DEBUG", "airflow_torchx")
    first = workspaces.build()
    container = workspaces.engine.images.prepare(first, f"torchx-{os.urandom(4).hex()}", {})
    try:
        made = []
        for number in range(3):
            workspaces.folder.joinpath("train.py").write_text(f"a change: {number}")
            made.append(workspaces.build(keep_images=2))

        left = {tag for row in workspaces.images() for tag in row.tags}
    finally:
        workspaces.engine.images.discard(container)

    assert {first, *made[1:]} == left


def test_eight_at_once_build_once(workspaces: Workspaces) -> None:
    """Eight concurrent builds of one workspace create one image."""
    start = threading.Barrier(8)

    def build(_: int) -> str:
        start.wait()
        return workspaces.build()

    images = parallel.map_concurrently(build, range(8), threads=8)

    assert 1 == len(set(images))
    assert 1 == len(workspaces.images())


def test_roles_share_an_image(workspaces: Workspaces) -> None:
    """Roles with the same base and workspace share an image; others keep their own."""
    source = {str(workspaces.folder): ""}
    roles = [
        Role("a", BUSYBOX, entrypoint="true", workspace=Workspace(source)),
        Role("b", BUSYBOX, entrypoint="true", workspace=Workspace(source)),
        Role("c", BUSYBOX, entrypoint="true"),
    ]

    first, second, third = workspaces.build_workspaces(roles)

    assert first.image == second.image != BUSYBOX
    assert first.workspace is None
    assert roles[2] == third


def test_invalid_workspaces(workspaces: Workspaces) -> None:
    """A missing or empty workspace raises an error and leaves no image."""
    folder = workspaces.folder
    sources = {folder / "none": "does not exist", folder / "train.py": "is a file, not a folder"}
    empty = folder / "empty"
    empty.mkdir()
    sources[empty] = "has no files"

    for source, error in sources.items():
        workspaces.folder = source
        with pytest.raises(WorkspaceError, match=error):
            workspaces.build()

    assert [] == workspaces.images()


def test_too_large_workspace(workspaces: Workspaces) -> None:
    """A workspace above the size limit raises an error that names its largest paths."""
    workspaces.folder.joinpath("huge.bin").write_bytes(bytes(2 << 20))

    with pytest.raises(WorkspaceError, match=r"huge\.bin"):
        workspaces.build(max_context_mb=1)

    assert [] == workspaces.images()


def test_images_to_push(workspaces: Workspaces) -> None:
    """Workspace images are pushed to image_repo, which must be set for them."""
    local = workspaces.build()
    key = local.rpartition(":")[2]
    app = AppDef("app", [Role("a", local), Role("b", "public/image:1")])

    images = workspaces.dryrun_push_images(app, {"image_repo": "reg.io/team/x"})

    assert {local: ("reg.io/team/x", key)} == dict(images)
    assert [f"reg.io/team/x:{key}", "public/image:1"] == [role.image for role in images.app.roles]
    with pytest.raises(MissingOptionError, match=r"options\.image_repo: not set, and"):
        workspaces.dryrun_push_images(app, {})


def test_app_runs_its_workspace(workspaces: Workspaces, app_id: str, network_name: str) -> None:
    """An app with a workspace runs its files, from submission to the end."""
    role = Role("a", BUSYBOX, entrypoint="sh", args=["-c", "exit 0"])
    scheduler = DockerScheduler("t", workspaces.engine, terminal=False)
    app = AppDef(app_id, [role])
    labelled = {"network": network_name}

    launched = scheduler.submit(app, labelled, str(workspaces.folder))
    ended = scheduler.wait(launched, 60)

    assert "SUCCEEDED" == ended.state.name
    (row,) = workspaces.engine.rows({labels.APP_ID: launched})
    assert row.labels[labels.WORKSPACE_KEY]
    scheduler.delete(launched)
