"""Reading one file of a container from the tar archive that the Engine sends."""

from __future__ import annotations

import tarfile
from typing import IO, Any

from airflow_torchx.core.engine.files import TooLargeError


def read_sole_file(archive: IO[Any], path: str, max_bytes: int) -> bytes:
    """Return the content of the first member of an archive; later members are not read.

    Raises:
        ValueError: the member is not a regular file.
        TooLargeError: it is larger than ``max_bytes``.
        ConnectionResetError: the archive is incomplete.
    """
    try:
        with tarfile.open(fileobj=archive, mode="r|") as tar:
            member = tar.next()
            _check(member, path, max_bytes)
            content = tar.extractfile(member) if member else None
            return content.read() if content else b""
    except tarfile.ReadError as error:
        msg = "the archive ended early"
        raise ConnectionResetError(msg) from error


def _check(member: tarfile.TarInfo | None, path: str, max_bytes: int) -> None:
    if member is None or not member.isreg():
        kind = "symbolic link" if member and member.issym() else "folder or a device"
        msg = f"{path} is not a regular file but a {kind}; give the path of the file itself"
        raise ValueError(msg)
    if member.size > max_bytes:
        msg = f"{path} has {member.size:,} bytes, more than the limit of {max_bytes:,}"
        raise TooLargeError(msg)
