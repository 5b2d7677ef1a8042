"""Copies the checkpoints of an app between the volume of its replicas and an object storage."""

from __future__ import annotations

import contextlib
import itertools
import json
import secrets
import tarfile
import time
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING, Final, cast

from airflow_torchx.concurrency.parallel import StopRequested
from airflow_torchx.core.plan.checkpoint_versions import (
    MARKER,
    Pointer,
    StoredFile,
    Version,
    is_inside,
    must_fetch,
    next_number,
)
from airflow_torchx.errors import CheckpointError, EngineError, EngineNotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_torchx.core.engine.protocol import ByteStream, Engine
    from airflow_torchx.core.plan.checkpoint_versions import StoredCheckpoints
    from airflow_torchx.runtime.checkpoint_storage import CheckpointStorage

_BLOCK_BYTES: Final = 1 << 20
_RECORD_BYTES: Final = 512
_MARKER_BYTES: Final = 4096
# Any user of an image, who is not root, replaces and removes the files.
_FILE_MODE: Final = 0o666
_FOLDER_MODE: Final = 0o777
# A writer may remove a version that a slow reader has found.
_ATTEMPTS: Final = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Uploaded:
    """What an upload has done.

    Args:
        version: the new version; None if nothing had changed.
        files: number of its files.
        copied_bytes: how much was read from the volume.
        skipped: paths that are not regular files.
    """

    version: Version | None
    files: int
    copied_bytes: int
    skipped: tuple[str, ...]


def fetch(
    engine: Engine,
    container_id: str,
    stored: StoredCheckpoints,
    storage: CheckpointStorage,
    should_stop: Callable[[], bool],
) -> Pointer | None:
    """Make the folder of a container that has not started a copy of what is stored.

    Nothing is done if the volume continues the stored version, or if nothing is stored; then it
    returns None.

    Raises:
        CheckpointError: the storage cannot be read, or is not complete.
        StopRequested: ``should_stop`` returned True; the next fetch starts again.
    """
    for attempt in itertools.count(1):
        pointer = storage.pointer()
        if pointer is None:
            return None
        marker = read_marker(engine, container_id, stored)
        if not must_fetch(pointer, marker) and _has_files(engine, container_id, stored):
            return None
        try:
            storage.check(pointer)
            tar = _tar(pointer, stored, storage, should_stop)
            engine.images.put_files(container_id, tar)
        except CheckpointError:
            if attempt == _ATTEMPTS or storage.pointer() == pointer:
                raise
        else:
            return pointer
    raise AssertionError


def upload(
    engine: Engine,
    container_id: str,
    stored: StoredCheckpoints,
    storage: CheckpointStorage,
    should_stop: Callable[[], bool],
) -> Uploaded:
    """Upload the folder of a container, running or not, as a new version if it has changed.

    Files with the same size and time as in the stored version are copied within the storage. A
    reader finds the version before until all files of the new one are there.

    Raises:
        CheckpointError: the storage refuses it.
        EngineError: the folder cannot be read.
        StopRequested: ``should_stop`` returned True.
    """
    before = storage.pointer()
    marker = read_marker(engine, container_id, stored)
    version = Version(number=next_number(before, marker), id=secrets.token_hex(4))
    copier = _Copier(storage, before, version, engine.info().system_time or datetime.now(UTC))
    try:
        with closing(engine.archive(container_id, stored.folder)) as stream:
            copier.read(Reader(stream, should_stop))
        if not copier.is_changed:
            return copier.result(None)
        copier.copy_rest()
        # The marker first: a volume whose marker is too old would be overwritten.
        _put_marker(engine, container_id, stored, version)
        storage.publish(copier.pointer)
    except BaseException:
        with contextlib.suppress(CheckpointError):
            if storage.pointer() in (None, before):
                storage.remove(version)
        raise
    storage.remove_outdated(version, before.version if before else None)
    return copier.result(version)


def read_marker(engine: Engine, container_id: str, stored: StoredCheckpoints) -> Version | None:
    """Return the version that the volume continues; None if that is unknown."""
    try:
        path = f"{stored.folder}/{MARKER}"
        return Version.parse(engine.read_file(container_id, path, _MARKER_BYTES))
    except (EngineNotFoundError, ValueError):
        return None


def _put_marker(
    engine: Engine, container_id: str, stored: StoredCheckpoints, version: Version
) -> None:
    data = json.dumps(version.to_json()).encode()
    path = f"{stored.folder}/{MARKER}".lstrip("/")
    tar = [_header(path, size=len(data)), data, _padding(len(data)), bytes(2 * _RECORD_BYTES)]
    engine.images.put_files(container_id, tar)


def _has_files(engine: Engine, container_id: str, stored: StoredCheckpoints) -> bool:
    """Return whether the folder has a file besides the marker."""
    with closing(engine.archive(container_id, stored.folder)) as stream:
        reader = Reader(stream, lambda: False)
        with tarfile.open(fileobj=cast("IO[bytes]", reader), mode="r|") as tar:
            return any(one.isreg() and not one.name.endswith(f"/{MARKER}") for one in tar)


