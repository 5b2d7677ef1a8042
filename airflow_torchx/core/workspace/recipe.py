"""Workspace images: their names, keys and content, and when a small layer is enough."""

from __future__ import annotations

import hashlib
import json
import posixpath
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from airflow_torchx import __version__
from airflow_torchx.core.engine import labels
from airflow_torchx.core.engine.images import WORKSPACE_REPOSITORY
from airflow_torchx.core.workspace.source import is_inline, is_relative, parse_workspace
from airflow_torchx.specs import Workspace

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import PurePath

    from airflow_torchx.core.engine.images import ImageDetail, ImageRow
    from airflow_torchx.core.workspace.tree import Entry
    from airflow_torchx.specs import AppDef

#: The Dockerfile that TorchX looks for in a workspace.
DOCKERFILE: Final = "Dockerfile.torchx"
#: Target folder in images without a working directory: at ``/``, a workspace with a folder `lib`
#: would replace the system's.
DEFAULT_DIRECTORY: Final = "/workspace"
#: Path of the script that runs a function; each release brings its own.
FUNCTION_RUNNER: Final = ".airflow-torchx/run.py"
#: Path in a tar of the list of files that every workspace image contains.
MANIFEST: Final = "var/lib/airflow-torchx/workspace.json"
#: Beginning of the name of a container, never started, to which a workspace is added.
BUILD_PREFIX: Final = "torchx-build-"
#: Maximum number of small layers; the next change rewrites all files as one layer.
MAX_DEPTH: Final = 16
#: Increase it to invalidate images that older versions built.
_FORMAT: Final = 1
_KEY_DIGITS: Final = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class Content:
    """The content that a workspace adds to its base image.

    Args:
        base: name of the base image, as the role gives it.
        dockerfile: content of the workspace's Dockerfile; None if it has none.
        build_args: build arguments of that Dockerfile.
        target: stage of that Dockerfile; None for the last.
        workspace_id: independent of the files; see `workspace_id`.
    """

    base: str
    entries: tuple[Entry, ...]
    workspace_id: str
    dockerfile: bytes | None = None
    build_args: Mapping[str, str] = field(default_factory=dict)
    target: str | None = None

    @property
    def digest(self) -> str:
        """Digest of what the user puts into it, without modification times.

        It is a part of the config hash. A release with another `FUNCTION_RUNNER`, or with another
        format of images, does not change it.
        """
        head = {name: value for name, value in self._head().items() if value is not None}
        return _digest(head, (line for line in self._lines() if line[0] != FUNCTION_RUNNER))

    def over(self, base: ImageDetail) -> Recipe:
        """Return the recipe for this content on a base image."""
        return Recipe(
            base=self.base,
            entries=self.entries,
            workspace_id=self.workspace_id,
            dockerfile=self.dockerfile,
            build_args=self.build_args,
            target=self.target,
            base_id=base.id,
            directory=directory(base),
        )

    def _head(self) -> dict[str, object]:
        own = self.dockerfile is not None
        return {
            "dockerfile": hashlib.sha256(self.dockerfile or b"").hexdigest() if own else None,
            "build_args": dict(sorted(self.build_args.items())) if own else None,
            "target": self.target if own else None,
        }

    def _lines(self) -> Iterator[tuple[str, str]]:
        return ((entry.path, _signature(entry)) for entry in self.entries)

    @property
    def file_count(self) -> int:
        """Number of files and links, without folders."""
        return count_files(self.entries)

    @property
    def size_bytes(self) -> int:
        """Total size of the files."""
        return sum(entry.size_bytes for entry in self.entries)


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe(Content):
    """Everything that determines the content of a workspace image; ``key`` is its digest."""

    base_id: str
    directory: str
    key: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", self._key(self._lines()))

    def is_manifest_of(self, manifest: bytes, key: str) -> bool:
        """Return whether this recipe, with the files in a manifest, has this key."""
        files = _files_of(manifest)
        return files is not None and key == self._key(files.items())

    def _key(self, lines: Iterable[tuple[str, str]]) -> str:
        base = {"format": _FORMAT, "base": self.base_id, "directory": self.directory}
        return _digest({**self._head(), **base}, lines)

    def labels(self, depth: int) -> dict[str, str]:
        """Return the labels of an image with this number of layers with its files."""
        return {
            labels.VERSION: __version__,
            labels.WORKSPACE_ID: self.workspace_id,
            labels.WORKSPACE_KEY: self.key,
            labels.WORKSPACE_BASE_ID: self.base_id,
            labels.WORKSPACE_DEPTH: str(depth),
        }


