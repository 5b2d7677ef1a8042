"""Listing, merging and hashing the files of a workspace."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from airflow_torchx.core.workspace.torchx_rules import difference, torchx_rules
from airflow_torchx.core.workspace.tree import Entry, marked_as_deleted
from airflow_torchx.errors import WorkspaceError
from airflow_torchx.workspace.content import digests, read_small_file, unreadable
from airflow_torchx.workspace.dockerignore import IGNORE_FILE, Ignore
from airflow_torchx.workspace.left_out import is_left_out, is_listed, own_outputs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

#: Name of a workspace's own Dockerfile, in its root.
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
        root: a folder on this host, or a single file.
        target: its folder in the workspace; "" for the root. If no such folder exists, a file gets
            this name.
    """

    root: Path
    target: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tree:
    """The contents of a workspace.

    Args:
        entries: its files, folders and links, sorted by path.
        warnings: messages about skipped paths.
        left_out: files and folders that a part without a ``.dockerignore`` leaves out.
        dockerfile: content of its ``Dockerfile.torchx``, even if ``.dockerignore`` ignores it.
    """

    entries: tuple[Entry, ...]
    warnings: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    dockerfile: bytes | None = None


def read_tree(projects: Sequence[Project], *, should_stop: Callable[[], bool]) -> Tree:
    """List and hash a workspace."""
    return hash_tree(list_tree(projects), should_stop=should_stop)


def list_tree(projects: Sequence[Project]) -> Tree:
    """List a workspace without reading its files, so their digests are empty.

    If two parts have the same path, the later file wins, and folders are merged. The
    ``.dockerignore`` of a part applies to that part only. A part without one leaves out what
    `left_out` describes, unless the name of the part itself is on that list. Symbolic links are not
    followed, except the root of a part. A file in a folder to which the output of this process goes
    is left out.

    Raises:
        WorkspaceError: a part does not exist or cannot be read, the workspace is empty, or an image
            cannot have one of its names.
    """
    merger = _Merger()
    for project in projects:
        merger.add(project, is_root=len(projects) == 1 and not project.target)
    if not merger.entries and merger.dockerfile is None:
        roots = ", ".join(repr(str(project.root)) for project in projects)
        what = f"workspace {roots} has no files, or its {IGNORE_FILE} ignores all of them."
        if merger.left_out:
            what = f"workspace {roots} has only files that are left out without {IGNORE_FILE}."
        raise WorkspaceError(what, fix="Use the folder that contains the code, or ignore less.")
    if path := marked_as_deleted(merger.entries.values()):
        what = f"{path!r} has a name with '.wh.' in front, which deletes a file in an image."
        raise WorkspaceError(what, fix=f"Rename it, or add it to {IGNORE_FILE}.")
    return Tree(
        entries=tuple(merger.entries[path] for path in sorted(merger.entries)),
        warnings=(*merger.warnings, *filter(None, [merger.torchx_difference()])),
        # Another part may have taken it.
        left_out=tuple(sorted(path for path in merger.left_out if path not in merger.entries)),
        dockerfile=merger.dockerfile,
    )


def hash_tree(tree: Tree, *, should_stop: Callable[[], bool]) -> Tree:
    """Return a tree with the digests of its files.

    Raises:
        WorkspaceError: a file cannot be read, or its size has changed since it was listed.
        StopRequested: ``should_stop``, called ten times a second, returned True.
    """
    files = [entry for entry in tree.entries if entry.kind == "file"]
    found = iter(digests(files, should_stop=should_stop))
    entries = tuple(
        replace(entry, digest=next(found)) if entry.kind == "file" else entry
        for entry in tree.entries
    )
    return replace(tree, entries=entries)


