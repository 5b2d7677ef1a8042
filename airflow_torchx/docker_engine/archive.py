"""One file out of the tar archive in which the Engine hands out a path of a container."""

from __future__ import annotations

import tarfile
from typing import IO, Any


def read_sole_file(archive: IO[Any], path: str, max_bytes: int) -> bytes:
    """Return the content of the only file of an archive, reading no more than that.

    Args:
        archive: the archive; only its ``read`` is used.
        path: what was asked for, for the message.
        max_bytes: the most that is read.

    Raises:
        ValueError: it is no regular file (a symbolic link is none either), or a larger one.
        ConnectionResetError: the archive ends in the middle.
    """
    try:
        with tarfile.open(fileobj=archive, mode="r|") as tar:
            member = tar.next()
            _check(member, path, max_bytes)
            content = tar.extractfile(member) if member else None
            return content.read() if content else b""
    except tarfile.ReadError as error:
        msg = "it ended in the middle"
        raise ConnectionResetError(msg) from error


def _check(member: tarfile.TarInfo | None, path: str, max_bytes: int) -> None:
    if member is None or not member.isreg():
        kind = "symbolic link" if member and member.issym() else "folder or a device"
        msg = f"{path} is no regular file but a {kind}; name the file itself"
        raise ValueError(msg)
    if member.size > max_bytes:
        msg = f"{path} has {member.size:,} bytes, more than the {max_bytes:,} that may be read"
        raise ValueError(msg)
