"""The content of files: read once, hashed, and never of a file that changes meanwhile."""

from __future__ import annotations

import errno
import hashlib
import os
from typing import TYPE_CHECKING, Final

from airflow_torchx.concurrency.parallel import StopRequested, map_concurrently
from airflow_torchx.errors import WorkspaceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from airflow_torchx.core.workspace.tree import Entry

# A link or a FIFO may have taken the place of the file: it is neither followed nor waited for.
_FLAGS: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
# Of a .dockerignore or a Dockerfile; it is held in memory, several times over.
_SMALL_BYTES: Final = 16 << 20
_PIECE_BYTES: Final = 256 << 10
# 2,000 files of 25 KB on 2 cores: 128 files a call and 2 threads take 0.8 of the time of a plain
# loop, 32 files a call as long as that, a call per file twice as long; 8 threads are slower than 2.
_FILES_AT_ONCE: Final = 128
_BYTES_AT_ONCE: Final = 8 << 20
_MOST_CALLS: Final = 512


def unreadable(path: str, why: OSError) -> WorkspaceError:
    """Return the error of a path that cannot be read."""
    if isinstance(why, FileNotFoundError):
        what = f"{path!r} vanished while the workspace was read."
        return WorkspaceError(what, fix="Run again when nothing writes to the workspace.")
    what = f"{path!r} in the workspace cannot be read: {why.strerror}."
    fix = "Make it readable for the user of this process, or name it in .dockerignore."
    return WorkspaceError(what, fix=fix)


def changed(path: str) -> WorkspaceError:
    """Return the error of a file that is not what it was."""
    what = f"{path!r} in the workspace changed while it was read."
    return WorkspaceError(what, fix="Run again when nothing writes to the workspace.")


def whole(path: str) -> bytes:
    """Return the content of a small file.

    Raises:
        WorkspaceError: it cannot be read, or is so large that it cannot be what was meant.
    """
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - paths are texts here
            content = file.read(_SMALL_BYTES + 1)
    except OSError as why:
        raise unreadable(path, why) from why
    if len(content) > _SMALL_BYTES:
        what = f"{path!r} in the workspace is larger than {_SMALL_BYTES >> 20} MiB."
        raise WorkspaceError(what, fix="It is read as a text: look what was written into it.")
    return content


def pieces(path: str, size_bytes: int) -> Iterator[bytes]:
    """Yield a file's content in pieces of 256 KiB at most, never more than it shall have.

    Args:
        path: the file.
        size_bytes: how long it shall be.

    Raises:
        WorkspaceError: it cannot be read, or is shorter or longer than that.
    """
    try:
        fd = os.open(path, _FLAGS)
        try:
            left = size_bytes
            # One byte more than is left shows a file that grew, and in one call that it did not.
            while piece := os.read(fd, min(_PIECE_BYTES, left + 1)):
                left -= len(piece)
                if left < 0:
                    raise changed(path)
                yield piece
                if not left and len(piece) < _PIECE_BYTES:
                    break
        finally:
            os.close(fd)
    except OSError as why:
        raise (changed(path) if why.errno == errno.ELOOP else unreadable(path, why)) from why
    if left:
        raise changed(path)


def digests(files: Sequence[Entry], *, should_stop: Callable[[], bool]) -> list[str]:
    """Return the SHA-256 of every file's content, in hex and in their order.

    Raises:
        WorkspaceError: a file cannot be read, or its size is not that of its entry.
        StopRequested: ``should_stop`` returned True; it is asked ten times a second.
    """
    groups = list(_groups(files))

    def of_group(group: Sequence[Entry]) -> list[str]:
        return [_digest(file, should_stop) for file in group]

    threads = min(4, os.cpu_count() or 1)
    found = map_concurrently(of_group, groups, threads=threads, should_stop=should_stop)
    return [digest for group in found for digest in group]


def _groups(files: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    """Yield runs of files, each worth a call: not too many, and not too long ones."""
    most = max(_FILES_AT_ONCE, len(files) // _MOST_CALLS)
    begin = size_bytes = 0
    for position, file in enumerate(files):
        size_bytes += file.size_bytes
        if position - begin + 1 >= most or size_bytes >= _BYTES_AT_ONCE:
            yield files[begin : position + 1]
            begin, size_bytes = position + 1, 0
    if begin < len(files):
        yield files[begin:]


def _digest(file: Entry, should_stop: Callable[[], bool]) -> str:
    digest = hashlib.sha256()
    for position, piece in enumerate(pieces(file.source, file.size_bytes)):
        # A group has small files only, or ends with the one that is not.
        if position and should_stop():
            raise StopRequested
        digest.update(piece)
    return digest.hexdigest()
