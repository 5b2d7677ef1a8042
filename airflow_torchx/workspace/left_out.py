"""What a workspace without a ``.dockerignore`` leaves out, like environments and secrets."""

from __future__ import annotations

import contextlib
import fnmatch
import os
import re
import stat
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Final

from airflow_torchx.workspace.content import read_small_file

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The names, as lines of a ``.dockerignore`` like ``**/NAME`` or ``!**/NAME``; ``!**/NAME/**``
#: keeps folders of a name.
_FILE: Final = "default.dockerignore"
#: A folder that contains one of these is a virtual environment, a Conda environment or a cache.
_MARKERS: Final = (
    "pyvenv.cfg",
    "bin/activate",
    "Scripts/activate",
    "conda-meta",
    "CACHEDIR.TAG",
)
#: What editors and users add to the name of a file for its copy.
_COPY: Final = re.compile(
    r"(~|#|[._-](bak|backup|bkp|copy|old|orig)|\.(sav|save|sw[a-p]|tmp|txt|[\d_-]+))$",
    re.IGNORECASE,
)
_PRIVATE_KEY: Final = re.compile(
    rb"-----BEGIN [A-Z0-9 ]*PRIVATE KEY( BLOCK)?-----|AGE-SECRET-KEY-1|PuTTY-User-Key-File-\d"
)
#: Types of files that may contain a private key, but often have none; "" is a name without a dot.
_KEY_TYPES: Final = frozenset({"", "asc", "cer", "crt", "json", "pem", "yaml", "yml"})
_MAX_KEY_BYTES: Final = 64 << 10


def is_listed(name: str, *, is_folder: bool = False) -> bool:
    """Return whether a name, or the name that it is a copy of, is on the list, in any case."""
    left_out, kept = _patterns()
    for one in _originals(name):
        for cased in (one, one.lower()):
            if kept.fullmatch(f"{cased}/" if is_folder else cased):
                return False
            if left_out.fullmatch(cased):
                return True
    return False


def is_left_out(item: os.DirEntry[str]) -> bool:
    """Return whether a file or folder is left out, because of its name or of its content.

    Raises:
        WorkspaceError: it may contain a private key, but cannot be read.
    """
    is_folder = item.is_dir(follow_symlinks=False)
    if is_listed(item.name, is_folder=is_folder):
        return True
    if is_folder:
        return any(os.path.lexists(f"{item.path}/{marker}") for marker in _MARKERS)
    return _has_private_key(item)


def own_outputs() -> frozenset[tuple[int, int]]:
    """Return device and inode of the files that are the standard output or error of this process.

    They change while the workspace is read: what this process logs goes there.
    """
    found = set()
    for descriptor in (1, 2):
        with contextlib.suppress(OSError):  # a closed one
            status = os.fstat(descriptor)
            found.add((status.st_dev, status.st_ino))
    return frozenset(found)


def _originals(name: str) -> Iterator[str]:
    """Yield a name, and the names that it may be a copy of, the last without any addition."""
    yield name
    while (shorter := _COPY.sub("", name)) not in ("", name):
        # Editors also put these in front, as in ".name.swp" and "#name#".
        yield shorter.lstrip("#")
        yield shorter.lstrip("#.")
        name = shorter


def _has_private_key(item: os.DirEntry[str]) -> bool:
    *_, original = _originals(item.name)
    _, dot, kind = original.rpartition(".")
    if dot and kind.lower() not in _KEY_TYPES:
        return False
    status = item.stat(follow_symlinks=False)
    if not stat.S_ISREG(status.st_mode) or status.st_size > _MAX_KEY_BYTES:
        return False
    return _PRIVATE_KEY.search(read_small_file(item.path)) is not None


@cache
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Return a pattern of the names that are left out, and one of the exceptions."""
    text = resources.files(__package__).joinpath(_FILE).read_text("utf-8")
    lines = (re.findall(rf"(?m)^{mark}\*\*/(.+)$", text) for mark in ("", "!"))
    left_out, kept = (re.compile("|".join(map(fnmatch.translate, names))) for names in lines)
    return left_out, kept
