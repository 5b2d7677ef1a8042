"""Streaming a workspace as an uncompressed tar."""

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
# Small files are joined, because each piece is one write on the connection to the daemon.
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
    """Yield a tar of a workspace in GNU format, in pieces of at most 1 MiB.

    Args:
        entries: its entries, with digests.
        prefix: the folder in the tar for the entries; it has no entry itself.
        uid: owner of the entries.
        gid: group of the entries.
        extra: path in the tar to content of further files, owned by root and readable by all; they
            replace entries with the same path.
        on_bytes: called with the length of each piece in bytes, before it is yielded.

    Raises:
        WorkspaceError: a file cannot be read, or has changed since it was hashed.
    """
    buffer: list[bytes] = []
    size_bytes = 0
    for part in _parts(entries, prefix.strip("/"), (uid, gid), extra):
        buffer.append(part)
        size_bytes += len(part)
        if size_bytes >= _PIECE_BYTES:
            on_bytes(size_bytes)
            yield b"".join(buffer)
            buffer, size_bytes = [], 0
    on_bytes(size_bytes)
    yield b"".join(buffer)


def header(entry: Entry, name: str, owner: tuple[int, int]) -> bytes:
    """Return the tar header of an entry; ``name`` is its path in the tar."""
    info = tarfile.TarInfo(name)
    info.type = _TYPES[entry.kind]
    info.mode = entry.mode
    info.uid, info.gid = owner
    info.size = entry.size_bytes
    info.mtime = mtime_s(entry.digest) if entry.kind == "file" else _1980_S
    info.linkname = entry.link
    return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


def mtime_s(digest: str) -> int:
    """Return a modification time derived from a file's content, between 1980 and 2020.

    Python considers a ``.pyc`` valid if it has the size and time of its source, so a file with
    other content than the base image's needs another time. The same content has the same time on
    each host, which keeps layers identical.
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
