"""The files of a workspace, as they will lie in its image: frozen values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["file", "dir", "link"]


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
