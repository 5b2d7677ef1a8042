"""Docker daemons of the tests' own: on a disk as small as one likes, or with GPUs."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from airflow_torchx.core.connection.endpoint import Endpoint
from airflow_torchx.docker_engine.connection import open_client, resolve
from airflow_torchx.errors import EngineUnreachableError
from tests.airflow.processes import PATIENCE_S
from tests.conftest import BUSYBOX, do_without, require_docker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_PROGRAMS: Final = ("dockerd", "ip", "mkfs.ext4", "mount", "setpriv", "unshare")
#: Exit code of the script where the machine has no loop device for it.
_NO_DISK: Final = 77
#: A daemon with all that it writes in the folder $1, and more options in $2. What is mounted is so
#: in a namespace of its own, and goes with the last process that does. An empty folder hides a
#: containerd of the system, which could not see the folder: so the daemon starts one of its own.
#: Another one hides the key that the system's daemon has its id from.
_DAEMON: Final = """
echo {} >config.json
for path in /run/containerd /etc/docker; do
  [ ! -d $path ] || mount -t tmpfs none $path || exit 1
done
exec dockerd --data-root="$1/data" --exec-root="$1/exec" --pidfile="$1/pid" \\
  --host="unix://$1/sock" --config-file="$1/config.json" --log-level=warn \\
  --iptables=false --ip6tables=false --ip-forward=false --ip-masq=false $2
"""
#: It has a bridge of its own as well: a daemon with none removes `docker0`, which is the first
#: one's.
_ON_A_DISK: Final = f"""
mkdir data
truncate --size="$3M" disk
mkfs.ext4 -q -m 0 disk && mount -o loop disk data || exit {_NO_DISK}
ip link add "$4" type bridge || exit {_NO_DISK}
{_DAEMON}
"""
#: The Engine has NVIDIA's driver if it finds this program. The real one would make the GPUs visible
#: to the container; what the Engine asks it for is in the container's environment.
_WITH_GPUS: Final = f"""
mkdir bin
printf '#!/bin/sh\n' >bin/nvidia-container-runtime-hook
chmod +x bin/nvidia-container-runtime-hook
PATH="$1/bin:$PATH"
ip link set lo up
{_DAEMON}
"""


class SecondDaemon:
    """A daemon that runs and has the image of the tests.

    Args:
        folder: all that it writes.
        pid: its process.
    """

    def __init__(self, folder: Path, pid: int) -> None:
        self._folder = folder
        self.endpoint = resolve(Endpoint(url=f"unix://{folder}/sock"), {})
        # The disk is in the daemon's own view of the file system only.
        self._data = f"/proc/{pid}/root{folder}/data"

    @contextlib.contextmanager
    def killed(self) -> Iterator[None]:
        """Kill it, and start it again; that one ends with the block.

        A container of it, which outlives it, holds its namespaces.
        """
        pid = int(self._folder.joinpath("pid").read_text())
        command = Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0").split("\0")
        os.kill(pid, signal.SIGKILL)
        # Until both are reaped, the next one takes them for ones that run.
        for file in ("pid", "exec/containerd/containerd.pid"):
            self._folder.joinpath(file).unlink()
        wait_until(lambda: not Path(f"/proc/{pid}/cmdline").exists() or _is_zombie(pid))
        # Not its containerd, which ends with it, sooner or later.
        shim = next(iter(processes("containerd-shim", str(self._folder))))
        enter = ["nsenter", f"--target={shim}", "--mount", "--net"]
        with self._folder.joinpath("log").open("ab") as log:
            process = subprocess.Popen(
                [*enter, *command], cwd=self._folder, stdout=log, stderr=log, start_new_session=True
            )
        try:
            _await(process, self._folder)
            yield
        finally:
            process.terminate()
            process.wait(PATIENCE_S)

    def bring_image(self, image: str) -> None:
        """Copy an image of the first daemon."""
        first: Any = open_client(resolve(Endpoint(), os.environ))
        second: Any = open_client(self.endpoint)
        with closing(first), closing(second):
            second.load_image(first.get_image(image))

    @property
    def free_bytes(self) -> int:
        """What its disk still takes."""
        found = os.statvfs(self._data)
        return found.f_bavail * found.f_frsize


@contextlib.contextmanager
def running(disk_mb: int) -> Iterator[SecondDaemon]:
    """Run a daemon without networks but the host's; at the end it and its disk are gone.

    Where this may not be done the test is skipped, but in CI it fails.

    Args:
        disk_mb: MiB of its disk; some of them are the file system's own.
    """
    bridge = f"tx-{secrets.token_hex(4)}"
    try:
        with _daemon(_ON_A_DISK, f"--bridge={bridge}", f"{disk_mb}", bridge) as daemon:
            yield daemon
    finally:
        subprocess.run(["ip", "link", "delete", bridge], check=True)


@contextlib.contextmanager
def running_with_gpus(gpu_ids: Sequence[str]) -> Iterator[SecondDaemon]:
    """Run a daemon on networks of its own with a driver that gives containers no GPUs, but ids.

    At the end it and its networks are gone. Without root the test is skipped, but in CI it fails.
    """
    options = " ".join(f"--node-generic-resource=gpu={gpu_id}" for gpu_id in gpu_ids)
    with _daemon(_WITH_GPUS, options, namespaces=("--mount", "--net")) as daemon:
        yield daemon


@contextlib.contextmanager
def _daemon(
    script: str, options: str, *arguments: str, namespaces: Sequence[str] = ("--mount",)
) -> Iterator[SecondDaemon]:
    require_docker().close()  # it has the image
    missing = [name for name in _PROGRAMS if shutil.which(name) is None]
    if os.geteuid() != 0 or missing:
        do_without(f"a second daemon takes root and {', '.join(missing or _PROGRAMS)}")
    # Not in the folder of pytest: the path of a socket must be short.
    with tempfile.TemporaryDirectory(prefix="torchx-dockerd-") as name:
        folder = Path(name)
        # It also ends where the tests are killed.
        command = ["setpriv", "--pdeathsig", "TERM", "unshare", *namespaces]
        command += ["sh", "-c", script, "sh", name, options, *arguments]
        with folder.joinpath("log").open("wb") as log:
            process = subprocess.Popen(
                command, cwd=folder, stdout=log, stderr=log, start_new_session=True
            )
        try:
            _await(process, folder)
            daemon = SecondDaemon(folder, process.pid)
            daemon.bring_image(BUSYBOX)
            yield daemon
        finally:
            _end(process, name)


def wait_until(
    condition: Callable[[], bool],
    patience_s: float = PATIENCE_S,
    why: Callable[[], str] = lambda: "",
) -> None:
    """Wait until something is so, with patience; ``why`` says what is wrong if it does not come."""
    deadline_s = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline_s, why()
        time.sleep(0.05)


def _is_zombie(pid: int) -> bool:
    return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()


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


def _end(process: subprocess.Popen[bytes], folder: str) -> None:
    """Stop a daemon; its containerd goes with it."""
    process.terminate()
    try:
        process.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    wait_until(lambda: not processes(folder))


def processes(*words: str) -> list[int]:
    """Return the processes of this host that have all these words in their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            line = path.read_bytes()
            if all(word.encode() in line for word in words):
                found.append(int(path.parent.name))
    return found
