"""What this host remembers of the last image of a workspace."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_torchx.errors import EngineError
from airflow_torchx.specs import Role
from airflow_torchx.testing import FakeEngine
from airflow_torchx.workspace import manifests
from airflow_torchx.workspace.docker_workspace import DockerWorkspaceMixin

if TYPE_CHECKING:
    from pathlib import Path

IMAGE = "busybox:1"


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of the user's caches, which nobody else has."""
    folder = tmp_path / "caches"
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


@pytest.fixture
def fake() -> FakeEngine:
    """Return a daemon that has the base."""
    return FakeEngine(images=[IMAGE])


def test_the_last_one_is_remembered(caches: Path) -> None:
    """For each workspace; nobody else can read it."""
    manifests.remember("w", b"1")
    manifests.remember("w", b"2")

    (file,) = caches.rglob("w")
    assert b"2" == manifests.remembered("w")
    assert manifests.remembered("v") is None
    assert 0 == file.stat().st_mode & 0o077


def test_what_is_old_is_forgotten(caches: Path) -> None:
    """A workspace may lie somewhere else each time."""
    for number in range(103):
        manifests.remember(f"w{number}", b"1")

    assert 100 == sum(path.is_file() for path in caches.rglob("*"))
    assert manifests.remembered("w0") is None
    assert b"1" == manifests.remembered("w102")


def test_no_place_for_it_is_no_error(caches: Path) -> None:
    """It is there to save time."""
    caches.write_text("a file")

    manifests.remember("w", b"1")

    assert manifests.remembered("w") is None


def built(engine: FakeEngine, folder: Path) -> str:
    """Return the image of a workspace."""
    with DockerWorkspaceMixin(engine, terminal=False) as mixin:
        role = Role("a", IMAGE, entrypoint="true")
        return mixin.build_workspace_and_update_role(role, str(folder), {}).image


def content(engine: FakeEngine, image: str, path: str) -> bytes:
    """Return a file of an image."""
    held = engine.images.prepare(image, "look", {})
    try:
        return engine.read_file(held, path, 1 << 20)
    finally:
        engine.remove(held)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a workspace of a small and a larger file."""
    folder = tmp_path / "code"
    folder.mkdir()
    folder.joinpath("data.bin").write_bytes(bytes(1000))
    folder.joinpath("train.py").write_text("1")
    return folder


def test_what_is_remembered_need_not_be_read(fake: FakeEngine, folder: Path) -> None:
    """The next image is made without a look into the last one."""
    built(fake, folder)
    folder.joinpath("train.py").write_text("2")
    fake.fail_next("read_file", EngineError("a look into an image"))

    image = built(fake, folder)

    with pytest.raises(EngineError, match="a look"):
        content(fake, image, "/workspace/train.py")
    assert b"2" == content(fake, image, "/workspace/train.py")


@pytest.mark.parametrize("is_nonsense", [True, False])
def test_it_is_believed_only_if_it_is_the_image_s(
    fake: FakeEngine, folder: Path, caches: Path, *, is_nonsense: bool
) -> None:
    """Else a file that has changed would be missing in the next image."""
    folder.joinpath("train.py").write_text("2")
    built(FakeEngine(images=[IMAGE]), folder)
    (file,) = (path for path in caches.rglob("*") if path.is_file())
    of_what_comes_next = file.read_bytes()
    folder.joinpath("train.py").write_text("1")
    built(fake, folder)
    file.write_bytes(b"nonsense" if is_nonsense else of_what_comes_next)
    folder.joinpath("train.py").write_text("2")

    image = built(fake, folder)

    assert b"2" == content(fake, image, "/workspace/train.py")