@dataclass(frozen=True, slots=True)
class SourceRoot:
    """The folder that relative sources of workspaces start from.

    Args:
        folder: the folder on this host.
        name: a name that stays the same on other hosts and in other checkouts.
    """

    folder: str
    name: str


def with_workspace(app: AppDef, workspace: str | PurePath | Mapping[str, str] | None) -> AppDef:
    """Return an app in which every role without a workspace has this one.

    Raises:
        WorkspaceError: the workspace is invalid.
    """
    projects = dict(parse_workspace(workspace))
    if not projects:
        return app
    roles = [
        role if role.workspace else replace(role, workspace=Workspace(projects))
        for role in app.roles
    ]
    return replace(app, roles=roles)


def local_tag(key: str) -> str:
    """Return the name of a workspace image on the daemon that built it."""
    return f"{WORKSPACE_REPOSITORY}:{key}"


def workspace_id(parts: Sequence[tuple[str, str]], base: str, source_root: SourceRoot) -> str:
    """Return an id that depends on the sources and the base image, but not on the files' content.

    The parts are source and target, as the user gave them.
    """
    named = [(_stable_name(source, source_root), target) for source, target in parts]
    text = json.dumps([base, *named])
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _stable_name(source: str, source_root: SourceRoot) -> str:
    """Return a name of a source that does not depend on its content."""
    if is_inline(source):
        return ""
    return posixpath.join(source_root.name, source) if is_relative(source) else source


def directory(base: ImageDetail) -> str:
    """Return the target folder: the image's working directory, or the default if it has none."""
    path = posixpath.normpath(base.working_dir or "/")
    return DEFAULT_DIRECTORY if path in ("/", "//", ".") else path


def can_be_layered(base: ImageDetail, where: str) -> bool:
    """Return whether adding a layer of files has the same result as ``COPY`` in a build.

    It has not if the base has ``ONBUILD`` instructions, or if the files go into a volume, which is
    not part of the image.
    """
    inside = any(where == path or where.startswith(f"{path.rstrip('/')}/") for path in base.volumes)
    return not base.on_build and not inside


def copy_dockerfile(where: str, uid: int, gid: int) -> bytes:
    """Return the Dockerfile that copies a workspace to a base that cannot be layered."""
    text = f"ARG IMAGE\nFROM $IMAGE\nWORKDIR {where}\nCOPY --chown={uid}:{gid} . .\n"
    return text.encode()


def owner(user: str, passwd: str, group: str) -> tuple[int, int] | None:
    """Return the user id and the group id that an image's containers run as, None if unknown.

    The user is like ``jovyan``, ``1000`` or ``jovyan:users``, and empty for root. The other texts
    are of the image's ``/etc/passwd`` and ``/etc/group``.
    """
    name, _, group_name = user.partition(":")
    rows = [line.split(":") for line in passwd.splitlines() if line.count(":") >= 3]  # noqa: PLR2004 - name, x, uid, gid
    known = {row[0]: (row[2], row[3]) for row in rows}
    by_number = {row[2]: row[3] for row in rows}
    groups = {row[0]: row[2] for row in (line.split(":") for line in group.splitlines()) if row[2:]}
    uid, own_gid = known.get(name, (name or "0", by_number.get(name, "0")))
    gid = groups.get(group_name, group_name) if group_name else own_gid
    return (int(uid), int(gid)) if uid.isdecimal() and gid.isdecimal() else None


