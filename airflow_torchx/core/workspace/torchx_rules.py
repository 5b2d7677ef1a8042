"""How TorchX reads the ``.dockerignore`` of a workspace of several parts."""

from __future__ import annotations

from fnmatch import fnmatchcase
from functools import cache
from typing import TYPE_CHECKING

from airflow_torchx.core.workspace.recipe import DOCKERFILE
from airflow_torchx.core.workspace.tree import some_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def torchx_rules(text: bytes) -> Callable[[str], bool]:
    """Return a function that decides whether TorchX ignores a path of the merged workspace.

    TorchX merges all parts and applies the ``.dockerignore`` in the root of the result to them. Its
    wildcards match slashes. It does not enter an ignored folder, and in other folders it applies
    only the lines after the last one that matches the folder.
    """
    lines = (
        line.partition("#")[0].strip() for line in text.decode("utf-8", "replace").splitlines()
    )
    patterns = [line for line in lines if line not in {"", "."}]

    @cache
    def first_in(folder: str) -> int | None:
        """Return the position of the first pattern for paths in a folder; None if it is ignored."""
        return after(folder) if folder else 0

    def after(path: str) -> int | None:
        """Return the position after the last pattern that matches; None if the path is ignored."""
        first = first_in(path.rpartition("/")[0])
        if first is None:
            return None
        for position in range(len(patterns) - 1, first - 1, -1):
            if fnmatchcase(path, patterns[position].removeprefix("!")):
                return position + 1 if patterns[position].startswith("!") else None
        return first

    return lambda path: path != DOCKERFILE and after(path) is None


def difference(only_ours: Sequence[str], only_theirs: Sequence[str]) -> str | None:
    """Return a warning that names the paths that only this package or only TorchX would send."""
    if not only_ours and not only_theirs:
        return None
    what = [f"leaves out {some_of(only_ours)}"] if only_ours else []
    what += [f"sends {some_of(only_theirs)}"] if only_theirs else []
    return (
        "each .dockerignore applies to its own part of the workspace; TorchX applies the root's to "
        f"all parts, so it {', and '.join(what)}"
    )
