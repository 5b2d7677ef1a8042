"""The files of fake images and containers."""

from __future__ import annotations

import io
import posixpath
import tarfile
from typing import TYPE_CHECKING, Final, TypeAlias

from airflow_torchx.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Mapping

#: What lies at a path: the content of a file, the target of a link, None for a folder.
Content: TypeAlias = bytes | str | None

#: What is in every image.
FOLDERS: Final[Mapping[str, Content]] = {"/": None, "/etc": None}


def absolute(path: str) -> str:
    """Return a path from the root, without dots and doubled slashes."""
    return posixpath.normpath(f"/{path.lstrip('/')}")


def laid_over(below: Mapping[str, Content], above: Mapping[str, Content]) -> dict[str, Content]:
    """Return the files of a layer on those below: only a folder keeps what was in it."""
    found = dict(below)
    for path, content in above.items():
        _lay(found, path, content)
    return found


def _lay(files: dict[str, Content], path: str, content: Content) -> None:
    if content is not None and files.get(path, content) is None:
        for inner in [inner for inner in files if inner.startswith(f"{path}/")]:
            del files[inner]
    files[path] = content
    while (path := posixpath.dirname(path)) not in files:
        files[path] = None


def unpack(archive: bytes) -> dict[str, Content]:
    """Return what a tar holds, by its paths from the root.

    Raises:
        EngineError: it is none.
    """
    found = dict(FOLDERS)
    if not archive:
        return found
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as tar:
            for member in tar:
                path = absolute(member.name)
                if member.isdir() or member.issym():
                    _lay(found, path, member.linkname if member.issym() else None)
                elif content := tar.extractfile(member):
                    _lay(found, path, content.read())
    except tarfile.TarError as error:
        what = f"cannot unpack the files: {error}."
        raise EngineError(what, fix="Send an uncompressed tar.", status=500) from error
    return found


def read(files: Mapping[str, Content], path: str, max_bytes: int) -> bytes | None:
    """Return the content of a file, None if there is none.

    Raises:
        ValueError: it is a folder or a link, or larger than ``max_bytes``.
    """
    path = absolute(path)
    content = files.get(path, b"")
    if content is None or isinstance(content, str):
        msg = f"{path} is no regular file but a {'link' if content else 'folder'}"
        raise ValueError(msg)
    if len(content) > max_bytes:
        msg = f"{path} has {len(content)} bytes, more than {max_bytes}"
        raise ValueError(msg)
    return content if path in files else None
