"""Checkpoints that are copied between a volume and an object storage, on the fake engine."""

from __future__ import annotations

import io
import itertools
import json
import tarfile
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from fsspec.implementations.local import LocalFileSystem  # type: ignore[import-untyped]

from airflow_torchx.concurrency.parallel import StopRequested
from airflow_torchx.core.engine.containers import ContainerSpec
from airflow_torchx.core.plan.checkpoint_versions import StoredCheckpoints, StoredFile
from airflow_torchx.errors import CheckpointError, EngineError
from airflow_torchx.hooks import object_storage
from airflow_torchx.runtime import checkpoint_sync
from airflow_torchx.runtime.checkpoint_storage import CheckpointStorage
from airflow_torchx.testing import FakeEngine, ManualClock
from airflow_torchx.testing.stream import FakeArchive

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.runtime.checkpoint_sync import Uploaded

FOLDER: Final = "/torchx/checkpoints/tasks/a/runs/b"
LARGE: Final = bytes(range(256)) * 10_000


class Daemon:
    """A daemon with one container, whose folder a test writes and reads."""

    def __init__(self, url: str) -> None:
        self.clock = ManualClock(1_700_000_000.0)
        self.engine = FakeEngine(images=["busybox"], clock=self.clock, sleep=self.clock.sleep)
        self.id = self.engine.create(
            ContainerSpec(
                role="a",
                replica=0,
                name="replica",
                image="busybox",
                entrypoint="sh",
                args=(),
                env={},
                labels={},
                network="none",
            )
        )
        self.stored = StoredCheckpoints(
            url=url, scope="tasks/a/runs/b", folder=FOLDER, interval_s=300.0
        )
        self.put({"": None})

    def put(self, files: Mapping[str, bytes | None]) -> None:
        """Write files, or a folder that is empty."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for path, content in files.items():
                entry = tarfile.TarInfo(f"{FOLDER}/{path}".strip("/"))
                entry.size = len(content or b"")
                entry.type = tarfile.DIRTYPE if content is None else tarfile.REGTYPE
                tar.addfile(entry, io.BytesIO(content or b""))
        self.engine.images.put_files(self.id, [buffer.getvalue()])

    def files(self) -> dict[str, bytes]:
        """Return the files of the folder without the marker."""
        with closing(self.engine.archive(self.id, FOLDER)) as stream:
            data = io.BytesIO(b"".join(stream))
        with tarfile.open(fileobj=data, mode="r:") as tar:
            found = {
                one.name.partition("/")[2]: content.read()
                for one in tar
                if one.isreg() and (content := tar.extractfile(one))
            }
        found.pop(".airflow-torchx-version", None)
        return found

    def storage(self, filesystem: Any = object_storage) -> CheckpointStorage:  # noqa: ANN401
        """Open the storage."""
        return CheckpointStorage(filesystem, self.stored)

    def upload(self, storage: CheckpointStorage | None = None) -> Uploaded:
        """Upload the folder."""
        own = storage or self.storage()
        return checkpoint_sync.upload(self.engine, self.id, self.stored, own, lambda: False)

    def is_killed(self, dying: Dying) -> bool:
        """Upload with a file system that may end the process, and return whether it did."""
        path = self.stored.url.removeprefix("file://")
        try:
            self.upload(self.storage(lambda _: (dying, path)))
        except Killed:
            return True
        return False

    def fetch(self, storage: CheckpointStorage | None = None) -> int | None:
        """Fetch what is stored; return the number of its version."""
        own = storage or self.storage()
        found = checkpoint_sync.fetch(self.engine, self.id, self.stored, own, lambda: False)
        return found.version.number if found else None


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Return a URL of a folder that does not exist yet."""
    return f"file://{tmp_path}/kept here"


@pytest.fixture
def daemon(url: str) -> Daemon:
    """Return the daemon of the first try."""
    return Daemon(url)


def at(url: str) -> Path:
    """Return the folder of the app in the storage."""
    return Path(url.removeprefix("file://")) / "tasks/a/runs/b"


def versions(url: str) -> list[str]:
    """Return the numbers of the stored versions."""
    return sorted(one.name.partition("-")[0] for one in at(url).iterdir() if one.is_dir())


