"""The cache of the manifests of workspace images."""

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
    """Return an empty cache folder for this test."""
    folder = tmp_path / "caches"
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


@pytest.fixture
def fake() -> FakeEngine:
    """Return a fake engine with the base image."""
    return FakeEngine(images=[IMAGE])


def test_last_manifest_is_cached(caches: Path) -> None:
    """The last manifest of each workspace is cached, readable by its user only."""
    manifests.save("w", b"1")
    manifests.save("w", b"2")

    (file,) = caches.rglob("w")
    assert b"2" == manifests.load("w")
    assert manifests.load("v") is None
    assert 0 == file.stat().st_mode & 0o077


def test_old_manifests_are_deleted(caches: Path) -> None:
    """The oldest manifests are deleted, because temporary workspaces would fill the cache."""
    for number in range(103):
        manifests.save(f"w{number}", b"1")

    assert 100 == sum(path.is_file() for path in caches.rglob("*"))
    assert manifests.load("w0") is None
    assert b"1" == manifests.load("w102")


def test_cache_is_optional(caches: Path) -> None:
    """A cache folder that cannot be used is not an error."""
    caches.write_text("a file")

    manifests.save("w", b"1")

    assert manifests.load("w") is None


def built(engine: FakeEngine, folder: Path) -> str:
    """Build the image of a workspace and return its name."""
    with DockerWorkspaceMixin(engine, terminal=False) as mixin:
        role = Role("a", IMAGE, entrypoint="true")
        return mixin.build_workspace_and_update_role(role, str(folder), {}).image


def content(engine: FakeEngine, image: str, path: str) -> bytes:
    """Return the content of a file in an image."""
    container = engine.images.prepare(image, "look", {})
    try:
        return engine.read_file(container, path, 1 << 20)
    finally:
        engine.remove(container)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a workspace with a small and a larger file."""
    folder = tmp_path / "code"
    folder.mkdir()
    folder.joinpath("data.bin").write_bytes(bytes(1000))
    folder.joinpath("train.py").write_text("1")
    return folder


def test_cached_manifest_saves_a_read(fake: FakeEngine, folder: Path) -> None:
    """With a cached manifest, the next image is built without reading the last one."""
    built(fake, folder)
    folder.joinpath("train.py").write_text("2")
    fake.fail_next("read_file", EngineError("a look into an image"))

    image = built(fake, folder)

    with pytest.raises(EngineError, match="a look"):
        content(fake, image, "/workspace/train.py")
    assert b"2" == content(fake, image, "/workspace/train.py")


@pytest.mark.parametrize("is_nonsense", [True, False])
def test_wrong_manifest_is_ignored(
    fake: FakeEngine, folder: Path, caches: Path, *, is_nonsense: bool
) -> None:
    """A cached manifest of another image is ignored, so that no changed file is missed."""
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
