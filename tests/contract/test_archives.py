"""Reading and replacing folders of a container as archives."""

from __future__ import annotations

import io
import tarfile
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from airflow_torchx.errors import EngineNotFoundError
from airflow_torchx.specs import VolumeMount
from tests.conftest import BUSYBOX
from tests.contract.bench import Bench
from tests.contract.script import Script

if TYPE_CHECKING:
    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.docker_engine import DockerEngine

FILES = {"/data/a": b"one", "/data/sub/b": b"two" * 100_000}


def tar(*entries: tuple[str, bytes | None]) -> bytes:
    """Return a tar of files, and of folders, which have no content."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path, content in entries:
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(content or b""), 0o777
            entry.type = tarfile.DIRTYPE if content is None else tarfile.REGTYPE
            archive.addfile(entry, io.BytesIO(content or b""))
    return buffer.getvalue()


def files_of(engine: Engine, container_id: str, path: str) -> dict[str, bytes]:
    """Return the regular files in an archive by name."""
    with closing(engine.archive(container_id, path)) as stream:
        data = io.BytesIO(b"".join(stream))
    with tarfile.open(fileobj=data, mode="r:") as archive:
        return {
            one.name: content.read()
            for one in archive
            if one.isreg() and (content := archive.extractfile(one))
        }


def put(bench: Bench, container_id: str, *entries: tuple[str, bytes | None]) -> None:
    """Unpack a tar in a container."""
    bench.engine.images.put_files(container_id, [tar(*entries)])


def test_a_folder_of_a_container_that_has_ended(bench: Bench) -> None:
    """An archive has all files of a folder, named from its last part on."""
    container_id = bench.create(Script())
    put(bench, container_id, *((path.lstrip("/"), data) for path, data in FILES.items()))

    found = files_of(bench.engine, container_id, "/data")

    assert {"data/a": b"one", "data/sub/b": b"two" * 100_000} == found
    assert {"b": b"two" * 100_000} == files_of(bench.engine, container_id, "/data/sub/b")


def test_a_folder_while_the_container_runs(bench: Bench) -> None:
    """A running container can be read; a stream that is closed early ends."""
    script = Script(files={"/a": b"x"}, lines=("written",), then_s=None)
    container_id = bench.run_until_it_writes(script)
    put(bench, container_id, ("data/a", b"one"))

    assert {"data/a": b"one"} == files_of(bench.engine, container_id, "/data")
    stream = bench.engine.archive(container_id, "/data")
    stream.close()
    assert b"" == b"".join(stream)


def test_a_path_that_is_missing(bench: Bench) -> None:
    """A missing path, or a missing container, raises EngineNotFoundError."""
    container_id = bench.create(Script())

    with pytest.raises(EngineNotFoundError, match="/data"):
        bench.engine.archive(container_id, "/data")
    with pytest.raises(EngineNotFoundError):
        bench.engine.archive("f" * 64, "/data")


def test_a_file_replaces_a_folder(bench: Bench) -> None:
    """A tar with a file, then a folder, of one name leaves only what the tar has in it."""
    container_id = bench.create(Script())
    put(bench, container_id, ("data/old", b"x"), ("data/sub/old", b"x"), ("other/kept", b"y"))

    put(bench, container_id, ("data", b""), ("data", None), ("data/new", b"z"))

    assert {"data/new": b"z"} == files_of(bench.engine, container_id, "/data")
    assert {"other/kept": b"y"} == files_of(bench.engine, container_id, "/other")


@pytest.mark.docker
def test_a_folder_in_a_volume_before_the_start(docker_engine: DockerEngine, app_id: str) -> None:
    """Docker mounts a volume to read and to replace a folder of a container that never ran."""
    bench = Bench(docker_engine, app_id, BUSYBOX)
    mount = VolumeMount(src="", dst_path="/kept")
    container_id = bench.create(replace(bench.spec(Script()), mounts=(mount,)))

    put(bench, container_id, ("kept/data/old", b"x"))
    put(bench, container_id, ("kept/data", b""), ("kept/data", None), ("kept/data/new", b"z"))

    assert {"data/new": b"z"} == files_of(docker_engine, container_id, "/kept/data")