def count_files(entries: Iterable[Entry]) -> int:
    """Return the number of files and links, without folders."""
    return sum(entry.kind != "dir" for entry in entries)


def manifest(entries: Iterable[Entry]) -> bytes:
    """Return the list of files, with modes and digests, that an image contains."""
    lines = {entry.path: _signature(entry) for entry in entries}
    # `indent` takes four times as long.
    return json.dumps({"format": _FORMAT, "files": lines}, separators=(",\n", ": ")).encode("ascii")


def changes(before: bytes, entries: Sequence[Entry]) -> tuple[Entry, ...] | None:
    """Return the new and changed files, or None if a layer on top is not enough.

    It is not enough if a path was removed or changed its kind, or if the manifest of the image
    below is invalid.
    """
    known = _files_of(before)
    if known is None:
        return None
    now = {entry.path: entry for entry in entries}
    for path, signature in known.items():
        entry = now.get(path)
        if entry is None or signature[0] != entry.kind[0]:
            return None
    return tuple(entry for entry in entries if known.get(entry.path) != _signature(entry))


def _files_of(manifest: bytes) -> dict[str, str] | None:
    """Return path and signature of each file in a manifest, in order; None if it is invalid."""
    try:
        content = json.loads(manifest)
        return dict(content["files"]) if content["format"] == _FORMAT else None
    except (ValueError, KeyError, TypeError):
        return None


def is_small(changed: Iterable[Entry], recipe: Recipe) -> bool:
    """Return whether the changed files have at most half of the workspace's bytes."""
    return 2 * sum(entry.size_bytes for entry in changed) <= recipe.size_bytes


def parent_of(rows: Iterable[ImageRow], recipe: Recipe) -> ImageRow | None:
    """Return the newest image of a workspace; None if no small layer can be added to it."""
    fitting = [
        row
        for row in rows
        if row.labels.get(labels.WORKSPACE_BASE_ID) == recipe.base_id
        and depth_of(row)
        and own_tags(row)
    ]
    newest = max(fitting, key=_age, default=None)
    return newest if newest and depth_of(newest) < MAX_DEPTH else None


def depth_of(row: ImageRow) -> int:
    """Return the number of layers with a workspace image's files; 0 if none can be added."""
    text = row.labels.get(labels.WORKSPACE_DEPTH, "")
    return int(text) if text.isdecimal() else 0


def own_tags(row: ImageRow) -> tuple[str, ...]:
    """Return the tags that this package gave to a workspace image, the local one last.

    Images that users build on top inherit its labels, but have no such tag.
    """
    key = row.labels.get(labels.WORKSPACE_KEY)
    ours = [tag for tag in row.tags if key and tag.rpartition(":")[2] == key]
    return tuple(sorted(ours, key=lambda tag: tag.startswith(f"{WORKSPACE_REPOSITORY}:")))


def surplus(rows: Iterable[ImageRow], keep: int, newest: str) -> tuple[ImageRow, ...]:
    """Return the images of one workspace beyond the newest ``keep``, oldest first.

    ``newest`` is the key of the image that was built last, because clocks can be wrong.
    """
    ours = [row for row in rows if own_tags(row) and row.labels[labels.WORKSPACE_KEY] != newest]
    ours.sort(key=_age)
    return tuple(ours[: max(len(ours) + 1 - keep, 0)])


def _age(row: ImageRow) -> tuple[float, int, str]:
    # created_s has whole seconds; within one second, each change adds a layer.
    return row.created_s, depth_of(row), row.id


def _signature(entry: Entry) -> str:
    return f"{entry.kind[0]}{entry.mode:o} {entry.digest}"


def _digest(head: Mapping[str, object], lines: Iterable[tuple[str, str]]) -> str:
    digest = hashlib.sha256(json.dumps(head, sort_keys=True).encode())
    for path, signature in lines:
        # JSON escapes line breaks in names, so that one name cannot look like two files.
        digest.update(f"\n[{json.dumps(path)}, {json.dumps(signature)}]".encode())
    return digest.hexdigest()[:_KEY_DIGITS]