def test_another_daemon_continues(daemon: Daemon, url: str) -> None:
    """What one daemon uploads, another one has in its folder before its replicas start."""
    files = {"last.pt": LARGE, "step 1/größe": b"", "step 1/sub/[a]*?": b"x"}
    daemon.put(files)
    done = daemon.upload()

    other = Daemon(url)
    other.put({"own of another history": b"1"})

    assert (1, 3, len(LARGE) + 1) == (
        done.version and done.version.number,
        done.files,
        done.copied_bytes,
    )
    assert 1 == other.fetch()
    assert files == other.files()
    assert other.upload().version is None


@pytest.mark.parametrize(
    "name",
    [
        *("new\nline", "tab\t", "x#y?z=1", "a\\b", "::", "file:", "s3:/x", "-rf", "~", "...", " "),
        *(
            "%2F",
            "%s",
            "{0}",
            "$(id)",
            "'\"",
            "\x01",
            "e\u0301",
            "a" * 200,
            f"{'d' * 90}/" * 3 + "f",
        ),
        *("latest", "latest.new", "v00000001-aa/f", "sub/.airflow-torchx-version"),
    ],
)
def test_the_name_of_a_file_is_kept(daemon: Daemon, url: str, name: str) -> None:
    """No name of a file means something to the storage, to Docker or to this package."""
    daemon.put({name: b"x", "other": b"y"})
    daemon.upload()
    other = Daemon(url)

    assert 1 == other.fetch()
    assert {name: b"x", "other": b"y"} == other.files()
    other.put({"more": b"z"})
    other.upload()
    assert 2 == Daemon(url).fetch()


def test_nothing_is_stored_yet(daemon: Daemon) -> None:
    """Without an upload nothing is fetched, and the folder keeps its files."""
    daemon.put({"a": b"1"})

    assert daemon.fetch() is None
    assert {"a": b"1"} == daemon.files()


def test_an_empty_folder_is_not_uploaded(daemon: Daemon, url: str) -> None:
    """A program that has saved nothing does not replace what is stored."""
    daemon.upload()
    assert not at(url).exists()
    daemon.put({"a": b"1"})
    daemon.upload()

    assert Daemon(url).upload().version is None


def test_a_volume_that_is_newer_is_used(daemon: Daemon) -> None:
    """A retry on the same daemon continues with files that were not uploaded."""
    daemon.put({"a": b"1"})
    daemon.upload()
    daemon.put({"a": b"2"})

    assert daemon.fetch() is None
    assert {"a": b"2"} == daemon.files()


def test_a_volume_whose_files_were_removed(daemon: Daemon) -> None:
    """A folder that has the marker alone is filled again."""
    daemon.put({"a": b"1"})
    daemon.upload()
    marker = daemon.engine.read_file(daemon.id, f"{FOLDER}/.airflow-torchx-version", 1000)
    daemon.put({"": b""})
    daemon.put({"": None, ".airflow-torchx-version": marker})

    assert 1 == daemon.fetch()
    assert {"a": b"1"} == daemon.files()


def test_a_storage_that_another_daemon_continued(daemon: Daemon, url: str) -> None:
    """A daemon that has an older version gets the newer one, without files of its own."""
    daemon.put({"a": b"1", "only here": b"1"})
    daemon.upload()
    other = Daemon(url)
    other.fetch()
    other.put({"": b""})
    other.put({"": None, "a": b"22"})
    other.upload()

    assert 2 == daemon.fetch()
    assert {"a": b"22"} == daemon.files()


def test_what_has_not_changed_is_copied_in_the_storage(daemon: Daemon, url: str) -> None:
    """A file with the same size and time is not read again; old versions are removed."""
    daemon.put({"a": LARGE, "b": b"1"})
    daemon.upload()
    assert daemon.upload().version is None
    for number in range(2, 5):
        daemon.put({"b": b"1" * number})
        done = daemon.upload()
        assert (number, 2, number) == (
            done.version and done.version.number,
            done.files,
            done.copied_bytes,
        )

    assert ["v00000003", "v00000004"] == versions(url)
    other = Daemon(url)
    other.fetch()
    assert {"a": LARGE, "b": b"1111"} == other.files()


