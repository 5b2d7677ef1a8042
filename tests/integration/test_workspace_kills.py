"""What is left where the process that builds a workspace ends in the middle of it."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import tarfile
from typing import TYPE_CHECKING, Final

import pytest

from airflow_torchx.concurrency.parallel import StopRequested
from airflow_torchx.core.engine import labels
from airflow_torchx.core.workspace.recipe import SourceRoot, workspace_id
from airflow_torchx.core.workspace.source import parse_workspace
from airflow_torchx.schedulers.docker_scheduler import DockerScheduler
from airflow_torchx.specs import AppDef, Role, Workspace
from tests.conftest import BUSYBOX
from tests.integration.second_daemon import processes, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from airflow_torchx.core.engine.containers import ContainerRow
    from airflow_torchx.docker_engine import DockerEngine

pytestmark = [pytest.mark.docker, pytest.mark.xdist_group("images")]

FILES: Final = 400
FILE_BYTES: Final = 256 << 10
#: Builds the image of a folder. When it has been asked some times whether to stop since a container
#: of that build is there, it says so and waits for a line. As in Airflow, SIGTERM is an exception.
BUILD: Final = """
import logging, signal, sys
from airflow_torchx.core.engine import labels
from airflow_torchx.schedulers.docker_scheduler import DockerScheduler
from airflow_torchx.specs import AppDef, Role, Workspace

folder, base, workspace, asks = *sys.argv[1:4], int(sys.argv[4])
logging.basicConfig(level="INFO", format="%(message)s", stream=sys.stdout)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))

def should_stop():
    global asks
    if asks and scheduler.engine.rows({labels.WORKSPACE_ID: workspace}):
        asks -= 1
        if not asks:
            print("in the middle", flush=True)
            sys.stdin.readline()
    return False

with DockerScheduler("tests", terminal=False) as scheduler:
    role = Role("a", base, entrypoint="true", workspace=Workspace({folder: ""}))
    print(scheduler.build(AppDef("a", [role]), should_stop=should_stop).roles[0].image)
