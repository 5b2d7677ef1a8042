"""Bringing the parts of a workspace to this host."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import pytest
from fsspec.implementations.local import LocalFileSystem  # type: ignore[import-untyped]
from fsspec.implementations.memory import MemoryFileSystem  # type: ignore[import-untyped]

from airflow_torchx.errors import WorkspaceError
from airflow_torchx.workspace.source import find_filesystem, opened
from airflow_torchx.workspace.tree import Project, read_tree

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB: Final = 1 << 20


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MemoryFileSystem]:
    """Return an empty storage; what is fetched goes below the folder of the test."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    storage = MemoryFileSystem(skip_instance_cache=True)
    storage.store.clear()
    storage.pseudo_dirs[:] = [""]
    yield storage
    storage.store.clear()
    storage.pseudo_dirs[:] = [""]


def fetched(source: str, **options: Any) -> dict[str, tuple[int, bytes | None]]:  # noqa: ANN401
    """Return mode and content of what a part brings."""
    options = {"relative_to": Path("/"), "max_bytes": MIB, **options}
    with opened([(source, "")], **options) as projects:
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
    """Relative ones start where the caller says; nothing is looked at."""
    with opened([(source, "x")], relative_to=Path("/dags"), max_bytes=0) as projects:
        assert (Project(Path(expected), "x"),) == projects


def test_a_home_that_nobody_has(tmp_path: Path) -> None:
    """A user name that this host does not know."""
    source = "~nobody-has-this-name/src"
    with (
        pytest.raises(WorkspaceError, match="does not exist: there is no such home folder"),
        opened([(source, "")], relative_to=tmp_path, max_bytes=1),
    ):
        pass


def test_fetched_folder(memory: MemoryFileSystem, tmp_path: Path) -> None:
    """Files and folders, with modes that no umask changes, gone afterwards."""
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


def test_a_text_is_a_file(tmp_path: Path, memory: MemoryFileSystem) -> None:
    """Of the name that it is mapped to, with a mode that no umask changes, gone afterwards."""
    assert not memory.store
    parts = [("data:,a%20%C3%BC", "in/a.txt"), ("data:,b", "in/b.txt")]
    before = os.umask(0o077)
    try:
        with opened(parts, relative_to=Path("/"), max_bytes=0) as projects:
            tree = read_tree(projects, should_stop=lambda: False)
    finally:
        os.umask(before)

    assert [("in", 0, 0o755), ("in/a.txt", 4, 0o644), ("in/b.txt", 1, 0o644)] == [
        (entry.path, entry.size_bytes, entry.mode) for entry in tree.entries
    ]
    assert [] == list(tmp_path.iterdir())


def test_dropped_files_are_not_fetched(memory: MemoryFileSystem) -> None:
    """Nor counted; the rules and the Dockerfile are needed in any case."""
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


def test_fetched_parts_are_read_like_local_ones(memory: MemoryFileSystem, tmp_path: Path) -> None:
    """Several of them, in their order, next to local ones."""
    memory.pipe({"/ws/a": b"1", "/ws/b": b"1", "/ws/.dockerignore": b".dockerignore", "/one": b"2"})
    (tmp_path / "local").mkdir()
    (tmp_path / "local/b").write_text("3")
    parts = [("memory://ws", ""), ("memory://one", "sub/two"), ("local", "")]

    with opened(parts, relative_to=tmp_path, max_bytes=MIB) as projects:
        tree = read_tree(projects, should_stop=lambda: False)

        assert {"a": b"1", "b": b"3", "sub/two": b"2"} == {
            e.path: Path(e.source).read_bytes() for e in tree.entries if e.kind == "file"
        }


def test_modes_of_a_storage_that_has_them(tmp_path: Path) -> None:
    """They are kept, and a link there is left out."""
    (tmp_path / "ws").mkdir(mode=0o750)
    (tmp_path / "ws/run").write_text("x")
    (tmp_path / "ws/run").chmod(0o750)
    (tmp_path / "ws/none").symlink_to("nowhere")

    found = fetched("nas://ws", filesystem=lambda _: (LocalFileSystem(), str(tmp_path / "ws")))

    assert {"run": (0o750, b"x")} == found