def test_a_file_that_is_removed(daemon: Daemon, url: str) -> None:
    """A version has no files that the program has removed."""
    daemon.put({"a": b"1", "b": b"2"})
    daemon.upload()
    daemon.put({"": b""})
    daemon.put({"": None, "a": b"1"})

    assert 2 == (daemon.upload().version or pytest.fail("no upload")).number
    other = Daemon(url)
    other.fetch()
    assert {"a": b"1"} == other.files()


def test_times_of_a_file_that_was_just_written() -> None:
    """Docker's times are whole seconds, so a file that is new at an upload counts as changed."""
    now = datetime.now(UTC)
    old_s = now.timestamp() - 60
    new = StoredFile.seen(1, now.timestamp() - 1, now)
    old = StoredFile.seen(1, old_s, now)

    assert not new.is_same(new)
    assert old.is_same(StoredFile.seen(1, old_s, now))
    assert not old.is_same(StoredFile.seen(2, old_s, now))
    assert not old.is_same(None)


class Killed(BaseException):
    """Ends a process in a test."""


class Dying(LocalFileSystem):  # type: ignore[misc] # fsspec ships no types
    """A file system whose process is killed at one of its steps; a write may be cut off."""

    cachable = False

    def __init__(self, after: int, *, torn: bool) -> None:
        super().__init__()
        self._left = after
        self._torn = torn

    def step(self) -> None:
        """Count a step; it is the last one at the end."""
        self._left -= 1
        if self._left < 0:
            raise Killed

    def open(self, path: str, mode: str = "rb", **kwargs: Any) -> Any:  # noqa: ANN401
        """Open a file."""
        if "w" not in mode:
            return super().open(path, mode, **kwargs)
        self.step()
        file, step, torn = super().open(path, mode, **kwargs), self.step, self._torn

        class Writer:
            """Writes half of a block when the process is killed."""

            def write(self, data: bytes) -> None:
                """Write a block."""
                try:
                    step()
                except Killed:
                    if torn:
                        file.write(data[: len(data) // 2])
                        file.close()
                    raise
                file.write(data)

            def close(self) -> None:
                """Close the file."""
                file.close()

        return Writer()

    def cp_file(self, path1: str, path2: str, **kwargs: Any) -> None:  # noqa: ANN401
        """Copy a file."""
        self.step()
        super().cp_file(path1, path2, **kwargs)

    def rm(self, path: Any, recursive: bool = False, maxdepth: Any = None) -> None:  # noqa: ANN401
        """Remove a folder."""
        self.step()
        super().rm(path, recursive, maxdepth)


@pytest.mark.parametrize("torn", [False, True])
def test_a_process_that_is_killed_at_each_step_of_an_upload(url: str, *, torn: bool) -> None:
    """The pointer names a whole version at any time, and the next upload completes."""
    for step in itertools.count():
        own = f"{url}/{step}"
        daemon = Daemon(own)
        daemon.put({"a": b"1" * 10, "kept": LARGE})
        daemon.upload()
        daemon.put({"a": b"2" * 20, "new": b"3"})
        is_killed = daemon.is_killed(Dying(step, torn=torn))

        other = Daemon(own)
        assert other.fetch() in (1, 2)
        old, new = {"a": b"1" * 10, "kept": LARGE}, {"a": b"2" * 20, "kept": LARGE, "new": b"3"}
        assert other.files() in ([old, new] if is_killed else [new])
        assert daemon.fetch() is None, step
        assert new == daemon.files()
        daemon.put({"last": b"!"})
        daemon.upload()
        last = Daemon(own)
        last.fetch()
        assert {**new, "last": b"!"} == last.files()
        if not is_killed:
            assert step > 6
            return


@pytest.mark.parametrize("torn", [False, True])
def test_a_process_that_is_killed_in_the_first_upload(url: str, *, torn: bool) -> None:
    """The next try starts without checkpoints, or with all of them."""
    for step in itertools.count():
        own = f"{url}/{step}"
        daemon = Daemon(own)
        daemon.put({"a": b"1" * 10})
        if not daemon.is_killed(Dying(step, torn=torn)):
            assert step > 4
            return
        other = Daemon(own)
        assert ({"a": b"1" * 10} if other.fetch() else {}) == other.files()


def test_two_processes_upload_at_once(daemon: Daemon, url: str) -> None:
    """Versions of one number do not mix; a daemon whose upload lost gets the other one."""
    daemon.put({"a": b"1"})
    other = Daemon(url)
    other.put({"a": b"22", "b": b"2"})
    first = daemon.storage()
    assert first.pointer() is None

    class Late(LocalFileSystem):  # type: ignore[misc] # fsspec ships no types
        """Lets another process upload before the pointer is read for the first time."""

        cachable = False
        has_let = False

        def cat_file(self, path: str, **kwargs: Any) -> bytes:  # noqa: ANN401
            """Read a file."""
            try:
                return bytes(super().cat_file(path, **kwargs))
            finally:
                if path.endswith("latest.new") and not self.has_let:
                    self.has_let = True
                    other.upload()

    late = daemon.storage(lambda _: (Late(), url.removeprefix("file://")))
    assert 1 == (daemon.upload(late).version or pytest.fail("no upload")).number

    assert ["v00000001", "v00000001"] == versions(url)
    assert 1 == other.fetch()
    assert {"a": b"1"} == other.files()
    assert daemon.fetch() is None


def pointer(url: str) -> dict[str, Any]:
    """Return the pointer."""
    found: dict[str, Any] = json.loads((at(url) / "latest").read_text())
    return found


def test_a_file_that_is_missing_in_the_storage(daemon: Daemon, url: str) -> None:
    """The error names the file and what to do, and the folder keeps its files."""
    daemon.put({"a": b"1", "b": b"2"})
    daemon.upload()
    next(at(url).glob("v*/b")).unlink()
    other = Daemon(url)
    other.put({"c": b"3"})

    with pytest.raises(CheckpointError, match=r"1 of the 2 files .*'b'") as caught:
        other.fetch()

    assert "move the folder away" in caught.value.fix
    assert {"c": b"3"} == other.files()


@pytest.mark.parametrize("content", [b"", b"{", b'{"format": 2}', b"[]", b'"x"'])
def test_a_pointer_that_cannot_be_read(daemon: Daemon, url: str, content: bytes) -> None:
    """A pointer without a whole copy is an error, not a start without checkpoints."""
    daemon.put({"a": b"1"})
    daemon.upload()
    (at(url) / "latest").write_bytes(content)
    (at(url) / "latest.new").unlink()

    with pytest.raises(CheckpointError, match="latest"):
        daemon.fetch()


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x", "", "a//b", "."])
def test_a_pointer_to_another_folder(daemon: Daemon, url: str, path: str) -> None:
    """A stored path never leaves the folder of the app."""
    daemon.put({"a": b"1"})
    daemon.upload()
    found = pointer(url)
    found["files"] = {path: {"size": 1, "mtime": None}}
    for name in ("latest", "latest.new"):
        (at(url) / name).write_text(json.dumps(found))

    with pytest.raises(CheckpointError, match="outside"):
        daemon.fetch()


class Archives:
    """Images and archives of an engine, of which one archive is made by a test."""

    def __init__(self, engine: FakeEngine, data: bytes) -> None:
        self._engine = engine
        self._data = data

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - the other calls
        return getattr(self._engine, name)

    def archive(self, container_id: str, path: str) -> Any:  # noqa: ANN401 - a stream
        """Return the archive of the test."""
        self._engine.archive(container_id, path)
        return FakeArchive(self._data, 4096)


def archived(*entries: tuple[str, bytes, str]) -> bytes:
    """Return a tar of paths, each with its type and the target of a link."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path, kind, target in entries:
            entry = tarfile.TarInfo(path)
            entry.type, entry.linkname = kind, target
            entry.size = 1 if kind == tarfile.REGTYPE else 0
            tar.addfile(entry, io.BytesIO(b"x"))
    return buffer.getvalue()


def test_what_is_not_a_regular_file(daemon: Daemon, url: str, tmp_path: Path) -> None:
    """Links out of the folder and devices are left out; a hard link is a file of its own."""
    data = archived(
        ("b", tarfile.DIRTYPE, ""),
        ("b/a", tarfile.REGTYPE, ""),
        ("b/hard", tarfile.LNKTYPE, "b/a"),
        ("b/hard out", tarfile.LNKTYPE, "../../x"),
        ("b/soft", tarfile.SYMTYPE, "/etc/passwd"),
        ("b/fifo", tarfile.FIFOTYPE, ""),
        ("b/../../../out", tarfile.REGTYPE, ""),
        ("b/\udcff", tarfile.REGTYPE, ""),
    )
    engine: Engine = Archives(daemon.engine, data)

    done = checkpoint_sync.upload(engine, daemon.id, daemon.stored, daemon.storage(), lambda: False)

    assert 2 == done.files
    assert {"hard out", "soft", "fifo", "../../../out", "\udcff"} == set(done.skipped)
    assert {"a", "hard"} == {one.name for one in at(url).glob("v*/*")}
    assert not list(tmp_path.rglob("out"))


def test_an_archive_that_ends_early(daemon: Daemon, url: str) -> None:
    """A folder that cannot be read as a whole is not stored."""
    daemon.put({"a": LARGE})
    with closing(daemon.engine.archive(daemon.id, FOLDER)) as stream:
        data = b"".join(stream)
    engine: Engine = Archives(daemon.engine, data[: len(data) // 2])

    with pytest.raises(EngineError, match="not complete"):
        checkpoint_sync.upload(engine, daemon.id, daemon.stored, daemon.storage(), lambda: False)

    assert not (at(url) / "latest").exists()
    assert [] == versions(url)


def test_a_request_to_stop(daemon: Daemon, url: str) -> None:
    """An upload and a fetch end when they are asked to; the next ones complete."""
    daemon.put({"a": LARGE})
    with pytest.raises(StopRequested):
        checkpoint_sync.upload(
            daemon.engine, daemon.id, daemon.stored, daemon.storage(), lambda: True
        )
    daemon.upload()
    other = Daemon(url)
    with pytest.raises(StopRequested):
        checkpoint_sync.fetch(other.engine, other.id, other.stored, other.storage(), lambda: True)

    assert 1 == other.fetch()
    assert {"a": LARGE} == other.files()


def test_a_daemon_that_refuses_the_files(daemon: Daemon, url: str) -> None:
    """An error of the daemon is raised as it is; the next fetch is a whole one."""
    daemon.put({"a": LARGE})
    daemon.upload()
    other = Daemon(url)
    other.engine.fail_next("put_files", EngineError("no space left on device"))
    with pytest.raises(EngineError, match="no space"):
        other.fetch()

    assert 1 == other.fetch()


def test_secrets_of_a_storage_are_not_in_an_error(daemon: Daemon) -> None:
    """A password or a signature in the message of a storage is left out."""

    def refuse(_: str) -> tuple[Any, str]:
        msg = "cannot reach https://me:hunter2@host/x?sig=hunter3 or 'a?b=hunter4'"
        raise PermissionError(msg)

    with pytest.raises(CheckpointError, match="cannot reach https://…host/x…") as caught:
        daemon.storage(refuse)

    assert "hunter" not in str(caught.value)
    assert "file://" in str(caught.value)


def test_a_folder_larger_than_memory_is_read_in_parts(daemon: Daemon) -> None:
    """A reader asks for more of the stream only when it needs it."""
    read: list[int] = []

    def chunks() -> Iterator[bytes]:
        for number in range(1000):
            read.append(number)
            yield bytes(1000)

    class Stream:
        """Counts what is read."""

        def __iter__(self) -> Iterator[bytes]:
            return chunks()

        def close(self) -> None:
            """Do nothing."""

    reader = checkpoint_sync.Reader(Stream(), lambda: False)

    assert 10_000 == len(reader.read(10_000))
    assert 10 == len(read)
    assert 990_000 == len(reader.read(10**9))
    assert b"" == reader.read(1)
    assert daemon.files() == {}
