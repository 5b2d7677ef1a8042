"""Downloading the sources of a workspace."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import pytest
from fsspec.implementations.local import LocalFileSystem  # type: ignore[import-untyped]
from fsspec.implementations.memory import MemoryFileSystem  # type: ignore[import-untyped]

from airflow_torchx.errors import WorkspaceError
from airflow_torchx.workspace.source import downloaded, find_filesystem
from airflow_torchx.workspace.tree import Project, read_tree

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB: Final = 1 << 20


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MemoryFileSystem]:
    """Return an empty storage; copies go to the folder of the test."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    storage = MemoryFileSystem(skip_instance_cache=True)
    storage.store.clear()
    storage.pseudo_dirs[:] = [""]
    yield storage
    storage.store.clear()
    storage.pseudo_dirs[:] = [""]


def fetched(source: str, **options: Any) -> dict[str, tuple[int, bytes | None]]:  # noqa: ANN401
    """Return mode and content of each path of a source."""
    options = {"relative_to": Path("/"), "max_bytes": MIB, **options}
    with downloaded([(source, "")], **options) as projects:
        return {
            str(path.relative_to(projects[0].root)): (
                path.stat().st_mode & 0o7777,
                path.read_bytes() if path.is_file() else None,
            )
            for path in projects[0].root.rglob("*")
        }


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("src", "/dags/src"),
        ("../src", "/dags/../src"),
        ("/abs", "/abs"),
        ("file:///abs/x", "/abs/x"),
        ("local:///abs", "/abs"),
        ("file://src", "/dags/src"),
        ("~/src", f"{Path.home()}/src"),
    ],
)
def test_local_paths(source: str, expected: str) -> None:
    """Relative paths start at the given folder, and are not checked."""
    with downloaded([(source, "x")], relative_to=Path("/dags"), max_bytes=0) as projects:
        assert (Project(Path(expected), "x"),) == projects


def test_unknown_home(tmp_path: Path) -> None:
    """A path in the home folder of an unknown user raises an error."""
    source = "~nobody-has-this-name/src"
    with (
        pytest.raises(WorkspaceError, match="does not exist: there is no such home folder"),
        downloaded([(source, "")], relative_to=tmp_path, max_bytes=1),
    ):
        pass


def test_fetched_folder(memory: MemoryFileSystem, tmp_path: Path) -> None:
    """A downloaded folder has fixed modes, regardless of the umask, and is deleted afterwards."""
    memory.pipe({"/ws/a.py": b"a", "/ws/sub/deep/b.py": b"b", "/other": b""})
    memory.makedirs("/ws/empty")
    before = os.umask(0o077)
    try:
        found = fetched("memory://ws/")
    finally:
        os.umask(before)

    assert {
        "a.py": (0o644, b"a"),
        "sub": (0o755, None),
        "sub/deep": (0o755, None),
        "sub/deep/b.py": (0o644, b"b"),
        "empty": (0o755, None),
    } == found
    assert [] == list(tmp_path.iterdir())


def test_inline_text(tmp_path: Path, memory: MemoryFileSystem) -> None:
    """An inline text becomes a file at its target, with a fixed mode, and is deleted afterwards."""
    assert not memory.store
    parts = [("data:,a%20%C3%BC", "in/a.txt"), ("data:,b", "in/b.txt")]
    before = os.umask(0o077)
    try:
        with downloaded(parts, relative_to=Path("/"), max_bytes=0) as projects:
            tree = read_tree(projects, should_stop=lambda: False)
    finally:
        os.umask(before)

    assert [("in", 0, 0o755), ("in/a.txt", 4, 0o644), ("in/b.txt", 1, 0o644)] == [
        (entry.path, entry.size_bytes, entry.mode) for entry in tree.entries
    ]
    assert [] == list(tmp_path.iterdir())


def test_ignored_files_are_not_downloaded(memory: MemoryFileSystem) -> None:
    """Ignored files are not downloaded or counted, except the Dockerfile and .dockerignore."""
    memory.pipe(
        {
            "/ws/big": bytes(2 * MIB),
            "/ws/data/big": bytes(2 * MIB),
            "/ws/data/keep": b"k",
            "/ws/Dockerfile.torchx": b"FROM x",
            "/ws/.dockerignore": b"**\n!data/keep",
        }
    )

    found = fetched("memory://ws")

    assert {".dockerignore", "Dockerfile.torchx", "data", "data/keep"} == set(found)
    assert (0o755, None) == found["data"]


def test_mixed_parts(memory: MemoryFileSystem, tmp_path: Path) -> None:
    """Downloaded and local parts are merged in their order."""
    memory.pipe({"/ws/a": b"1", "/ws/b": b"1", "/ws/.dockerignore": b".dockerignore", "/one": b"2"})
    (tmp_path / "local").mkdir()
    (tmp_path / "local/b").write_text("3")
    parts = [("memory://ws", ""), ("memory://one", "sub/two"), ("local", "")]

    with downloaded(parts, relative_to=tmp_path, max_bytes=MIB) as projects:
        tree = read_tree(projects, should_stop=lambda: False)

        assert {"a": b"1", "b": b"3", "sub/two": b"2"} == {
            e.path: Path(e.source).read_bytes() for e in tree.entries if e.kind == "file"
        }


