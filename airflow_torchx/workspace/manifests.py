"""What the last image of a workspace holds, remembered on this host beside the image itself.

To read it from the image takes a container and 60 ms of the daemon. What is remembered is not
trusted: whoever takes it sees by the image's key whether it is that image's manifest.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import Final

#: One file for each workspace.
_FOLDER: Final = "airflow-torchx/manifests"
#: More are workspaces that lie somewhere else each time.
_KEPT: Final = 100


def remembered(workspace_id: str) -> bytes | None:
    """Return the manifest that was remembered last for a workspace; None if there is none."""
    try:
        return (_folder() / workspace_id).read_bytes()
    except (OSError, RuntimeError):
        return None


def remember(workspace_id: str, manifest: bytes) -> None:
    """Keep a manifest for the next time, where that is possible; only its user can read it."""
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
        for old in sorted(folder.iterdir(), key=lambda path: -path.stat().st_mtime_ns)[_KEPT:]:
            old.unlink()


def _folder() -> Path:
    """Return the folder of the user's caches.

    Raises:
        RuntimeError: the user has no home.
    """
    caches = os.environ.get("XDG_CACHE_HOME")
    return (Path(caches) if caches else Path.home() / ".cache") / _FOLDER
