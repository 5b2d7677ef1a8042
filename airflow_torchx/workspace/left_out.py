"""What a workspace without a ``.dockerignore`` leaves out, like environments and secrets."""

from __future__ import annotations

import fnmatch
import os
import re
import stat
from functools import cache
from importlib import resources
from typing import Final

from airflow_torchx.workspace.content import read_small_file

#: The names, as lines of a ``.dockerignore`` like ``**/NAME`` or ``!**/NAME``; ``!**/NAME/**``
#: keeps folders of a name.
_FILE: Final = "default.dockerignore"
#: A folder that contains one of these is a virtual environment, a Conda environment or a cache.
_MARKERS: Final = ("pyvenv.cfg", "conda-meta", "CACHEDIR.TAG")
_PRIVATE_KEY: Final = re.compile(rb"-----BEGIN [A-Z0-9 ]*PRIVATE KEY( BLOCK)?-----")
#: Types of files that may contain a private key, but often have none; "" is a name without a dot.
_KEY_TYPES: Final = frozenset({"", "asc", "cer", "crt", "json", "pem"})
_MAX_KEY_BYTES: Final = 64 << 10


def is_listed(name: str, *, is_folder: bool = False) -> bool:
    """Return whether the name of a file or folder is on the list, as it is or in lower case."""
    left_out, kept = _patterns()
    for one in (name, name.lower()):
        if left_out.fullmatch(one):
            return not kept.fullmatch(f"{one}/" if is_folder else one)
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


def _has_private_key(item: os.DirEntry[str]) -> bool:
    _, dot, kind = item.name.rpartition(".")
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
