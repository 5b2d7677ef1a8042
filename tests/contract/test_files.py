"""Reading files of a container."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from airflow_torchx.core.engine.files import TooLargeError
from airflow_torchx.errors import EngineNotFoundError
from tests.conftest import BUSYBOX
from tests.contract.bench import Bench
from tests.contract.script import Script

if TYPE_CHECKING:
    from airflow_torchx.docker_engine import DockerEngine

CONTENT = b'{"loss": 0.5}\n\xff\x00'
WRITES = Script(files={"/result.json": CONTENT})


def test_read_file(bench: Bench) -> None:
    """A file of an exited container can be read, up to the maximum size."""
    container_id = bench.run_to_its_end(WRITES)

    assert CONTENT == bench.engine.read_file(container_id, "/result.json", 1_000_000)
    assert CONTENT == bench.engine.read_file(container_id, "/result.json", len(CONTENT))


def test_read_file_while_it_runs(bench: Bench) -> None:
    """A file of a running container can be read."""
    script = Script(files=WRITES.files, lines=("written",), then_s=None)
    container_id = bench.run_until_it_writes(script)

    assert CONTENT == bench.engine.read_file(container_id, "/result.json", 100)


def test_read_empty_file(bench: Bench) -> None:
    """An empty file is read as b"", not as missing."""
    container_id = bench.run_to_its_end(Script(files={"/empty": b""}))

    assert b"" == bench.engine.read_file(container_id, "/empty", 0)


def test_read_large_file(bench: Bench) -> None:
    """A file of one megabyte is read completely."""
    container_id = bench.run_to_its_end(Script(files={"/large": b"x" * 1_000_000}))

    assert b"x" * 1_000_000 == bench.engine.read_file(container_id, "/large", 1_000_000)


def test_read_too_large_file(bench: Bench) -> None:
    """A file one byte above the maximum size is refused."""
    container_id = bench.run_to_its_end(WRITES)

    with pytest.raises(TooLargeError, match=r"/result\.json"):
        bench.engine.read_file(container_id, "/result.json", len(CONTENT) - 1)


@pytest.mark.parametrize("folder", ["/etc", "/"])
def test_read_folder(bench: Bench, folder: str) -> None:
    """A folder cannot be read as a file."""
    container_id = bench.run_to_its_end(Script())

    with pytest.raises(ValueError, match=folder) as caught:
        bench.engine.read_file(container_id, folder, 1_000_000)
    assert not isinstance(caught.value, TooLargeError)


def test_read_missing_file(bench: Bench) -> None:
    """A missing file raises EngineNotFoundError."""
    container_id = bench.run_to_its_end(Script())

    with pytest.raises(EngineNotFoundError, match=r"/result\.json"):
        bench.engine.read_file(container_id, "/result.json", 100)


def test_read_file_gone(bench: Bench) -> None:
    """A removed container has no files."""
    with pytest.raises(EngineNotFoundError):
        bench.engine.read_file("f" * 64, "/result.json", 100)


@pytest.mark.docker
@pytest.mark.parametrize("command", ["ln -s /etc/passwd /link", "mkfifo /link"])
def test_read_what_is_not_a_file(docker_engine: DockerEngine, app_id: str, command: str) -> None:
    """A symbolic link, regardless of its target, and a pipe are refused."""
    bench = Bench(docker_engine, app_id, BUSYBOX)
    spec = bench.spec(Script())
    container_id = bench.run_to_its_end(replace(spec, args=("-c", command)))

    with pytest.raises(ValueError, match="/link"):
        docker_engine.read_file(container_id, "/link", 1_000_000)