@pytest.mark.parametrize("folder", ["", "src", "src/"])
def test_archives(tmp_path: Path, folder: str) -> None:
    """A URL may lead through an archive, to its root as well."""
    with zipfile.ZipFile(tmp_path / "ws.zip", "w") as archive:
        archive.writestr("src/a/b", "x")

    found = fetched(f"zip://{folder}::file://{tmp_path}/ws.zip")

    assert [b"x"] == [content for _, content in found.values() if content is not None]
    assert {"a/b": 0o644} == {
        path.removeprefix("src/"): mode for path, (mode, content) in found.items() if content
    }


def test_too_large(memory: MemoryFileSystem, tmp_path: Path) -> None:
    """Nothing is fetched, and the largest are named."""
    memory.pipe({"/ws/big": bytes(2 * MIB), "/ws/small": b"x"})

    with pytest.raises(WorkspaceError, match=r"(?s)memory://ws': .*2\.0 MiB 'big'.*\n  /big"):
        fetched("memory://ws")

    assert [] == list(tmp_path.iterdir())


def test_errors_leave_nothing(memory: MemoryFileSystem, tmp_path: Path) -> None:
    """Neither those of a later part nor those of whoever reads the workspace."""
    memory.pipe({"/ws/a": b"1"})
    parts = [("memory://ws", ""), ("memory://nowhere", "")]

    with (
        pytest.raises(WorkspaceError, match="'memory://nowhere' does not exist"),
        opened(parts, relative_to=tmp_path, max_bytes=MIB),
    ):
        pytest.fail("it must not open")
    with (
        pytest.raises(KeyError),
        opened(parts[:1], relative_to=tmp_path, max_bytes=MIB) as projects,
    ):
        raise KeyError(projects)

    assert [] == list(tmp_path.iterdir())


def test_a_listing_that_leads_out(memory: MemoryFileSystem, tmp_path: Path) -> None:
    """A name in a storage may be anything; it is not believed."""
    memory.store["/ws/../../evil"] = memory.open("/x", "wb")

    with pytest.raises(WorkspaceError, match=r"'\.\..*' in the storage lies outside"):
        fetched("memory://ws", filesystem=lambda _: (memory, "/ws"))

    assert [] == list(tmp_path.iterdir())


class Remembering(MemoryFileSystem):  # type: ignore[misc] # of a library without types
    """A storage that lists once, as those of clouds do."""

    def find(self, path: str, **options: Any) -> Any:  # noqa: ANN401
        """Return what it returned the first time."""
        if path not in self.dircache:
            self.dircache[path] = super().find(path, **options)
        return self.dircache[path]

    def invalidate_cache(self, path: str | None = None) -> None:
        """Forget all of it."""
        self.dircache.clear()
        super().invalidate_cache(path)


def test_a_listing_is_never_an_old_one(memory: MemoryFileSystem) -> None:
    """What another task of this process has listed does not count."""
    storage = Remembering(skip_instance_cache=True)
    memory.pipe({"/ws/old": b""})
    storage.find("/ws", withdirs=True, detail=True)
    memory.pipe({"/ws/new": b""})

    assert {"old", "new"} == set(fetched("s3://ws", filesystem=lambda _: (storage, "/ws")))


@pytest.mark.parametrize(("source", "is_told"), [("s3://b/x", True), ("s3://k:pass@b/x", False)])
def test_what_a_storage_says(source: str, is_told: bool) -> None:
    """Its words are told unless the URL has a secret, for they may quote it."""

    def refuse(url: str) -> NoReturn:
        raise PermissionError(url)

    with pytest.raises(WorkspaceError, match=r"'s3://b/x' cannot be fetched: Perm") as caught:
        fetched(source, filesystem=refuse)

    assert is_told == ("PermissionError: s3://b/x" in str(caught.value))
    assert is_told == isinstance(caught.value.__cause__, PermissionError)
    assert "pass" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("nope://me/x", "'nope://me/x' cannot be fetched: ValueError: Protocol not known"),
        ("nope://me:secret@h/x?t=secret", "'nope://h/x' cannot be fetched: ValueError."),
    ],
)
def test_unknown_schemes(source: str, reason: str) -> None:
    """Named, and without what is secret in the URL, also in the errors that led to it."""
    with pytest.raises(WorkspaceError, match=reason) as caught:
        fetched(source)

    assert "secret" not in f"{caught.value} {caught.value.__cause__}"
    assert "fsspec" in caught.value.fix


def test_the_path_in_a_storage() -> None:
    """It is fsspec that knows it."""
    storage, path = find_filesystem("memory://a/b")

    assert ("/a/b", MemoryFileSystem) == (path, type(storage))
