"""Reading one file of a container."""

from __future__ import annotations

import io
import tarfile

import pytest

from airflow_torchx.docker_engine.archive import read_sole_file


def archive(kind: bytes = tarfile.REGTYPE, content: bytes = b"hello") -> bytes:
    """Return an archive with one member."""
    packed = io.BytesIO()
    member = tarfile.TarInfo("file")
    member.type, member.size = kind, len(content) if kind == tarfile.REGTYPE else 0
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def test_file() -> None:
    """A file of exactly the maximum size is read."""
    assert b"hello" == read_sole_file(io.BytesIO(archive()), "/file", 5)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (archive(), "/file has 5 bytes, more than the limit of 4"),
        (archive(tarfile.SYMTYPE), "/file is not a regular file but a symbolic link; give the"),
        (archive(tarfile.DIRTYPE), "/file is not a regular file but a folder or a device; give"),
        (bytes(10240), "/file is not a regular file but a folder or a device; give the path"),
    ],
)
def test_refused_members(data: bytes, expected: str) -> None:
    """Large files, links, folders and devices raise an error."""
    with pytest.raises(ValueError, match=expected):
        read_sole_file(io.BytesIO(data), "/file", 4)


def test_large_file_is_not_read() -> None:
    """A file above the maximum size is not read from the connection."""
    taken = io.BytesIO(archive(content=bytes(10 << 20)))

    with pytest.raises(ValueError, match="10,485,760 bytes"):
        read_sole_file(taken, "/file", 1000)

    assert taken.tell() <= 10240


@pytest.mark.parametrize("size", [0, 100, 512, 514])
def test_truncated_file(size: int) -> None:
    """A truncated archive raises an error instead of returning a shorter file."""
    with pytest.raises(ConnectionResetError):
        read_sole_file(io.BytesIO(archive()[:size]), "/file", 5)