class _Merger:
    """Merges parts in order."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.warnings: list[str] = []
        self.left_out: list[str] = []
        self.dockerfile: bytes | None = None
        self._walks: list[_Walk] = []
        # The .dockerignore in the root of the result, and the folder that it belongs to, if any.
        self._rules: tuple[bytes, _Walk | None] | None = None

    def add(self, project: Project, *, is_root: bool) -> None:
        """Add a part; ``is_root`` means that it is the whole workspace."""
        root, status = resolved(project.root)
        mode = status.st_mode
        if stat.S_ISDIR(mode):
            prefix = f"{project.target}/" if project.target else ""
            is_whole = is_listed(project.root.name, is_folder=True)
            walk = _Walk(root, prefix, is_root=is_root, is_whole=is_whole)
            if project.target:
                self._put(Entry(path=project.target, kind="dir", mode=stat.S_IMODE(mode)))
            for path in sorted(walk.entries):
                self._put(walk.entries[path])
            self._walks.append(walk)
            if not project.target and walk.rules is not None:
                self._rules = walk.rules, walk
            self.warnings += walk.warnings
            self.left_out += walk.left_out
            self._read_dockerfile(root, project.target)
        elif stat.S_ISREG(mode) and not is_root:
            self._add_file(project, root, status)
        else:
            kind = _SPECIAL.get(stat.S_IFMT(mode), "file")
            what = f"workspace {str(project.root)!r} is a {kind}, not a folder."
            fix = "Use the folder that contains the code; to add one file, map it to its name."
            raise WorkspaceError(what, fix=fix)

    def torchx_difference(self) -> str | None:
        """Return a warning if TorchX would send other files of folders with other rules."""
        if self._rules is None and not any(walk.ignored for walk in self._walks):
            return None
        text, own = self._rules or (b"", None)
        ignores, others = torchx_rules(text), [walk for walk in self._walks if walk is not own]
        sent = [
            path
            for walk in others
            for path, entry in walk.entries.items()
            if entry.kind != "dir" and entry is self.entries.get(path) and ignores(path)
        ]
        ignored = [
            path
            for walk in others
            for path in walk.ignored
            if path not in self.entries and not ignores(path)
        ]
        return difference(sorted(sent), sorted(ignored))

    def _add_file(self, project: Project, root: str, status: os.stat_result) -> None:
        existing = self.entries.get(project.target)
        is_folder = not project.target or (existing is not None and existing.kind == "dir")
        name = project.root.name
        path = f"{project.target}/{name}".lstrip("/") if is_folder else project.target
        self._put(_entry(path, root, status))
        if path == DOCKERFILE:
            self.dockerfile = read_small_file(root)
        if path == IGNORE_FILE:
            self._rules = read_small_file(root), None

    def _put(self, entry: Entry) -> None:
        self._make_folders(entry.path.rpartition("/")[0])
        existing = self.entries.get(entry.path)
        if existing is not None and existing.kind == "dir" and entry.kind != "dir":
            inside = f"{entry.path}/"
            for path in [path for path in self.entries if path.startswith(inside)]:
                del self.entries[path]
        self.entries[entry.path] = entry

    def _make_folders(self, path: str) -> None:
        while path and (path not in self.entries or self.entries[path].kind != "dir"):
            self.entries[path] = Entry(path=path, kind="dir", mode=_FOLDER_MODE)
            path = path.rpartition("/")[0]

    def _read_dockerfile(self, root: str, target: str) -> None:
        path = os.path.join(root, DOCKERFILE)  # noqa: PTH118 - paths are texts here
        if not target and os.path.lexists(path):
            self.dockerfile = _read_control_file(path, root)


class _Walk:
    """The contents of one folder, by path in the workspace.

    With ``is_root``, the ignored paths are not collected. With ``is_whole``, a folder without a
    ``.dockerignore`` leaves out nothing.
    """

    def __init__(self, root: str, prefix: str, *, is_root: bool, is_whole: bool) -> None:
        self.entries: dict[str, Entry] = {}
        self.warnings: list[str] = []
        self.left_out: list[str] = []
        self.ignored: list[str] = []
        self.rules = _rules(root)
        self._is_root = is_root
        self._prefix = prefix
        # Ignored folders that may contain kept files; they are added together with the first one.
        self._ignored_folders: dict[str, Entry] = {}
        where = repr(f"{root}/{IGNORE_FILE}")
        self._ignore = None if self.rules is None else Ignore(self.rules, where)
        self._is_whole = is_whole or self._ignore is not None
        self._outputs = own_outputs()
        pending = [(root, "")]
        while pending:
            pending += self._folder(*pending.pop())

    def _folder(self, folder: str, above: str) -> list[tuple[str, str]]:
        """List one folder, and return its subfolders as pairs of host path and path below the root.

        The path below the root has a trailing slash; it is "" for the root.
        """
        inner: list[tuple[str, str]] = []
        at = folder
        try:
            with os.scandir(folder) as found:
                for item in found:
                    path, at = above + item.name, item.path
                    if not self._is_whole and is_left_out(item):
                        self.left_out.append(self._prefix + path)
                        continue
                    ignore = self._ignore if self._ignore and self._ignore.ignores(path) else None
                    is_folder = item.is_dir(follow_symlinks=False)
                    if ignore and not (is_folder and ignore.may_contain_kept(path)):
                        self.ignored += [] if self._is_root else [self._prefix + path]
                        continue
                    self._add(path, at, item.stat(follow_symlinks=False), ignore is not None)
                    if is_folder:
                        inner.append((at, f"{path}/"))
        except OSError as error:
            # As in Docker, ignored folders may be unreadable.
            if not (isinstance(error, PermissionError) and above[:-1] in self._ignored_folders):
                raise unreadable(at, error) from error
        return inner

    def _add(self, path: str, source: str, status: os.stat_result, ignored: bool) -> None:
        if special := _SPECIAL.get(stat.S_IFMT(status.st_mode)):
            self.warnings.append(f"{source!r} is a {special} and is left out of the workspace")
            return
        if (status.st_dev, status.st_ino) in self._outputs:
            output = "the output of this process"
            self.warnings.append(f"{source!r} is {output} and is left out of the workspace")
            return
        entry = _entry(self._prefix + path, source, status)
        if ignored:
            self._ignored_folders[path] = entry
            return
        self.entries[entry.path] = entry
        folder = path.rpartition("/")[0]
        while folder in self._ignored_folders:
            self.entries[self._prefix + folder] = self._ignored_folders.pop(folder)
            folder = folder.rpartition("/")[0]


def resolved(root: Path) -> tuple[str, os.stat_result]:
    """Return the real path of a part, and its status."""
    try:
        real = os.path.realpath(root, strict=True)
        return real, os.stat(real)  # noqa: PTH116 - paths are texts here
    except FileNotFoundError as error:
        what = f"workspace {str(root)!r} does not exist."
        raise WorkspaceError(what, fix="Correct the path, or create the folder.") from error
    except OSError as error:
        raise unreadable(str(root), error) from error


def _rules(root: str) -> bytes | None:
    path = os.path.join(root, IGNORE_FILE)  # noqa: PTH118 - paths are texts here
    return _read_control_file(path, root) if os.path.lexists(path) else None


def _read_control_file(path: str, root: str) -> bytes:
    """Return the content of a control file; it may be a link to a file in the workspace."""
    real = os.path.realpath(path)
    if os.path.commonpath([root, real]) != root or not os.path.isfile(real):  # noqa: PTH113 - as above
        what = f"{path!r} is not a file in the workspace."
        raise WorkspaceError(what, fix="Put a regular file there, or remove it.")
    return read_small_file(real)


def _entry(path: str, source: str, status: os.stat_result) -> Entry:
    mode = stat.S_IMODE(status.st_mode)
    if stat.S_ISREG(status.st_mode):
        return Entry(path=path, kind="file", mode=mode, size_bytes=status.st_size, source=source)
    if stat.S_ISDIR(status.st_mode):
        return Entry(path=path, kind="dir", mode=mode)
    link = os.readlink(source)  # noqa: PTH115 - paths are texts here
    digest = hashlib.sha256(os.fsencode(link)).hexdigest()
    return Entry(path=path, kind="link", mode=0o777, digest=digest, link=link)