def test_modes_of_a_storage(tmp_path: Path) -> None:
    """Modes of a storage that has them are kept, and links are skipped."""
    (tmp_path / "ws").mkdir(mode=0o750)
    (tmp_path / "ws/run").write_text("x")
    (tmp_path / "ws/run").chmod(0o750)
    (tmp_path / "ws/none").symlink_to("nowhere")

    found = fetched("nas://ws", filesystem=lambda _: (LocalFileSystem(), str(tmp_path / "ws")))

    assert {"run": (0o750, b"x")} == found


@pytest.mark.parametrize("folder", ["", "src", "src/"])
def test_archives(tmp_path: Path, folder: str) -> None:
    """A URL can name an archive, or a path in it."""
    with zipfile.ZipFile(tmp_path / "ws.zip", "w") as archive:
        archive.writestr("src/a/b", "x")

    found = fetched(f"zip://{folder}::file://{tmp_path}/ws.zip")

    assert [b"x"] == [content for _, content in found.values() if content is not None]
    assert {"a/b": 0o644} == {
        path.removeprefix("src/"): mode for path, (mode, content) in found.items() if content
    }


def test_too_large(memory: MemoryFileSystem, tmp_path: Path) -> None:
    """A source above the size limit is not downloaded, and the error names its largest paths."""
    memory.pipe({"/ws/big": bytes(2 * MIB), "/ws/small": b"x"})

    with pytest.raises(WorkspaceError, match=r"(?s)memory://ws': .*2\.0 MiB 'big'.*\n  /big"):
        fetched("memory://ws")

    assert [] == list(tmp_path.iterdir())


def test_errors_leave_nothing(memory: MemoryFileSystem, tmp_path: Path) -> None:
    """Copies are deleted after an error of a later part or of the caller."""
    memory.pipe({"/ws/a": b"1"})
    parts = [("memory://ws", ""), ("memory://nowhere", "")]

    with (
        pytest.raises(WorkspaceError, match="'memory://nowhere' does not exist"),
        downloaded(parts, relative_to=tmp_path, max_bytes=MIB),
    ):
        pytest.fail("it must not open")
    with (
        pytest.raises(KeyError),
        downloaded(parts[:1], relative_to=tmp_path, max_bytes=MIB) as projects,
    ):
        raise KeyError(projects)

    assert [] == list(tmp_path.iterdir())


def test_path_outside_the_workspace(memory: MemoryFileSystem, tmp_path: Path) -> None:
    """A storage path that leads out of the workspace raises an error."""
    memory.store["/ws/../../evil"] = memory.open("/x", "wb")

    with pytest.raises(WorkspaceError, match=r"'\.\..*' in the storage is outside"):
        fetched("memory://ws", filesystem=lambda _: (memory, "/ws"))

    assert [] == list(tmp_path.iterdir())


class CachingFileSystem(MemoryFileSystem):  # type: ignore[misc] # of a library without types
    """A storage that caches listings, as cloud storages do."""

    def find(self, path: str, **options: Any) -> Any:  # noqa: ANN401
        """Return the cached listing."""
        if path not in self.dircache:
            self.dircache[path] = super().find(path, **options)
        return self.dircache[path]

    def invalidate_cache(self, path: str | None = None) -> None:
        """Clear the cache."""
        self.dircache.clear()
        super().invalidate_cache(path)


def test_listing_is_not_cached(memory: MemoryFileSystem) -> None:
    """A listing cached by another task of this process is not used."""
    storage = CachingFileSystem(skip_instance_cache=True)
    memory.pipe({"/ws/old": b""})
    storage.find("/ws", withdirs=True, detail=True)
    memory.pipe({"/ws/new": b""})

    assert {"old", "new"} == set(fetched("s3://ws", filesystem=lambda _: (storage, "/ws")))


@pytest.mark.parametrize(("source", "is_quoted"), [("s3://b/x", True), ("s3://k:pass@b/x", False)])
def test_storage_errors(source: str, is_quoted: bool) -> None:
    """The error of a storage is quoted unless the URL has a secret."""

    def refuse(url: str) -> NoReturn:
        raise PermissionError(url)

    with pytest.raises(WorkspaceError, match=r"'s3://b/x' cannot be fetched: Perm") as caught:
        fetched(source, filesystem=refuse)

    assert is_quoted == ("PermissionError: s3://b/x" in str(caught.value))
    assert is_quoted == isinstance(caught.value.__cause__, PermissionError)
    assert "pass" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("nope://me/x", "'nope://me/x' cannot be fetched: ValueError: Protocol not known"),
        ("nope://me:secret@h/x?t=secret", "'nope://h/x' cannot be fetched: ValueError."),
    ],
)
def test_unknown_schemes(source: str, reason: str) -> None:
    """The error of an unknown scheme and its causes do not quote secrets of the URL."""
    with pytest.raises(WorkspaceError, match=reason) as caught:
        fetched(source)

    assert "secret" not in f"{caught.value} {caught.value.__cause__}"
    assert "fsspec" in caught.value.fix


def test_find_filesystem() -> None:
    """Fsspec resolves a URL to a file system and a path."""
    storage, path = find_filesystem("memory://a/b")

    assert ("/a/b", MemoryFileSystem) == (path, type(storage))
