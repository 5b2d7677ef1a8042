"""What the workspaces of an app hold, and the images that a daemon would make of them."""

from __future__ import annotations

import contextlib
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
from airflow_torchx.workspace.source import opened
from airflow_torchx.workspace.tree import hash_tree, list_tree

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_torchx.core.engine.images import ImageDetail
    from airflow_torchx.core.plan.options import Opts
    from airflow_torchx.core.workspace.recipe import Recipe, SourceRoot
    from airflow_torchx.specs import Workspace

_log = logging.getLogger(__name__)

_MIB: Final = 1 << 20

#: Takes a URL; returns fsspec's file system of it, and the path in it.
Filesystem = Callable[[str], tuple[Any, str]]
#: What roles that share an image share: the image below, and the sources with their targets.
Key = tuple[str, frozenset[tuple[str, str]]]


@dataclass(frozen=True, eq=False)
class ReadWorkspace:
    """A workspace whose files were read. What was fetched for it is removed with this object.

    Args:
        content: what it puts into an image.
    """

    content: Content


@dataclass(frozen=True, kw_only=True)
class WorkspaceImage:
    """The image of a workspace, as far as it is known before anything is pulled or built.

    Args:
        read: the workspace.
        base: the image below; None while the daemon lacks it.
        recipe: what the image is made of; None without ``base``.
        found: name of an image on the daemon that is made of exactly this; None if there is none.
    """

    read: ReadWorkspace
    base: ImageDetail | None = None
    recipe: Recipe | None = None
    found: str | None = None

    def name(self, repository: str | None) -> str:
        """Return the name that the image will have; that of the image below if it is not known."""
        if self.recipe is None:
            return self.read.content.base
        return f"{repository or WORKSPACE_REPOSITORY}:{self.recipe.key}"

    @property
    def note(self) -> str:
        """What a launch would do to have the image, for people."""
        content = self.read.content
        if self.recipe is None:
            return f"the workspace image is not known before {content.base} is pulled"
        files = f"{counted(len(content.entries), 'file')}, {size(content.size_bytes)}"
        if self.found is not None:
            return f"nothing changed, nothing to build ({files})"
        return f"to be built over {content.base} ({files})"


def key_of(image: str, workspace: Workspace) -> Key:
    """Return what tells whether two roles share one image."""
    return image, frozenset(workspace.projects.items())


def read_workspace(
    base: str,
    workspace: str | Mapping[str, str] | Workspace,
    opts: Opts,
    source_root: SourceRoot,
    *,
    filesystem: Filesystem,
    should_stop: Callable[[], bool],
) -> ReadWorkspace:
    """Read the files of a workspace; no daemon is asked.

    Args:
        base: name of the image below.
        workspace: its sources.
        opts: run options; those on images count.
        source_root: where relative sources lie.
        filesystem: opens the storage behind a URL.
        should_stop: asked several times a second.

    Raises:
        WorkspaceError: it cannot be read, is empty, or is too large.
        StopRequested: ``should_stop`` returned True.
    """
    parts = parse_workspace(workspace)
    max_bytes = opts.max_context_mb * _MIB
    with contextlib.ExitStack() as stack:
        folders = stack.enter_context(
            opened(
                parts,
                relative_to=Path(source_root.folder),
                filesystem=filesystem,
                max_bytes=max_bytes,
            )
        )
        listed = list_tree(folders)
        for warning in listed.warnings:
            _log.warning("%s", warning)
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
