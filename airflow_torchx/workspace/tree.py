"""The files of a workspace: listed, merged, and hashed."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from airflow_torchx.core.workspace.tree import Entry
from airflow_torchx.errors import WorkspaceError
from airflow_torchx.workspace.content import digests, unreadable, whole
from airflow_torchx.workspace.dockerignore import IGNORE_FILE, Ignore

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

#: The Dockerfile of a workspace that brings its own, in its root.
DOCKERFILE: Final = "Dockerfile.torchx"

_FOLDER_MODE: Final = 0o755
_SPECIAL: Final = {
    stat.S_IFSOCK: "socket",
    stat.S_IFIFO: "FIFO",
    stat.S_IFBLK: "device",
    stat.S_IFCHR: "device",
}


@dataclass(frozen=True, slots=True)
class Project:
    """One part of a workspace.

    Args:
        root: its folder on this host, or a single file.
        target: the folder in the workspace that it lies in; empty for the workspace itself. A file
            that finds no such folder gets this name.
    """

    root: Path
    target: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tree:
    """What a workspace consists of.

    Args:
        entries: its files, folders and links, sorted by path.
        warnings: what was left out, and why.
        dockerfile: content of its ``Dockerfile.torchx``, also where ``.dockerignore`` drops that.
    """

    entries: tuple[Entry, ...]
    warnings: tuple[str, ...] = ()
    dockerfile: bytes | None = None


def read_tree(projects: Sequence[Project], *, should_stop: Callable[[], bool]) -> Tree:
    """Read a workspace: `list_tree`, then `hash_tree`."""
    return hash_tree(list_tree(projects), should_stop=should_stop)


def list_tree(projects: Sequence[Project]) -> Tree:
    """List a workspace without reading its files: digests of files are still empty.

    Of two parts that have a path in common the later one's file wins; folders merge. The
    ``.dockerignore`` of a part rules that part only. Links are never followed, except where the
    root of a part is one.

    Raises:
        WorkspaceError: a part does not exist or cannot be read, or nothing is left to run.
    """
    merger = _Merger()
    for project in projects:
        merger.add(project, is_sole=len(projects) == 1)
    if not merger.entries and merger.dockerfile is None:
        roots = ", ".join(repr(str(project.root)) for project in projects)
        what = f"workspace {roots} has no files, or its {IGNORE_FILE} drops all of them."
        raise WorkspaceError(what, fix="Name the folder that holds the code, or keep some of it.")
    return Tree(
        entries=tuple(merger.entries[path] for path in sorted(merger.entries)),
        warnings=tuple(merger.warnings),
        dockerfile=merger.dockerfile,
    )


def hash_tree(tree: Tree, *, should_stop: Callable[[], bool]) -> Tree:
    """Return the same tree with the digests of its files.

    Raises:
        WorkspaceError: a file cannot be read, or its size is no longer the listed one.
        StopRequested: ``should_stop`` returned True; it is asked ten times a second.
    """
    files = [entry for entry in tree.entries if entry.kind == "file"]
    found = iter(digests(files, should_stop=should_stop))
    entries = tuple(
        replace(entry, digest=next(found)) if entry.kind == "file" else entry
        for entry in tree.entries
    )
    return replace(tree, entries=entries)


class _Merger:
    """Takes one part after the other."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.warnings: list[str] = []
        self.dockerfile: bytes | None = None

    def add(self, project: Project, *, is_sole: bool) -> None:
        root, status = _resolved(project.root)
        mode = status.st_mode
        if stat.S_ISDIR(mode):
            walk = _Walk(root, f"{project.target}/" if project.target else "")
            if project.target:
                self._put(Entry(path=project.target, kind="dir", mode=stat.S_IMODE(mode)))
            for path in sorted(walk.entries):
                self._put(walk.entries[path])
            self.warnings += walk.warnings
            self._take_dockerfile(root, project.target)
        elif stat.S_ISREG(mode) and not (is_sole and not project.target):
            self._add_file(project, root, status)
        else:
            kind = _SPECIAL.get(stat.S_IFMT(mode), "file")
            what = f"workspace {str(project.root)!r} is a {kind} and no folder."
            fix = "Name the folder that holds the code; to add one file, map it to its name."
            raise WorkspaceError(what, fix=fix)

    def _add_file(self, project: Project, root: str, status: os.stat_result) -> None:
        there = self.entries.get(project.target)
        is_folder = not project.target or (there is not None and there.kind == "dir")
        name = project.root.name
        path = f"{project.target}/{name}".lstrip("/") if is_folder else project.target
        self._put(_entry(path, root, status))
        if path == DOCKERFILE:
            self.dockerfile = whole(root)

    def _put(self, entry: Entry) -> None:
        self._make_folders(entry.path.rpartition("/")[0])
        there = self.entries.get(entry.path)
        if there is not None and there.kind == "dir" and entry.kind != "dir":
            inside = f"{entry.path}/"
            for path in [path for path in self.entries if path.startswith(inside)]:
                del self.entries[path]
        self.entries[entry.path] = entry

    def _make_folders(self, path: str) -> None:
        while path and (path not in self.entries or self.entries[path].kind != "dir"):
            self.entries[path] = Entry(path=path, kind="dir", mode=_FOLDER_MODE)
            path = path.rpartition("/")[0]

    def _take_dockerfile(self, root: str, target: str) -> None:
        path = os.path.join(root, DOCKERFILE)  # noqa: PTH118 - paths are texts here
        if not target and os.path.lexists(path):
            self.dockerfile = _read_whole(path, root)


