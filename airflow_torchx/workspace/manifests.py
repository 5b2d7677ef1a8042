"""A cache of the manifests of workspace images on this host.

Reading a manifest from an image takes a container and 60 ms. A cached one is not trusted: callers
check it against the image's key.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import Final

#: Has one file per workspace.
_FOLDER: Final = "airflow-torchx/manifests"
#: Temporary workspaces would otherwise fill the folder.
_MAX_FILES: Final = 100


def load(workspace_id: str) -> bytes | None:
    """Return the cached manifest of a workspace; None if there is none."""
    try:
        return (_folder() / workspace_id).read_bytes()
    except (OSError, RuntimeError):
        return None


def save(workspace_id: str, manifest: bytes) -> None:
    """Cache a manifest if possible, readable by this user only."""
    with contextlib.suppress(OSError, RuntimeError):
        folder = _folder()
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
            try:
                file.write(manifest)
                file.close()
                Path(file.name).replace(folder / workspace_id)
            except BaseException:
                Path(file.name).unlink()
                raise
        for old in sorted(folder.iterdir(), key=lambda path: -path.stat().st_mtime_ns)[_MAX_FILES:]:
            old.unlink()


def _folder() -> Path:
    """Return the cache folder of the user.

    Raises:
        RuntimeError: the user has no home folder.
    """
    caches = os.environ.get("XDG_CACHE_HOME")
    return (Path(caches) if caches else Path.home() / ".cache") / _FOLDER
