"""The files of a workspace, as they will lie in its image: frozen values."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

Kind = Literal["file", "dir", "link"]

#: Folders that tools make again and that no app needs in its image.
JUNK: Final = frozenset(
    {
        ".git",
        ".venv",
        "__pycache__",
        "node_modules",
        ".mypy_cache",
        ".pytest_cache",
        ".ruff_cache",
        ".tox",
        "venv",
    }
)
# Below it nobody waits for what is sent in vain.
_LARGE_BYTES: Final = 50 << 20
_NAMED: Final = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One file, folder or symbolic link.

    Args:
        path: where it lies under the root of the workspace, with slashes and without a leading one;
            bytes that are no UTF-8 are surrogate escapes, as `os.fsdecode` makes them.
        kind: what it is.
        mode: its permission bits, ``0o7777`` at most; 0o777 for a link.
        size_bytes: length of a file's content; 0 for all others.
        digest: SHA-256 of a file's content or of a link's target, in hex; empty for a folder.
        source: path of the file on this host.
        link: target of a link, as it is written; empty for all others.
    """

    path: str
    kind: Kind
    mode: int
    size_bytes: int = 0
    digest: str = ""
    source: str = ""
    link: str = ""


def guard(entries: Sequence[Entry], max_bytes: int) -> str | None:
    """Return why a workspace is too large and what to leave out; None if it is small enough.

    Args:
        entries: the workspace; digests are not needed.
        max_bytes: the most that its files may have together, in bytes.
    """
    total = sum(entry.size_bytes for entry in entries)
    if total <= max_bytes:
        return None
    largest = _largest(entries)
    listed = [f"  {_mb(size)} {path!r}" for path, size in largest]
    lines = dict.fromkeys(f"  {_ignore_line(path)}" for path, _ in largest)
    what = f"the workspace has {_mb(total)}, more than the {_mb(max_bytes)} allowed; its largest:"
    fix = "Name in .dockerignore what the app does not need, or raise max_context_mb:"
    return "\n".join([what, *listed, fix, *lines])


def hint(entries: Sequence[Entry]) -> str | None:
    """Return what a workspace of more than 50 MB holds that no app needs; None if there is none."""
    total = sum(entry.size_bytes for entry in entries)
    junk: Counter[str] = Counter()
    for entry in entries:
        if folder := _junk_folder(entry.path):
            junk[folder.rpartition("/")[2]] += entry.size_bytes
    if total <= _LARGE_BYTES or not junk:
        return None
    held = ", ".join(f"{_mb(size)} in {name}" for name, size in junk.most_common())
    lines = "\n".join(f"  **/{name}" for name, _ in junk.most_common())
    return f"of the workspace's {_mb(total)} are {held}. Lines of .dockerignore drop it:\n{lines}"


def _largest(entries: Sequence[Entry]) -> list[tuple[str, int]]:
    """Return the largest paths; a folder of many small files is one of them, like junk is."""
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
        if _is_one(path, children, sizes):
            found.append(path)
        else:
            unopened += children[path]
    found.sort(key=lambda path: (-sizes[path], path))
    return [(path, sizes[path]) for path in found[:_NAMED] if sizes[path]]


def _is_one(path: str, children: dict[str, list[str]], sizes: Counter[str]) -> bool:
    inside = children.get(path, [])
    # A child of a third or more, and junk, are worth a line of their own.
    return not any(
        3 * sizes[child] >= sizes[path] or _junk_folder(child) == child for child in inside
    )


def _junk_folder(path: str) -> str | None:
    """Return the uppermost folder of junk that a path is, or lies in."""
    parts = path.split("/")
    for depth, name in enumerate(parts, start=1):
        if name in JUNK:
            return "/".join(parts[:depth])
    return None


def _ignore_line(path: str) -> str:
    name = path.rpartition("/")[2]
    if name in JUNK:
        return f"**/{name}"
    # The slash keeps a leading '#', '!' or space from meaning something; '?' is any character,
    # also one that no text can show.
    escaped = re.sub(r"([*?\[\]\\])", r"\\\1", path)
    return "/" + re.sub(r"[\x00-\x1f\ud800-\udfff]|\s$", "?", escaped)


def _mb(size_bytes: int) -> str:
    return f"{size_bytes / (1 << 20):,.1f} MiB"