class _Walk:
    """What is in one folder, by its path in the workspace."""

    def __init__(self, root: str, prefix: str) -> None:
        self.entries: dict[str, Entry] = {}
        self.warnings: list[str] = []
        self._prefix = prefix
        # Dropped folders that may hold something that is kept: they come along with it.
        self._dropped: dict[str, Entry] = {}
        self._ignore = _ignore(root)
        pending = [(root, "")]
        while pending:
            pending += self._folder(*pending.pop())

    def _folder(self, folder: str, above: str) -> list[tuple[str, str]]:
        """List one folder, and return those in it, as their paths on the host and below the root.

        Args:
            folder: its path on this host.
            above: its path below the root, with a slash at its end unless it is the root.
        """
        inner: list[tuple[str, str]] = []
        at = folder
        try:
            with os.scandir(folder) as found:
                for item in found:
                    path, at = above + item.name, item.path
                    drops = self._ignore is not None and self._ignore.drops(path)
                    is_folder = item.is_dir(follow_symlinks=False)
                    if drops and not (is_folder and self._may_hold(path)):
                        continue
                    self._take(path, at, item.stat(follow_symlinks=False), drops)
                    if is_folder:
                        inner.append((at, f"{path}/"))
        except OSError as why:
            # As with Docker, a folder that is dropped anyhow may be a locked one.
            if not (isinstance(why, PermissionError) and above[:-1] in self._dropped):
                raise unreadable(at, why) from why
        return inner

    def _may_hold(self, path: str) -> bool:
        return self._ignore is not None and self._ignore.may_hold(path)

    def _take(self, path: str, source: str, status: os.stat_result, drops: bool) -> None:
        if special := _SPECIAL.get(stat.S_IFMT(status.st_mode)):
            self.warnings.append(f"{source!r} is a {special} and is left out of the workspace")
            return
        entry = _entry(self._prefix + path, source, status)
        if drops:
            self._dropped[path] = entry
            return
        self.entries[entry.path] = entry
        folder = path.rpartition("/")[0]
        while folder in self._dropped:
            self.entries[self._prefix + folder] = self._dropped.pop(folder)
            folder = folder.rpartition("/")[0]


def _resolved(root: Path) -> tuple[str, os.stat_result]:
    """Return where a part really lies, and what it is."""
    try:
        real = os.path.realpath(root, strict=True)
        return real, os.stat(real)  # noqa: PTH116 - paths are texts here
    except FileNotFoundError as why:
        what = f"workspace {str(root)!r} does not exist."
        raise WorkspaceError(what, fix="Correct the path, or create the folder.") from why
    except OSError as why:
        raise unreadable(str(root), why) from why


def _ignore(root: str) -> Ignore | None:
    path = os.path.join(root, IGNORE_FILE)  # noqa: PTH118 - paths are texts here
    return Ignore(_read_whole(path, root), repr(path)) if os.path.lexists(path) else None


def _read_whole(path: str, root: str) -> bytes:
    """Return the content of a file that rules the workspace; a link to one in it is as good."""
    real = os.path.realpath(path)
    if os.path.commonpath([root, real]) != root or not os.path.isfile(real):  # noqa: PTH113 - as above
        what = f"{path!r} is no file of the workspace."
        raise WorkspaceError(what, fix="Put a regular file there, or remove it.")
    return whole(real)


def _entry(path: str, source: str, status: os.stat_result) -> Entry:
    mode = stat.S_IMODE(status.st_mode)
    if stat.S_ISREG(status.st_mode):
        return Entry(path=path, kind="file", mode=mode, size_bytes=status.st_size, source=source)
    if stat.S_ISDIR(status.st_mode):
        return Entry(path=path, kind="dir", mode=mode)
    link = os.readlink(source)  # noqa: PTH115 - paths are texts here
    digest = hashlib.sha256(os.fsencode(link)).hexdigest()
    return Entry(path=path, kind="link", mode=0o777, digest=digest, link=link)
