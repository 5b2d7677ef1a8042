"""The files of fake images and containers."""

from __future__ import annotations

import io
import posixpath
import tarfile
from typing import TYPE_CHECKING, Final, TypeAlias

from airflow_torchx.core.engine.files import TooLargeError
from airflow_torchx.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Content of a file, target of a link, or None for a folder.
Content: TypeAlias = bytes | str | None

#: The folders of every image.
FOLDERS: Final[Mapping[str, Content]] = {"/": None, "/etc": None}


def absolute(path: str) -> str:
    """Return a normalized absolute path."""
    return posixpath.normpath(f"/{path.lstrip('/')}")


def overlay(below: Mapping[str, Content], above: Mapping[str, Content]) -> dict[str, Content]:
    """Return the files of two layers; a file or link replaces a folder and its contents."""
    found = dict(below)
    for path, content in above.items():
        _put(found, path, content)
    return found


def _put(files: dict[str, Content], path: str, content: Content, *, replace: bool = True) -> None:
    if not replace and (files.get(path, content) is None) is not (content is None):
        what = f"cannot overwrite {path}: one of both is a folder, and the other one is not."
        raise EngineError(what, fix="Move it away.", status=500)
    if content is not None and files.get(path, content) is None:
        for inner in [inner for inner in files if inner.startswith(f"{path}/")]:
            del files[inner]
    files[path] = content
    while (path := posixpath.dirname(path)) not in files:
        files[path] = None


def unpack(
    archive: bytes, below: Mapping[str, Content] = FOLDERS, *, replace: bool = True
) -> dict[str, Content]:
    """Return the contents of a tar by absolute path, unpacked over other files.

    Raises:
        EngineError: it is not a valid tar, or without ``replace``, a folder would replace a file or
            a link, or the other way round.
    """
    found = dict(below)
    if not archive:
        return found
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as tar:
            for member in tar:
                path = absolute(member.name)
                if member.isdir() or member.issym():
                    target = member.linkname if member.issym() else None
                    _put(found, path, target, replace=replace)
                elif content := tar.extractfile(member):
                    _put(found, path, content.read(), replace=replace)
    except tarfile.TarError as error:
        what = f"cannot unpack the files: {error}."
        raise EngineError(what, fix="Send an uncompressed tar.", status=500) from error
    return found


def pack(files: Mapping[str, Content], top: str) -> bytes:
    """Return a tar of a path and of all below it; the names start with its last part."""
    buffer, above = io.BytesIO(), posixpath.dirname(top).rstrip("/")
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path, content in sorted(files.items()):
            if path != top and not path.startswith(f"{top.rstrip('/')}/"):
                continue
            entry = tarfile.TarInfo(path.removeprefix(f"{above}/") or "/")
            if isinstance(content, bytes):
                entry.size = len(content)
            else:
                entry.type = tarfile.DIRTYPE if content is None else tarfile.SYMTYPE
                entry.linkname = content or ""
            tar.addfile(entry, io.BytesIO(content) if isinstance(content, bytes) else None)
    return buffer.getvalue()


def read(files: Mapping[str, Content], path: str, max_bytes: int) -> bytes | None:
    """Return the content of a file; None if it does not exist.

    Raises:
        ValueError: it is a folder or a link, or is larger than ``max_bytes``.
    """
    path = absolute(path)
    content = files.get(path, b"")
    if content is None or isinstance(content, str):
        msg = f"{path} is not a regular file but a {'link' if content else 'folder'}"
        raise ValueError(msg)
    if len(content) > max_bytes:
        msg = f"{path} has {len(content)} bytes, more than the limit of {max_bytes}"
        raise TooLargeError(msg)
    return content if path in files else None
