"""The contents of an app's workspaces, and their images."""

from __future__ import annotations

import contextlib
import functools
import logging
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from airflow_torchx.core.engine.amounts import counted, size
from airflow_torchx.core.engine.images import WORKSPACE_REPOSITORY
from airflow_torchx.core.workspace import tree
from airflow_torchx.core.workspace.recipe import Content, workspace_id
from airflow_torchx.core.workspace.source import parse_workspace, shown
from airflow_torchx.errors import WorkspaceError
from airflow_torchx.workspace.source import downloaded
from airflow_torchx.workspace.tree import hash_tree, list_tree

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_torchx.core.engine.images import ImageDetail
    from airflow_torchx.core.plan.options import Opts
    from airflow_torchx.core.workspace.recipe import Recipe, SourceRoot
    from airflow_torchx.specs import Workspace

_log = logging.getLogger(__name__)

_MIB: Final = 1 << 20

#: Returns fsspec's file system for a URL, and the path in it.
Filesystem = Callable[[str], tuple[Any, str]]
#: Base image, and sources with targets: roles with the same key share an image.
Key = tuple[str, frozenset[tuple[str, str]]]


@dataclass(frozen=True, eq=False)
class ReadWorkspace:
    """A workspace whose files were read; its downloaded copies are deleted with this object."""

    content: Content


@dataclass(frozen=True, kw_only=True)
class WorkspaceImage:
    """The image of a workspace, as far as it is known before a pull or build.

    Args:
        base: the base image; None if the daemon does not have it.
        recipe: the content of the image; None without ``base``.
        found: name of the local image with this content; None if there is none.
    """

    read: ReadWorkspace
    base: ImageDetail | None = None
    recipe: Recipe | None = None
    found: str | None = None

    def name(self, repository: str | None) -> str:
        """Return the name of the image, or that of the base image if it is not known yet."""
        if self.recipe is None:
            return self.read.content.base
        return f"{repository or WORKSPACE_REPOSITORY}:{self.recipe.key}"

    @property
    def note(self) -> str:
        """Return what a launch would do to provide the image, as text."""
        content = self.read.content
        if self.recipe is None:
            return f"the workspace image is not known until {content.base} is pulled"
        files = f"{counted(content.file_count, 'file')}, {size(content.size_bytes)}"
        if self.found is not None:
            return f"up to date ({files})"
        return f"to be built on {content.base} ({files})"


def key_of(image: str, workspace: Workspace) -> Key:
    """Return the key that is equal for roles that share an image."""
    return image, frozenset(workspace.projects.items())


@functools.lru_cache(maxsize=1000)
def _log_once(level: int, line: str, workspace: tuple[object, ...]) -> None:  # noqa: ARG001
    """Log a line about a workspace, once in this process for all roles and launches."""
    _log.log(level, "%s", line)


def read_workspace(
    base: str,
    workspace: str | Mapping[str, str] | Workspace,
    opts: Opts,
    source_root: SourceRoot,
    *,
    filesystem: Filesystem,
    should_stop: Callable[[], bool],
) -> ReadWorkspace:
    """Read the files of a workspace, without a request to the daemon.

    Raises:
        WorkspaceError: the workspace cannot be read, is empty, or is too large.
        StopRequested: ``should_stop`` returned True.
    """
    parts = parse_workspace(workspace)
    max_bytes = opts.max_context_mb * _MIB
    with contextlib.ExitStack() as stack:
        folders = stack.enter_context(
            downloaded(
                parts,
                relative_to=Path(source_root.folder),
                filesystem=filesystem,
                max_bytes=max_bytes,
            )
        )
        listed = list_tree(folders)
        for warning in listed.warnings:
            _log.warning("%s", warning)
        if listed.left_out:
            level = logging.INFO if tree.is_junk(listed.left_out) else logging.WARNING
            _log_once(level, tree.left_out_line(listed.left_out), (source_root.folder, *parts))
        if problem := tree.guard(listed.entries, max_bytes):
            raise WorkspaceError(problem)
        if hint := tree.hint(listed.entries):
            _log.warning("%s", hint)
        hashed = hash_tree(listed, should_stop=should_stop)
        args = dict(opts.build_args)
        if hashed.dockerfile is not None and b"WORKSPACE" in hashed.dockerfile:
            args = {"WORKSPACE": shown(parts[0][0]), **args}
        read = ReadWorkspace(
            Content(
                base=base,
                entries=hashed.entries,
                workspace_id=workspace_id(parts, base, source_root),
                dockerfile=hashed.dockerfile,
                build_args=args,
                target=opts.target,
            )
        )
        weakref.finalize(read, stack.pop_all().close)
        return read
