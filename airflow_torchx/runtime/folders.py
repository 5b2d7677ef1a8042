"""Creates folders in the mounts of a container that has not started."""

from __future__ import annotations

import io
import tarfile
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Final

from airflow_torchx.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_torchx.core.engine.protocol import Engine

# A user of an image, who is not root, writes into them.
_MODE: Final = 0o777


def create(engine: Engine, container_id: str, folders: Sequence[str]) -> None:
    """Create these folders, the innermost one last; existing ones keep their files.

    Nothing changes if the last one exists, not even its mode and owner, which Docker would set.
    Docker mounts volumes and host paths for this request, also of a container that has not started
    (measured with 20.10). A file or a symbolic link with the name of a folder is not replaced.

    Raises:
        EngineError: the daemon refuses to, like for a read-only mount, or for such a file.
    """
    if _is_folder(engine, container_id, folders[-1]):
        return
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in folders:
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.type, entry.mode, entry.mtime = tarfile.DIRTYPE, _MODE, int(time.time())
            tar.addfile(entry)
    engine.images.put_files(container_id, [buffer.getvalue()], replace=False)


def _is_folder(engine: Engine, container_id: str, path: str) -> bool:
    data = b""
    # Docker 20.10 answers 500 if a part of the path is a file; then the request below names it.
    with suppress(EngineError), closing(engine.archive(container_id, path)) as stream:
        for chunk in stream:
            data += chunk
            if len(data) >= tarfile.RECORDSIZE:
                break
    if len(data) < tarfile.BLOCKSIZE:
        return False
    with tarfile.open(fileobj=io.BytesIO(data), mode="r|") as tar:
        first = tar.next()
        return first is not None and first.isdir()
