"""Streaming a workspace as a tar."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from airflow_torchx.core.workspace.tree import Entry
from airflow_torchx.errors import WorkspaceError
from airflow_torchx.workspace.context import header, mtime_s, tar_stream
from airflow_torchx.workspace.tree import Project, Tree, read_tree

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

MIB = 1 << 20


def read(root: Path) -> Tree:
    """Read a workspace with one folder."""
    return read_tree([Project(root)], should_stop=lambda: False)


def ignore_count(_: int) -> None:
    """Ignore a count of bytes."""


def unpacked(pieces: Iterable[bytes]) -> list[tarfile.TarInfo]:
    """Return the members of a tar."""
    with tarfile.open(
        fileobj=io.BytesIO(b"".join(pieces)), encoding="utf-8", errors="surrogateescape"
    ) as tar:
        return tar.getmembers()


def test_members(tmp_path: Path) -> None:
    """A tar has files, folders and links with their modes and the given owner."""
    (tmp_path / "a").mkdir(mode=0o750)
    (tmp_path / "a/run.sh").write_bytes(b"#!/bin/sh\n")
    (tmp_path / "a/run.sh").chmod(0o4755)
    (tmp_path / "link").symlink_to("../outside")

    pieces = tar_stream(
        read(tmp_path).entries, prefix="/srv/app/", uid=7, gid=8, on_bytes=ignore_count
    )
    members = unpacked(pieces)

    assert [
        ("srv/app/a", tarfile.DIRTYPE, 0o750, 0, ""),
        ("srv/app/a/run.sh", tarfile.REGTYPE, 0o4755, 10, ""),
        ("srv/app/link", tarfile.SYMTYPE, 0o777, 0, "../outside"),
    ] == [(m.name, m.type, m.mode, m.size, m.linkname) for m in members]
    assert {(7, 8)} == {(m.uid, m.gid) for m in members}


@pytest.mark.parametrize(("prefix", "expected"), [("", "."), ("srv/app", "srv/app")])
def test_the_workspace_itself(prefix: str, expected: str) -> None:
    """An entry without a path is the folder that contains all others."""
    root = Entry(path="", kind="dir", mode=0o755)

    assert [expected] == [
        m.name for m in unpacked(tar_stream([root], prefix=prefix, on_bytes=ignore_count))
    ]


def test_extra_files(tmp_path: Path) -> None:
    """Extra files come last, belong to root, and replace entries with the same path."""
    (tmp_path / "b").write_text("old")
    (tmp_path / "c").write_text("c")
    extra = {"/b": b"new", "other/big": bytes(3 * MIB)}

    pieces = list(
        tar_stream(read(tmp_path).entries, uid=7, gid=7, extra=extra, on_bytes=ignore_count)
    )

    assert [("c", 1, 7, 0o644), ("b", 3, 0, 0o644), ("other/big", 3 * MIB, 0, 0o644)] == [
        (m.name, m.size, m.uid, m.mode) for m in unpacked(pieces)
    ]
    assert max(map(len, pieces)) <= MIB


def test_content_comes_in_pieces(tmp_path: Path) -> None:
    """Small files are joined to one piece, a large file is split, and all bytes are counted."""
    for number in range(100):
        (tmp_path / f"{number:03}").write_bytes(bytes([number]) * 100)
    (tmp_path / "big").write_bytes(os.urandom(3 * MIB))
    counts: list[int] = []

    pieces = list(tar_stream(read(tmp_path).entries, on_bytes=counts.append))
    packed = io.BytesIO(b"".join(pieces))

    assert counts == [len(piece) for piece in pieces]
    assert 4 <= len(pieces) <= 12
    assert max(counts) <= MIB
    with tarfile.open(fileobj=packed) as tar:
        for item in tar:
            content = tar.extractfile(item)
            assert content is not None
            assert (tmp_path / item.name).read_bytes() == content.read()


@pytest.mark.parametrize(
    "name", [b"\xff\xfe", b"caf\xe9" * 40, b"n" * 101, b"d/" * 200 + b"n" * 255, "ü".encode() * 99]
)
def test_names(tmp_path: Path, name: bytes) -> None:
    """Names can have any bytes and any length."""
    path = os.fsdecode(os.fsencode(tmp_path) + b"/" + name)
    os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120 - names of any bytes
    with open(path, "wb"):  # noqa: PTH123 - as above
        pass
    os.symlink(os.fsdecode(name), os.fsencode(tmp_path) + b"/zz")  # noqa: PTH211 - as above

    members = unpacked(tar_stream(read(tmp_path).entries, on_bytes=ignore_count))

    assert name in [os.fsencode(m.name) for m in members]
    assert [name] == [os.fsencode(m.linkname) for m in members if m.issym()]


def test_header_of_a_huge_file() -> None:
    """A file may exceed the 8 GiB limit of the old tar format."""
    huge = Entry(path="huge", kind="file", mode=0o644, size_bytes=20 << 30, digest="ab" * 32)

    info = tarfile.TarInfo.frombuf(header(huge, "huge", (0, 0)), "utf-8", "strict")

    assert 20 << 30 == info.size


def test_times_follow_content(tmp_path: Path) -> None:
    """The modification time depends only on the content, and is long ago."""
    for name, content in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        (tmp_path / name).write_bytes(content)
    os.utime(tmp_path / "a", (0, 0))

    times = [m.mtime for m in unpacked(tar_stream(read(tmp_path).entries, on_bytes=ignore_count))]

    assert times[0] == times[1] != times[2]
    assert [True] * 3 == [315532800 <= time < 1577836800 for time in times]


@pytest.mark.parametrize(("digest", "expected"), [("00", 315532800), ("4b3d3b00", 315532800)])
def test_range_of_times(digest: str, expected: int) -> None:
    """Modification times are between the beginning of 1980 and the end of 2019."""
    assert expected == mtime_s(digest)
    assert 1577836799 == mtime_s("4b3d3aff")


def test_empty_tar() -> None:
    """An empty tar has the two zero blocks that end a tar."""
    assert [bytes(1024)] == list(tar_stream([], on_bytes=ignore_count))


@pytest.mark.parametrize(
    ("content", "error"),
    [(b"other", "changed"), (b"long" * 9, "changed"), (b"", "changed"), (None, "deleted")],
)
def test_changed_file(tmp_path: Path, content: bytes | None, error: str) -> None:
    """A file that has changed since it was hashed raises an error."""
    (tmp_path / "file").write_bytes(b"bytes")
    tree = read(tmp_path)
    if content is None:
        (tmp_path / "file").unlink()
    else:
        (tmp_path / "file").write_bytes(content)

    with pytest.raises(WorkspaceError, match=f"file' .*{error} while .*read") as caught:
        list(tar_stream(tree.entries, on_bytes=ignore_count))

    assert "Run again" in caught.value.fix


def test_file_that_becomes_a_link(tmp_path: Path) -> None:
    """A file that was replaced by a symbolic link is not followed."""
    (tmp_path / "file").write_bytes(b"bytes")
    (tmp_path / "other").write_bytes(b"bytes")
    tree = read(tmp_path)
    (tmp_path / "file").unlink()
    (tmp_path / "file").symlink_to("other")

    with pytest.raises(WorkspaceError, match="changed"):
        list(tar_stream(tree.entries, on_bytes=ignore_count))


def test_tar_is_reproducible(tmp_path: Path) -> None:
    """The tar does not depend on the time or the host."""
    for number in range(5):
        (tmp_path / f"{number}").write_bytes(os.urandom(number * 700))
    entries = read(tmp_path).entries
    tars = {
        hashlib.sha256(b"".join(tar_stream(entries, on_bytes=ignore_count))).digest()
        for _ in range(2)
    }

    assert 1 == len(tars)
    assert all(a.path < b.path for a, b in pairwise(entries))
