"""A workspace as an uncompressed tar, made piece by piece."""

from __future__ import annotations

import hashlib
import tarfile
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from airflow_torchx.workspace.content import changed, pieces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from airflow_torchx.core.workspace.tree import Entry

_BLOCK_BYTES: Final = tarfile.BLOCKSIZE
# Small files travel together: a piece is a write on the connection to the daemon.
_PIECE_BYTES: Final = 512 << 10
_TYPES: Final = {"file": tarfile.REGTYPE, "dir": tarfile.DIRTYPE, "link": tarfile.SYMTYPE}
_1980_S: Final = 315_532_800
_2020_S: Final = 1_577_836_800
_NO_EXTRA: Final[Mapping[str, bytes]] = MappingProxyType({})


def tar_stream(
    entries: Iterable[Entry],
    *,
    prefix: str = "",
    uid: int = 0,
    gid: int = 0,
    extra: Mapping[str, bytes] = _NO_EXTRA,
    on_bytes: Callable[[int], None],
) -> Iterator[bytes]:
    """Yield a tar of a workspace in GNU format, in pieces of 1 MiB at most.

    Args:
        entries: what is in it, with digests.
        prefix: the folder in the tar that they lie in; it has no entry of its own.
        uid: who owns them.
        gid: the group that owns them.
        extra: path in the tar to content: regular files of root's that all may read. One that has
            the path of an entry takes its place.
        on_bytes: called with the length of each piece in bytes, before it is yielded.

    Raises:
        WorkspaceError: a file cannot be read, or is not what it was when it was hashed.
    """
    held: list[bytes] = []
    size_bytes = 0
    for part in _parts(entries, prefix.strip("/"), (uid, gid), extra):
        held.append(part)
        size_bytes += len(part)
        if size_bytes >= _PIECE_BYTES:
            on_bytes(size_bytes)
            yield b"".join(held)
            held, size_bytes = [], 0
    on_bytes(size_bytes)
    yield b"".join(held)


def header(entry: Entry, name: str, owner: tuple[int, int]) -> bytes:
    """Return what stands before an entry's content.

    Args:
        entry: what it is.
        name: its path in the tar.
        owner: user and group id.
    """
    info = tarfile.TarInfo(name)
    info.type = _TYPES[entry.kind]
    info.mode = entry.mode
    info.uid, info.gid = owner
    info.size = entry.size_bytes
    info.mtime = mtime_s(entry.digest) if entry.kind == "file" else _1980_S
    info.linkname = entry.link
    return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


def mtime_s(digest: str) -> int:
    """Return the modification time of a file, in seconds since 1970: from 1980 to 2020.

    Python takes a ``.pyc`` for fresh when it names the size and the time of its source. So a file
    that differs from the base image's must differ in time as well, even if a clock says otherwise;
    and the same file has the same time on every host, which keeps its layer the same.

    Args:
        digest: of its content, in hex.
    """
    return _1980_S + int(digest, 16) % (_2020_S - _1980_S)


def _parts(
    entries: Iterable[Entry], prefix: str, owner: tuple[int, int], extra: Mapping[str, bytes]
) -> Iterator[bytes]:
    replaced = {path.strip("/") for path in extra}
    for entry in entries:
        name = "/".join(filter(None, (prefix, entry.path))) or "."
        if name not in replaced:
            yield header(entry, name, owner)
            if entry.kind == "file":
                yield from _content(entry)
    for path, content in extra.items():
        info = tarfile.TarInfo(path.strip("/"))
        info.size = len(content)
        info.mtime = mtime_s(hashlib.sha256(content).hexdigest())
        yield info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
        yield from (
            content[begin : begin + _PIECE_BYTES] for begin in range(0, len(content), _PIECE_BYTES)
        )
        yield bytes(-len(content) % _BLOCK_BYTES)
    yield bytes(2 * _BLOCK_BYTES)


def _content(entry: Entry) -> Iterator[bytes]:
    digest = hashlib.sha256()
    for piece in pieces(entry.source, entry.size_bytes):
        digest.update(piece)
        yield piece
    if digest.hexdigest() != entry.digest:
        raise changed(entry.source)
    yield bytes(-entry.size_bytes % _BLOCK_BYTES)