"""


class Bench:
    """A folder, processes that build the image of it, and what they leave.

    Args:
        engine: the daemon.
        folder: the code.
        word: names what is made for the test.
    """

    def __init__(self, engine: DockerEngine, folder: Path, word: str) -> None:
        self.engine = engine
        self.folder = folder
        self.base = f"{word}:base"
        self._word = word
        self._step = f"{word}-step"
        self._id = workspace_id(parse_workspace(str(folder)), BUSYBOX, SourceRoot("", ""))

    @contextlib.contextmanager
    def started(self, asks: int) -> Iterator[subprocess.Popen[str]]:
        """Start a process that builds, and kill it at the end.

        Args:
            asks: after how many questions it waits in the middle.
        """
        command = [sys.executable, "-c", BUILD, str(self.folder), BUSYBOX, self._id, str(asks)]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
            try:
                yield process
            finally:
                process.kill()

    def build(self, should_stop: Callable[[], bool] = lambda: False) -> str:
        """Build here, and return the image."""
        scheduler = DockerScheduler("tests", self.engine, terminal=False)
        workspace = Workspace({str(self.folder): ""})
        app = AppDef("a", [Role("a", BUSYBOX, entrypoint="true", workspace=workspace)])
        return scheduler.build(app, should_stop=should_stop).roles[0].image

    def containers(self) -> list[ContainerRow]:
        """Return the containers that builds have left, or use."""
        of_layers = self.engine.rows({labels.WORKSPACE_ID: self._id})
        return [*of_layers, *self.engine.rows({labels.APP_ID: self._word})]

    def images(self) -> list[str]:
        """Return the names of the images that were built."""
        rows = self.engine.images.rows({labels.WORKSPACE_ID: self._id})
        return [tag for row in rows for tag in row.tags or [row.id]]

    def write_dockerfile(self, command: str, flags: str = "") -> None:
        """Have the image of one file built by a Dockerfile, with this command as its first step."""
        held = self.engine.images.prepare(BUSYBOX, self._word, {labels.APP_ID: self._word})
        slow = tarfile.TarInfo("slow").tobuf() + bytes(2 * tarfile.BLOCKSIZE)
        self.engine.images.put_files(held, [slow])
        self.engine.images.commit(held, self.base, "/")
        self.engine.images.tag(self.base, f"{self._word}:slow")
        self.engine.remove(held)
        for path in list(self.folder.iterdir())[1:]:
            path.unlink()
        # The shell, whose command line has the word, stays: the command is not its last one.
        step = f"RUN {flags} [ ! -e /slow ] || {{ : {self._step}; {command}; :; }}"
        text = f"FROM {self.base}\n{step}\nCOPY . .\n"
        self.folder.joinpath("Dockerfile.torchx").write_text(text)

    def hurry(self) -> None:
        """Let the command of the Dockerfile be skipped; the workspace is the same."""
        self.engine.images.tag(BUSYBOX, self.base)

    def is_running(self) -> bool:
        """Tell whether the command of the Dockerfile runs."""
        return bool(processes(self._step))

    def clean(self) -> None:
        """Remove what was made."""
        for row in self.containers():
            self.engine.remove(row.id)
        for tag in (*self.images(), self.base, f"{self._word}:slow"):
            self.engine.images.untag(tag)


@pytest.fixture
def bench(docker_engine: DockerEngine, tmp_path: Path, app_id: str) -> Iterator[Bench]:
    """Return a folder of many files; nothing that was made of it is left at the end."""
    folder = tmp_path / "code"
    folder.mkdir()
    for number in range(FILES):
        folder.joinpath(f"{number}.bin").write_bytes(number.to_bytes(2) * (FILE_BYTES // 2))
    bench = Bench(docker_engine, folder, app_id)
    yield bench

    bench.clean()


def await_middle(process: subprocess.Popen[str]) -> None:
    """Wait until a process is in the middle of building."""
    assert process.stdout is not None
    assert any(line == "in the middle\n" for line in process.stdout)


def test_killed_while_sending(bench: Bench) -> None:
    """The next build removes what the killed one has left, and waits for no lock."""
    with bench.started(FILES // 4) as process:
        await_middle(process)
        process.kill()
    (left,) = bench.containers()

    image = bench.build()

    assert left.name.startswith("torchx-build-")
    assert [] == bench.containers()
    assert [image] == bench.images()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_while_sending(bench: Bench, number: signal.Signals) -> None:
    """An interrupted process removes its container before it ends."""
    with bench.started(FILES // 4) as process:
        await_middle(process)
        assert bench.containers()
        process.send_signal(number)
        process.wait()

        assert [] == bench.containers()
    assert [] == bench.images()
    assert [bench.build()] == bench.images()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_ended_in_a_step(bench: Bench, number: signal.Signals) -> None:
    """The daemon ends a step whose client has left; the next build starts from the beginning."""
    bench.write_dockerfile("sleep 600")
    with bench.started(0) as process:
        wait_until(bench.is_running)
        process.send_signal(number)
        process.wait()
    wait_until(lambda: not bench.containers())

    bench.hurry()

    assert [] == bench.images()
    assert [bench.build()] == bench.images()


def test_two_processes(bench: Bench) -> None:
    """While one process builds, the other waits, and then builds nothing."""
    with bench.started(FILES // 4) as first:
        await_middle(first)
        with bench.started(20) as second:
            await_middle(second)
            said = [process.communicate("go on\n")[0] for process in (first, second)]

    (image,) = bench.images()
    assert all(text.endswith(f"\n{image}\n") for text in said)
    assert f"built workspace image {image}" in said[0]
    assert "was just built by another process" in said[1]
    assert [] == bench.containers()


def test_two_processes_without_a_common_lock(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes with a TMPDIR each both build, and neither removes the other's image."""
    images: list[str] = []

    def meanwhile() -> bool:
        if not images and bench.containers():
            with monkeypatch.context() as patch:
                patch.setattr("tempfile.tempdir", str(tmp_path))
                images.append(bench.build())
        return False

    images.append(bench.build(meanwhile))

    assert bench.images() * 2 == images
    assert [] == bench.containers()


def test_stopped_while_sending(bench: Bench) -> None:
    """A stop while files are sent leaves nothing."""
    with pytest.raises(StopRequested):
        bench.build(lambda: bool(bench.containers()))

    assert [] == bench.containers()
    assert [] == bench.images()


@pytest.mark.parametrize("flags", ["", "--mount=type=tmpfs,target=/x"], ids=["classic", "buildkit"])
@pytest.mark.parametrize("command", ["sleep 600", "while echo; do sleep 0.1; done"])
def test_stopped_in_a_step(bench: Bench, command: str, flags: str) -> None:
    """A stop in a step ends the step on the daemon, whether it prints something or not."""
    bench.write_dockerfile(command, flags)

    with pytest.raises(StopRequested):
        bench.build(bench.is_running)

    wait_until(lambda: not bench.is_running() and not bench.containers())
    assert [] == bench.images()
