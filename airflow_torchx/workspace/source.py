"""The sources of a workspace: local paths, inline text, and remote storage, which is downloaded."""

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
from airflow_torchx.workspace.tree import DOCKERFILE, Project, resolved

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from fsspec import AbstractFileSystem  # type: ignore[import-untyped] # ships no types

    _Info = Mapping[str, Any]

_log = logging.getLogger(__name__)

_LOCAL: Final = ("file://", "local://")
# For storages without file modes: the same on each host, regardless of the umask.
_FILE_MODE: Final = 0o644
_FOLDER_MODE: Final = 0o755


def find_filesystem(url: str) -> tuple[AbstractFileSystem, str]:
    """Return fsspec's file system for a URL, and the path in it."""
    from fsspec.core import url_to_fs  # type: ignore[import-untyped] # ships no types

    found: tuple[AbstractFileSystem, str] = url_to_fs(url)
    return found


@contextlib.contextmanager
def downloaded(
    parts: Sequence[tuple[str, str]],
    *,
    relative_to: Path,
    max_bytes: int,
    filesystem: Callable[[str], tuple[AbstractFileSystem, str]] = find_filesystem,
) -> Iterator[tuple[Project, ...]]:
    """Download the remote sources of a workspace, and delete the copies on exit.

    Files that a source's ``.dockerignore`` ignores are not downloaded. Local paths are not checked.
    The parts are pairs of source and target. ``max_bytes`` limits each remote source.

    Raises:
        WorkspaceError: a source cannot be read, or is too large; the message has no password.
    """
    with contextlib.ExitStack() as stack:
        projects = []
        for source, target in parts:
            if is_inline(source):
                folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="torchx-"))
                root = _write_inline(source, Path(folder))
            elif is_url(source) and not source.startswith(_LOCAL):
                folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="torchx-"))
                with _fetch_errors(source):
                    storage, path = filesystem(source)
                    remote = _Storage(storage, path.rstrip("/"), shown(source))
                    root = remote.fetch(Path(folder), max_bytes)
            else:
                root = relative_to / _local_path(source)
            projects.append(Project(root, target))
        yield tuple(projects)


def _write_inline(source: str, folder: Path) -> Path:
    """Write an inline source to a file, and return its path."""
    file = folder / "text"
    file.write_bytes(inline_text(source))
    file.chmod(_FILE_MODE)
    return file


def check_local(parts: Sequence[tuple[str, str]], relative_to: Path) -> None:
    """Check that the local parts of a workspace exist; they are pairs of source and target.

    Raises:
        WorkspaceError: one does not exist, or cannot be read.
    """
    for source, _ in parts:
        if not is_inline(source) and (not is_url(source) or source.startswith(_LOCAL)):
            resolved(relative_to / _local_path(source))


def _local_path(source: str) -> Path:
    for scheme in _LOCAL:
        source = source.removeprefix(scheme)
    try:
        return Path(source).expanduser()
    except RuntimeError as error:
        what = f"workspace {source!r} does not exist: there is no such home folder."
        raise WorkspaceError(what, fix="Correct the path.") from error


@contextlib.contextmanager
def _fetch_errors(source: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, ImportError) as error:
        # The error may quote the URL, so if that contains a secret, report only the type.
        is_open = shown(source) == source
        reason = f"{type(error).__name__}: {error}" if is_open else type(error).__name__
        what = f"workspace {shown(source)!r} cannot be fetched: {reason}."
        fix = "Check the URL, its credentials, and that fsspec's package for it is installed."
        raise WorkspaceError(what, fix=fix) from (error if is_open else None)


@dataclass(frozen=True, slots=True)
class _Storage:
    """A path in a storage, without a trailing slash; ``name`` is for messages."""

    filesystem: AbstractFileSystem
    root: str
    name: str

    def fetch(self, folder: Path, max_bytes: int) -> Path:
        """Download the path, and return the local copy."""
        # Listings are cached per process and may be outdated.
        self.filesystem.invalidate_cache()
        if not self.filesystem.exists(self.root):
            what = f"workspace {self.name!r} does not exist."
            raise WorkspaceError(what, fix="Correct the URL, or upload the folder.")
        if self.filesystem.isfile(self.root):
            name = self.root.rpartition("/")[2]
            self._get({name: self.filesystem.info(self.root)}, folder, max_bytes)
            return folder / name
        self._get(self._list(), folder, max_bytes)
        return folder

    def _list(self) -> dict[str, _Info]:
        """Return the contents of the path that are not ignored, by relative path."""
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
            if path in {IGNORE_FILE, DOCKERFILE} or not ignore.ignores(path)
        }

    def _get(self, found: dict[str, _Info], folder: Path, max_bytes: int) -> None:
        """Download files and create folders, by relative path."""
        entries = [_entry(path, info) for path, info in found.items() if _is_supported(path, info)]
        if problem := guard(entries, max_bytes):
            raise WorkspaceError(f"workspace {self.name!r}: {problem}")
        files = [entry for entry in entries if entry.kind == "file"]
        # Some storages have no folders, and ignored folders may contain kept files.
        above = (path for entry in files for path in PurePosixPath(entry.path).parents[:-1])
        modes = {str(path): _FOLDER_MODE for path in above}
        modes |= {entry.path: entry.mode for entry in entries if entry.kind == "dir"}
        for path in modes:
            (folder / path).mkdir(parents=True, exist_ok=True)
        # One call for all files, because some storages download them concurrently.
        self.filesystem.get(
            [found[entry.path]["name"] for entry in files],
            [str(folder / entry.path) for entry in files],
        )
        for path, mode in (modes | {entry.path: entry.mode for entry in files}).items():
            (folder / path).chmod(mode)


def _is_supported(path: str, info: _Info) -> bool:
    if ".." in path.split("/"):
        what = f"{path!r} in the storage is outside the workspace."
        raise WorkspaceError(what, fix="Remove it from the storage.")
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
