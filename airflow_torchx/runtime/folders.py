"""Creates folders in the mounts of a container that has not started."""

from __future__ import annotations

import io
import tarfile
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_torchx.core.engine.protocol import Engine

# A user of an image, who is not root, writes into them.
_MODE: Final = 0o777


def create(engine: Engine, container_id: str, folders: Iterable[str]) -> None:
    """Create these folders; existing ones keep their files.

    Docker mounts volumes and host paths for this request, also of a container that has not started
    (measured with 20.10). A file or a symbolic link with the name of a folder is not replaced.

    Raises:
        EngineError: the daemon refuses to, like for a read-only mount, or for such a file.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in folders:
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.type, entry.mode, entry.mtime = tarfile.DIRTYPE, _MODE, int(time.time())
            tar.addfile(entry)
    engine.images.put_files(container_id, [buffer.getvalue()], replace=False)
