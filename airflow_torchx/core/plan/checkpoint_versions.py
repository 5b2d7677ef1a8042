"""The versions of an app's checkpoints in an object storage, and which one a daemon has.

Below the folder of an app, each upload has a folder of its own, ``v00000007-1f0c29ab``. The file
``latest``, the pointer, names one of them, and all its files. A file in the volume, the marker,
names the version that the volume continues.
"""

from __future__ import annotations

import json
import posixpath
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

from airflow_torchx.core.plan.checkpoints import ROOT, is_storage

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

#: The pointer, and a copy that is written before it: one of both is whole at any time.
POINTER: Final = "latest"
POINTER_COPY: Final = "latest.new"
#: The file in the folder of the replicas that names the version in it.
MARKER: Final = ".airflow-torchx-version"
#: Raised if a later release cannot be read by this one.
FORMAT: Final = 1

_FOLDER: Final = re.compile(r"v(\d{8,})-[0-9a-f]+")
# Docker cuts times to seconds, and the clock may be set meanwhile.
_SETTLED_S: Final = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Version:
    """One version: a number that grows, and an id, which differs if two uploads take one number."""

    number: int
    id: str

    @property
    def folder(self) -> str:
        """The name of its folder."""
        return f"v{self.number:08d}-{self.id}"

    def to_json(self) -> dict[str, Any]:
        """Return the marker as JSON data."""
        return {"format": FORMAT, "version": self.number, "id": self.id}

    @classmethod
    def parse(cls, data: bytes) -> Self | None:
        """Return the version in a marker; None if it cannot be read."""
        try:
            found = json.loads(data)
            return cls(number=int(found["version"]), id=str(found["id"]))
        except (ValueError, TypeError, KeyError):
            return None


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredFile:
    """The size of a file, and its time in seconds since 1970.

    The time is None if the file was written so shortly before it was read that a later change may
    leave the same time.
    """

    size: int
    mtime: int | None

    @classmethod
    def seen(cls, size: int, mtime_s: float, read_at: datetime) -> Self:
        """Return a file as it was found at a time of the daemon."""
        is_settled = mtime_s < read_at.timestamp() - _SETTLED_S
        return cls(size=size, mtime=int(mtime_s) if is_settled else None)

    def is_same(self, other: StoredFile | None) -> bool:
        """Return whether the other one has the same content, as far as size and time tell."""
        return other is not None and self.mtime is not None and self == other


@dataclass(frozen=True, kw_only=True, slots=True)
class Pointer:
    """What the storage has: a version with all its files, by relative path, and its time."""

    version: Version
    files: Mapping[str, StoredFile] = field(default_factory=dict)
    time: str = ""

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Return a stored pointer.

        Raises:
            ValueError: it is not complete, or another release wrote it in another format.
        """
        try:
            found = json.loads(data)
            if found["format"] != FORMAT:
                msg = f"format {found['format']!r} is not known"
                raise ValueError(msg)
            version = Version(number=int(found["version"]), id=str(found["id"]))
            files = {path: StoredFile(**one) for path, one in found["files"].items()}
        except (TypeError, KeyError, AttributeError) as error:
            msg = f"a field is missing or wrong: {error}"
            raise ValueError(msg) from error
        if not _FOLDER.fullmatch(version.folder) or not all(map(is_inside, files)):
            msg = "it names a path outside its folder"
            raise ValueError(msg)
        return cls(version=version, files=files, time=str(found.get("time", "")))

    def to_json(self) -> bytes:
        """Return the pointer as it is stored."""
        files = {
            path: {"size": one.size, "mtime": one.mtime} for path, one in sorted(self.files.items())
        }
        data = {**self.version.to_json(), "time": self.time, "files": files}
        return json.dumps(data, indent=1).encode()


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredCheckpoints:
    """Where the checkpoints of an app are stored, as the labels of its containers say.

    Args:
        url: the URL of the option.
        scope: the app's folder below it.
        folder: the same folder in the replicas.
        interval_s: seconds between two uploads.
    """

    url: str
    scope: str
    folder: str
    interval_s: float

    @property
    def name(self) -> str:
        """The URL of the app's folder."""
        return posixpath.join(self.url, self.scope)


def is_inside(path: str) -> bool:
    """Return whether a relative path stays in its folder."""
    return bool(path) and not {"", ".", ".."} & set(path.split("/")) and "\0" not in path


def must_fetch(pointer: Pointer | None, marker: Version | None) -> bool:
    """Return whether the storage has a version that the volume does not continue."""
    if pointer is None:
        return False
    stored = pointer.version
    if marker is None or stored.number > marker.number:
        return True
    return stored.number == marker.number and stored.id != marker.id


def next_number(pointer: Pointer | None, marker: Version | None) -> int:
    """Return the number of the next version."""
    known = [one.number for one in (pointer and pointer.version, marker) if one]
    return max(known, default=0) + 1


def outdated(folders: list[str], kept: Version, before: Version | None) -> list[str]:
    """Return the folders to remove once ``kept`` is stored after ``before``.

    That one is kept for a reader that has just read the pointer. An upload of another process may
    have a higher number, or one of the same.
    """
    least = kept.number if before is None else before.number
    known = {name: match for name in folders if (match := _FOLDER.fullmatch(name))}
    return [name for name, match in known.items() if int(match[1]) < least]


def stored_checkpoints(
    url: str | None, scope: str | None, interval: str | None
) -> StoredCheckpoints | None:
    """Return where checkpoints are stored, by the values of labels; None without a URL."""
    if url is None or scope is None or interval is None or not is_storage(url):
        return None
    folder = posixpath.join(ROOT, scope)
    return StoredCheckpoints(url=url, scope=scope, folder=folder, interval_s=float(interval))