def _tar(
    pointer: Pointer,
    stored: StoredCheckpoints,
    storage: CheckpointStorage,
    should_stop: Callable[[], bool],
) -> Iterator[bytes]:
    """Yield a tar that replaces the folder by the files of a version, and ends with the marker."""
    folder, now = stored.folder.lstrip("/"), int(time.time())
    # A file replaces a folder with its contents, which may be of another version.
    yield _header(folder, size=0)
    for inner in ("", *_folders(pointer)):
        yield _header(f"{folder}/{inner}".rstrip("/"), is_folder=True, mtime=now)
    for path, one in pointer.files.items():
        yield _header(f"{folder}/{path}", size=one.size, mtime=one.mtime or now)
        read = 0
        with storage.errors(f"read {path!r} of"), storage.open_file(pointer.version, path) as file:
            while block := file.read(min(_BLOCK_BYTES, one.size - read)):
                if should_stop():
                    raise StopRequested
                read += len(block)
                yield block
        if read < one.size:
            raise CheckpointError(f"{path!r} in {storage.name} ends early.", fix="Restore it.")
        yield _padding(one.size)
    data = json.dumps(pointer.version.to_json()).encode()
    yield from (_header(f"{folder}/{MARKER}", size=len(data)), data, _padding(len(data)))
    yield bytes(2 * _RECORD_BYTES)


def _folders(pointer: Pointer) -> list[str]:
    """Return the folders of all files, outer ones first."""
    found = set()
    for path in pointer.files:
        parts = path.split("/")[:-1]
        found |= {"/".join(parts[: depth + 1]) for depth in range(len(parts))}
    return sorted(found)


def _header(path: str, *, size: int = 0, is_folder: bool = False, mtime: int = 0) -> bytes:
    entry = tarfile.TarInfo(path)
    entry.size, entry.mtime = size, mtime or int(time.time())
    entry.mode = _FOLDER_MODE if is_folder else _FILE_MODE
    entry.type = tarfile.DIRTYPE if is_folder else tarfile.REGTYPE
    return entry.tobuf(tarfile.PAX_FORMAT)


def _padding(size: int) -> bytes:
    return bytes(-size % _RECORD_BYTES)


class _Copier:
    """Copies the files of one archive into a new version."""

    def __init__(
        self, storage: CheckpointStorage, before: Pointer | None, version: Version, now: datetime
    ) -> None:
        self._storage = storage
        self._before = before
        self._version = version
        self._now = now
        self._files: dict[str, StoredFile] = {}
        #: What is copied within the storage, by path, in this order.
        self._sources: dict[str, tuple[Version, str]] = {}
        self._skipped: list[str] = []
        self._bytes = 0
        self._has_new = False

    @property
    def is_changed(self) -> bool:
        """Whether the archive has files, and others than the version before."""
        known = self._before.files.keys() if self._before else set()
        return bool(self._files) and (self._has_new or known != self._files.keys())

    @property
    def pointer(self) -> Pointer:
        """The pointer to the new version."""
        return Pointer(version=self._version, files=self._files, time=self._now.isoformat())

    def result(self, version: Version | None) -> Uploaded:
        """Return what was done."""
        return Uploaded(
            version=version,
            files=len(self._files),
            copied_bytes=self._bytes,
            skipped=tuple(self._skipped),
        )

    def read(self, reader: Reader) -> None:
        """Read the archive to its end, and upload the files that are new."""
        with (
            _archive_errors(),
            tarfile.open(fileobj=cast("IO[bytes]", reader), mode="r|", bufsize=_BLOCK_BYTES) as tar,
        ):
            for member in tar:
                path = member.name.partition("/")[2]
                if member.isdir() or path == MARKER:
                    continue
                if not self._add(tar, member, path):
                    self._skipped.append(path)

    def _add(self, tar: tarfile.TarFile, member: tarfile.TarInfo, path: str) -> bool:
        """Add one file; return False for what is not stored."""
        if not is_inside(path) or not _is_text(path):
            return False
        if member.islnk():
            return self._add_link(path, member.linkname.partition("/")[2])
        content = tar.extractfile(member) if member.isreg() else None
        if content is None:
            return False
        one = StoredFile.seen(member.size, member.mtime, self._now)
        self._files[path] = one
        if self._before is not None and one.is_same(self._before.files.get(path)):
            self._sources[path] = (self._before.version, path)
            return True
        self._has_new = True
        self._bytes += member.size
        self._storage.write(self._version, path, _blocks(content))
        return True

    def _add_link(self, path: str, target: str) -> bool:
        """Add a hard link to a file that came before."""
        if target not in self._files:
            return False
        one = self._files[path] = self._files[target]
        before = self._before.files.get(path) if self._before else None
        self._has_new = self._has_new or not one.is_same(before)
        self._sources[path] = (self._version, target)
        return True

    def copy_rest(self) -> None:
        """Copy the files that are not new within the storage."""
        for path, source in self._sources.items():
            self._storage.copy(source, (self._version, path))


def _blocks(content: IO[bytes]) -> Iterator[bytes]:
    with _archive_errors():
        while block := content.read(_BLOCK_BYTES):
            yield block


@contextlib.contextmanager
def _archive_errors() -> Iterator[None]:
    try:
        yield
    except tarfile.TarError as error:
        # A file that shrinks while the daemon reads it cuts the archive off.
        raise EngineError(f"the archive of the checkpoints is not complete: {error}.") from error


def _is_text(path: str) -> bool:
    try:
        return bool(path.encode())
    except UnicodeEncodeError:
        return False


class Reader:
    """Reads a stream of chunks like a file."""

    def __init__(self, stream: ByteStream, should_stop: Callable[[], bool]) -> None:
        self._chunks = iter(stream)
        self._should_stop = should_stop
        self._buffer = bytearray()

    def read(self, size: int) -> bytes:
        """Return so many bytes, less only at the end.

        Raises:
            StopRequested: ``should_stop`` returned True.
        """
        while len(self._buffer) < size:
            if self._should_stop():
                raise StopRequested
            chunk = next(self._chunks, b"")
            if not chunk:
                break
            self._buffer += chunk
        found = bytes(self._buffer[:size])
        del self._buffer[:size]
        return found
