"""A Docker daemon of the tests' own, on a disk as small as one likes."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from airflow_torchx.core.connection.endpoint import Endpoint
from airflow_torchx.docker_engine.connection import open_client, resolve
from airflow_torchx.errors import EngineUnreachableError
from tests.conftest import BUSYBOX, do_without, require_docker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATIENCE_S: Final = 30.0
_PROGRAMS: Final = ("dockerd", "ip", "mkfs.ext4", "mount", "setpriv", "unshare")
#: Exit code of the script where the machine has no loop device for it.
_NO_DISK: Final = 77
#: The disk is mounted in a namespace of its own, and goes with the last process that does. The
#: empty folder hides a containerd of the system, which could not see the disk: so the daemon starts
#: one of its own. It has a bridge of its own as well: a daemon with none removes `docker0`, which
#: is the first one's.
_SCRIPT: Final = f"""
cd "$1"
mkfs.ext4 -q -m 0 disk && mount -o loop disk data || exit {_NO_DISK}
[ ! -d /run/containerd ] || mount -t tmpfs none /run/containerd || exit {_NO_DISK}
ip link add "$2" type bridge || exit {_NO_DISK}
exec dockerd --data-root="$1/data" --exec-root="$1/exec" --pidfile="$1/pid" \\
  --host="unix://$1/sock" --config-file="$1/config.json" --log-level=warn \\
  --bridge="$2" --iptables=false --ip6tables=false --ip-forward=false --ip-masq=false
"""


class SecondDaemon:
    """A daemon that runs and has the image of the tests, but no network besides the host's.

    Args:
        folder: all that it writes.
        pid: its process.
    """

    def __init__(self, folder: Path, pid: int) -> None:
        self.endpoint = resolve(Endpoint(url=f"unix://{folder}/sock"), {})
        # The disk is in the daemon's own view of the file system only.
        self._data = f"/proc/{pid}/root{folder}/data"

    @property
    def free_bytes(self) -> int:
        """What its disk still takes."""
        found = os.statvfs(self._data)
        return found.f_bavail * found.f_frsize


@contextlib.contextmanager
def running(disk_mb: int) -> Iterator[SecondDaemon]:
    """Run a daemon; at the end it, its disk and all that is on it are gone.

    Where this may not be done the test is skipped, but in CI it fails.

    Args:
        disk_mb: MiB of its disk; some of them are the file system's own.
    """
    require_docker().close()  # it has the image
    missing = [name for name in _PROGRAMS if shutil.which(name) is None]
    if os.geteuid() != 0 or missing:
        do_without(f"a second daemon takes root and {', '.join(missing or _PROGRAMS)}")
    # Not in the folder of pytest: the path of a socket must be short.
    with tempfile.TemporaryDirectory(prefix="torchx-dockerd-") as name:
        folder = Path(name)
        folder.joinpath("data").mkdir()
        folder.joinpath("config.json").write_text("{}")
        with folder.joinpath("disk").open("wb") as disk:
            disk.truncate(disk_mb << 20)
        # It also ends where the tests are killed.
        command = ["setpriv", "--pdeathsig", "TERM", "unshare", "--mount"]
        bridge = f"tx-{secrets.token_hex(4)}"
        command += ["sh", "-c", _SCRIPT, "sh", str(folder), bridge]
        with folder.joinpath("log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:
            _await(process, folder)
            daemon = SecondDaemon(folder, process.pid)
            _bring_image(daemon)
            yield daemon
        finally:
            _end(process, str(folder))
            subprocess.run(["ip", "link", "delete", bridge], check=True)


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until something is so, with patience."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


def _await(process: subprocess.Popen[bytes], folder: Path) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    endpoint = Endpoint(url=f"unix://{folder}/sock")
    while process.poll() is None and time.monotonic() < deadline_s:
        with contextlib.suppress(EngineUnreachableError):
            open_client(resolve(endpoint, {})).close()
            return
        time.sleep(0.1)
    log = folder.joinpath("log").read_text()
    if process.returncode == _NO_DISK:
        do_without(f"a second daemon takes a disk of its own: {log}")
    raise RuntimeError(f"the second daemon does not start: {log}")


def _bring_image(daemon: SecondDaemon) -> None:
    first: Any = open_client(resolve(Endpoint(), os.environ))
    second: Any = open_client(daemon.endpoint)
    with closing(first), closing(second):
        second.load_image(b"".join(first.get_image(BUSYBOX)))


def _end(process: subprocess.Popen[bytes], folder: str) -> None:
    """Stop a daemon; its containerd goes with it."""
    process.terminate()
    try:
        process.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    wait_until(lambda: not processes(folder))


def processes(word: str) -> list[int]:
    """Return the processes of this host that have a word in their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if word.encode() in path.read_bytes():
                found.append(int(path.parent.name))
    return found
