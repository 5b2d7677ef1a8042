"""The files of a workspace, and messages about a workspace that is too large."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from airflow_torchx.core.engine.amounts import mib

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Kind = Literal["file", "dir", "link"]

#: Folders that tools create, and that no app needs in its image.
JUNK: Final = frozenset(
    {
        ".cache",
        ".git",
        ".hg",
        ".hypothesis",
        ".ipynb_checkpoints",
        ".mypy_cache",
        ".nox",
        ".pytest_cache",
        ".ruff_cache",
        ".svn",
        ".tox",
        ".venv",
        "__pycache__",
        "node_modules",
        "venv",
    }
)
# Sending a smaller workspace takes no noticeable time.
_LARGE_BYTES: Final = 50 << 20
_MAX_LISTED: Final = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One file, folder or symbolic link.

    Args:
        path: path in the workspace, with slashes and without a leading one; bytes that are not
            UTF-8 are surrogate escapes, as from `os.fsdecode`.
        kind: ``file``, ``dir`` or ``link``.
        mode: permission bits, at most ``0o7777``; ``0o777`` for a link.
        size_bytes: size of a file's content; 0 for folders and links.
        digest: SHA-256 of a file's content or of a link's target, in hex; empty for a folder.
        source: path of the file on this host.
        link: target of a link, as stored; empty for files and folders.
    """

    path: str
    kind: Kind
    mode: int
    size_bytes: int = 0
    digest: str = ""
    source: str = ""
    link: str = ""


def marked_as_deleted(entries: Iterable[Entry]) -> str | None:
    """Return a path that an image cannot have; None if there is none.

    In a layer of an image, ``.wh.NAME`` means that NAME is deleted.
    """
    return next((entry.path for entry in entries if "/.wh." in f"/{entry.path}"), None)


def guard(entries: Sequence[Entry], max_bytes: int) -> str | None:
    """Return the error message for a workspace that is too large; None if it is not."""
    total = sum(entry.size_bytes for entry in entries)
    if total <= max_bytes:
        return None
    largest = _largest(entries)
    listed = [f"  {mib(size)} {path!r}" for path, size in largest]
    lines = dict.fromkeys(f"  {_ignore_line(path)}" for path, _ in largest)
    what = f"the workspace has {mib(total)}; the limit is {mib(max_bytes)}. Its largest paths:"
    fix = "Add what the app does not need to .dockerignore, or raise max_context_mb:"
    return "\n".join([what, *listed, fix, *lines])


def hint(entries: Sequence[Entry]) -> str | None:
    """Return a hint about junk folders in a workspace of more than 50 MiB; None if it has none."""
    total = sum(entry.size_bytes for entry in entries)
    junk: Counter[str] = Counter()
    for entry in entries:
        if folder := _junk_folder(entry.path):
            junk[folder.rpartition("/")[2]] += entry.size_bytes
    if total <= _LARGE_BYTES or not junk:
        return None
    found = ", ".join(f"{mib(size)} in {name}" for name, size in junk.most_common())
    lines = "\n".join(f"  **/{name}" for name, _ in junk.most_common())
    return f"the workspace has {mib(total)}: {found}. Exclude them in .dockerignore:\n{lines}"


def is_junk(paths: Iterable[str]) -> bool:
    """Return whether all paths are junk folders."""
    return {path.rpartition("/")[2] for path in paths} <= JUNK


def left_out_line(paths: Sequence[str]) -> str:
    """Return a line that names what a workspace without a ``.dockerignore`` leaves out.

    Several files or folders of one name are counted.
    """
    names = [path.rpartition("/")[2] for path in paths]
    counts = Counter(names)
    listed = dict.fromkeys(
        path if counts[name] == 1 else f"{counts[name]} x {name}"
        for path, name in zip(paths, names, strict=True)
    )
    what = f"left out of the workspace, which has no .dockerignore: {some_of([*listed])}"
    return f"{what}; if the app needs one, list in a .dockerignore what to leave out instead"


def some_of(texts: Sequence[str]) -> str:
    """Return texts as a list of limited length, on one line."""
    shown = [text if text.isprintable() else repr(text) for text in texts[:_MAX_LISTED]]
    rest = len(texts) - len(shown)
    return ", ".join(shown) + (f" and {rest} more" if rest else "")


def _largest(entries: Sequence[Entry]) -> list[tuple[str, int]]:
    """Return the largest paths; junk and folders of many small files count as one path."""
    sizes: Counter[str] = Counter()
    for entry in entries:
        path = _junk_folder(entry.path) or entry.path
        while path:
            sizes[path] += entry.size_bytes
            path = path.rpartition("/")[0]
    children: defaultdict[str, list[str]] = defaultdict(list)
    for path in sizes:
        children[path.rpartition("/")[0]].append(path)
    found: list[str] = []
    unopened = list(children[""])
    while unopened:
        path = unopened.pop()
        if _is_listed(path, children, sizes):
            found.append(path)
        else:
            unopened += children[path]
    found.sort(key=lambda path: (-sizes[path], path))
    return [(path, sizes[path]) for path in found[:_MAX_LISTED] if sizes[path]]


def _is_listed(path: str, children: dict[str, list[str]], sizes: Counter[str]) -> bool:
    inside = children.get(path, [])
    # Junk, and children of a third or more, get lines of their own.
    return not any(
        3 * sizes[child] >= sizes[path] or _junk_folder(child) == child for child in inside
    )


def _junk_folder(path: str) -> str | None:
    """Return the topmost junk folder in a path; None if there is none."""
    parts = path.split("/")
    for depth, name in enumerate(parts, start=1):
        if name in JUNK:
            return "/".join(parts[:depth])
    return None


def _ignore_line(path: str) -> str:
    name = path.rpartition("/")[2]
    if name in JUNK:
        return f"**/{name}"
    # The slash takes the meaning from a leading '#', '!' or space; '?' matches any character, even
    # an unprintable one.
    escaped = re.sub(r"([*?\[\]\\])", r"\\\1", path)
    return "/" + re.sub(r"[\x00-\x1f\ud800-\udfff]|\s$", "?", escaped)
