"""Daemons that are reached by the program `ssh`, in whose place the tests put a shell script."""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from airflow_torchx.core.connection.endpoint import Endpoint
from airflow_torchx.core.engine import labels
from airflow_torchx.core.engine.containers import ContainerSpec, LogQuery
from airflow_torchx.core.engine.usage import Execution
from airflow_torchx.docker_engine import DockerEngine, unreachable_reason
from tests.airflow.processes import PATIENCE_S, is_alive, until
from tests.conftest import BUSYBOX

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("no_socket_left")


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Return what puts a shell script in the place of the program `ssh`."""

    def put(script: str) -> Path:
        program = tmp_path / "bin" / "ssh"
        program.parent.mkdir()
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
        return program

    return put


def is_over() -> bool:
    """Return whether each `ssh` that this process has started has ended."""
    return "torchx-ssh" not in {thread.name for thread in threading.enumerate()}


def reason(url: str = "ssh://me@gpu-1", **fields: float) -> str:
    """Return why a daemon does not answer."""
    return str(unreachable_reason(Endpoint(url=url, **fields)))  # type: ignore[arg-type]


def test_it_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to install."""
    monkeypatch.setenv("PATH", str(tmp_path))

    assert reason().endswith(
        "the program ssh is not installed. Install OpenSSH's client, so that `ssh` is on the PATH."
    )


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("ssh://me@gpu-1:2222", ["-l", "me", "-p", "2222", "--", "gpu-1"]),
        ("ssh://Box1", ["--", "Box1"]),
        ("ssh://[fe80::1]:22", ["-p", "22", "--", "fe80::1"]),
        ("ssh://CORP%5CMe@gpu-1", ["-l", "CORP\\Me", "--", "gpu-1"]),
        ("ssh://-oA=b@-oC=d", ["-l", "-oA=b", "--", "-oC=d"]),
    ],
)
def test_it_gets_user_host_and_port(
    ssh: Callable[[str], Path], tmp_path: Path, url: str, expected: list[str]
) -> None:
    """They are in the case of the URL, and none of them is an option."""
    given = tmp_path / "given"
    ssh(f'printf "%s\\n" "$@" >{given}; exit 255')

    assert "ssh failed (no message)" in reason(url)

    words = given.read_text().splitlines()
    first = words.index("ServerAliveCountMax=3") + 1
    assert [*expected, "docker system dial-stdio"] == words[first:]


def test_a_login_that_fails(ssh: Callable[[str], Path]) -> None:
    """The error has what `ssh` says, and what to do."""
    ssh("echo 'me@gpu-1: Permission denied (publickey).' >&2; exit 255")

    why = reason()

    assert "ssh failed (me@gpu-1: Permission denied (publickey))" in why
    assert "log in by ssh without a question" in why


def test_a_login_that_fails_with_many_words(ssh: Callable[[str], Path]) -> None:
    """The error has the end of what `ssh` writes."""
    ssh("head -c 1000000 /dev/zero | tr '\\0' x >&2; echo >&2; echo refused >&2; exit 255")

    why = reason()

    assert "; refused)" in why
    assert len(why) < 3000


def test_a_login_that_fails_and_leaves_a_process(
    ssh: Callable[[str], Path], tmp_path: Path
) -> None:
    """The error is the same if another process has the stderr of `ssh`, like a ControlMaster."""
    left = tmp_path / "left"
    ssh(f"sleep 600 >/dev/null & echo $! >{left}; echo refused >&2; exit 255")

    try:
        assert "ssh failed (refused)" in reason()
    finally:
        os.kill(int(left.read_text()), signal.SIGKILL)
    until(is_over, "the end of the thread that reads its stderr")


def test_a_greeting(ssh: Callable[[str], Path]) -> None:
    """What a shell prints before the answer of the daemon is in the error."""
    ssh("echo 'Welcome to gpu-1'; exec cat >/dev/null")

    assert "ssh failed ('Welcome to gpu-1' came in place of an answer" in reason()
    until(is_over, "the end of ssh")


def test_a_login_that_hangs(ssh: Callable[[str], Path]) -> None:
    """A request ends at its timeout, and ends `ssh`, which does not read what it is sent."""
    ssh("exec sleep 600")

    assert "did not answer in time" in reason(request_timeout_s=0.3)
    until(is_over, "the end of ssh")


@pytest.mark.docker
def test_requests_share_a_login(
    ssh: Callable[[str], Path], docker_engine: DockerEngine, tmp_path: Path
) -> None:
    """Requests in turn share a connection; another one is made once that has ended."""
    given = tmp_path / "given"
    ssh(f"echo $$ >>{given}; exec docker --host {docker_engine.endpoint.url} system dial-stdio")

    def logins() -> list[int]:
        return [int(line) for line in given.read_text().splitlines()]

    with DockerEngine.connect(Endpoint(url="ssh://me@gpu-1:2222")) as engine:
        engine.rows({labels.APP_ID: "x"})
        first = logins()
        for _ in range(3):
            engine.rows({labels.APP_ID: "x"})
        assert first == logins()
        for pid in first:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        until(lambda: not any(map(is_alive, first)), "the end of ssh")
        engine.rows({labels.APP_ID: "x"})

    assert len(first) + 1 == len(logins())
    until(is_over, "the end of ssh after that of the client")


@pytest.mark.docker
def test_streams(ssh: Callable[[str], Path], docker_engine: DockerEngine, app_id: str) -> None:
    """A followed log that is closed while its container is silent ends `ssh`; commands run."""
    ssh(f"exec docker --host {docker_engine.endpoint.url} system dial-stdio")
    spec = ContainerSpec(
        role="main",
        replica=0,
        name=app_id,
        image=BUSYBOX,
        entrypoint="sh",
        args=("-c", "echo a; exec sleep 600"),
        env={},
        labels={labels.APP_ID: app_id},
        network="none",
    )
    with DockerEngine.connect(Endpoint(url="ssh://me@gpu-1")) as engine:
        container_id = engine.create(spec)
        engine.start(container_id)
        stream = engine.logs(container_id, LogQuery(follow=True))
        chunks = iter(stream)
        first = next(chunks)
        with ThreadPoolExecutor() as pool:
            reading = pool.submit(list, chunks)
            stream.close()
            others = reading.result()
        ran = engine.execute(container_id, ["echo", "b"], timeout_s=PATIENCE_S, max_bytes=9)
    until(is_over, "the end of ssh after that of the client")

    assert (True, []) == (first.endswith(b"a\n"), others)
    assert Execution(exit_code=0, output=b"b\n") == ran
