"""Where the parts of a workspace lie: on this host, or in a storage that they are fetched from."""

from __future__ import annotations

import contextlib
import logging
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from airflow_torchx.core.workspace.source import inline_text, is_inline, is_url, shown
from airflow_torchx.core.workspace.tree import Entry, guard
from airflow_torchx.errors import WorkspaceError
from airflow_torchx.workspace.dockerignore import IGNORE_FILE, Ignore
from airflow_torchx.workspace.tree import DOCKERFILE, Project

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from fsspec import AbstractFileSystem  # type: ignore[import-untyped] # ships no types

    _Info = Mapping[str, Any]

_log = logging.getLogger(__name__)

_LOCAL: Final = ("file://", "local://")
# A storage that knows no modes gets the same ones on every host, whatever its umask is.
_FILE_MODE: Final = 0o644
_FOLDER_MODE: Final = 0o755


def find_filesystem(url: str) -> tuple[AbstractFileSystem, str]:
    """Return fsspec's file system of a URL, and the path in it."""
    from fsspec.core import url_to_fs  # type: ignore[import-untyped] # ships no types

    found: tuple[AbstractFileSystem, str] = url_to_fs(url)
    return found


@contextlib.contextmanager
def opened(
    parts: Sequence[tuple[str, str]],
    *,
    relative_to: Path,
    max_bytes: int,
    filesystem: Callable[[str], tuple[AbstractFileSystem, str]] = find_filesystem,
) -> Iterator[tuple[Project, ...]]:
    """Bring the parts of a workspace to this host; what was fetched is gone afterwards.

    Of a storage only those files are fetched that its ``.dockerignore`` keeps. Local paths are not
    looked at.

    Args:
        parts: sources and targets.
        relative_to: the folder that relative paths start at.
        max_bytes: the most that one part may have, in bytes, to be fetched.
        filesystem: finds the storage of a URL, and the path in it.

    Raises:
        WorkspaceError: a source cannot be read, or is too large. Its message has no password.
    """
    with contextlib.ExitStack() as stack:
        projects = []
        for source, target in parts:
            if is_inline(source):
                folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="torchx-"))
                root = _written(source, Path(folder))
            elif is_url(source) and not source.startswith(_LOCAL):
                folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="torchx-"))
                with _told(source):
                    storage, path = filesystem(source)
                    there = _Storage(storage, path.rstrip("/"), shown(source))
                    root = there.fetch(Path(folder), max_bytes)
            else:
                root = relative_to / _local_path(source)
            projects.append(Project(root, target))
        yield tuple(projects)


def _written(source: str, folder: Path) -> Path:
    """Write the text that a source is into a file, and return its path."""
    file = folder / "text"
    file.write_bytes(inline_text(source))
    file.chmod(_FILE_MODE)
    return file


def _local_path(source: str) -> Path:
    for scheme in _LOCAL:
        source = source.removeprefix(scheme)
    try:
        return Path(source).expanduser()
    except RuntimeError as why:
        what = f"workspace {source!r} does not exist: there is no such home folder."
        raise WorkspaceError(what, fix="Correct the path.") from why


@contextlib.contextmanager
def _told(source: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, ImportError) as why:
        # What a storage says may quote the whole URL, so with a secret in it only the type is told.
        is_open = shown(source) == source
        reason = f"{type(why).__name__}: {why}" if is_open else type(why).__name__
        what = f"workspace {shown(source)!r} cannot be fetched: {reason}."
        fix = "Check the URL, its credentials, and that fsspec's package for it is installed."
        raise WorkspaceError(what, fix=fix) from (why if is_open else None)


@dataclass(frozen=True, slots=True)
class _Storage:
    """A path in a storage.

    Args:
        filesystem: the storage.
        root: the path, without a slash at its end.
        name: what messages call it.
    """

    filesystem: AbstractFileSystem
    root: str
    name: str

    def fetch(self, folder: Path, max_bytes: int) -> Path:
        """Fetch what the path holds, and return where it lies now."""
        # Whatever this process listed earlier may be out of date.
        self.filesystem.invalidate_cache()
        if not self.filesystem.exists(self.root):
            what = f"workspace {self.name!r} does not exist."
            raise WorkspaceError(what, fix="Correct the URL, or upload the folder.")
        if self.filesystem.isfile(self.root):
            name = self.root.rpartition("/")[2]
            self._get({name: self.filesystem.info(self.root)}, folder, max_bytes)
            return folder / name
        self._get(self._kept(), folder, max_bytes)
        return folder

    def _kept(self) -> dict[str, _Info]:
        """Return what is below the path and not dropped, by its path there."""
        found = self.filesystem.find(self.root, withdirs=True, detail=True).items()
        below = {path.removeprefix(self.root).strip("/"): info for path, info in found}
        below.pop("", None)
        if IGNORE_FILE not in below:
            return below
        text = self.filesystem.cat_file(below[IGNORE_FILE]["name"])
        ignore = Ignore(text, repr(f"{self.name}/{IGNORE_FILE}"))
        return {
            path: info
            for path, info in below.items()
            if path in {IGNORE_FILE, DOCKERFILE} or not ignore.drops(path)
        }

    def _get(self, found: dict[str, _Info], folder: Path, max_bytes: int) -> None:
        """Fetch files and make folders.

        Args:
            found: path to what the storage says of it.
            folder: where they go.
            max_bytes: the most that they may have together.
        """
        entries = [_entry(path, info) for path, info in found.items() if _is_known(path, info)]
        if problem := guard(entries, max_bytes):
            raise WorkspaceError(f"workspace {self.name!r}: {problem}")
        files = [entry for entry in entries if entry.kind == "file"]
        # Not every storage has folders, and one that is dropped may hold what is not.
        modes = {str(above): _FOLDER_MODE for entry in files for above in _above(entry.path)}
        modes |= {entry.path: entry.mode for entry in entries if entry.kind == "dir"}
        for path in modes:
            (folder / path).mkdir(parents=True, exist_ok=True)
        # In one call: some storages fetch many files at a time.
        self.filesystem.get(
            [found[entry.path]["name"] for entry in files],
            [str(folder / entry.path) for entry in files],
        )
        for path, mode in (modes | {entry.path: entry.mode for entry in files}).items():
            (folder / path).chmod(mode)


def _above(path: str) -> Sequence[PurePosixPath]:
    return PurePosixPath(path).parents[:-1]


def _is_known(path: str, info: _Info) -> bool:
    if ".." in path.split("/"):
        what = f"{path!r} in the storage lies outside of the workspace."
        raise WorkspaceError(what, fix="Remove it there.")
    if info["type"] not in {"file", "directory"}:
        _log.warning("%r is a %s and is left out of the workspace", path, info["type"])
        return False
    return True


def _entry(path: str, info: _Info) -> Entry:
    mode = stat.S_IMODE(info.get("mode") or 0)
    if info["type"] == "directory":
        return Entry(path=path, kind="dir", mode=mode | stat.S_IRWXU if mode else _FOLDER_MODE)
    return Entry(
        path=path,
        kind="file",
        mode=mode | stat.S_IRUSR if mode else _FILE_MODE,
        size_bytes=int(info.get("size") or 0),
    )
