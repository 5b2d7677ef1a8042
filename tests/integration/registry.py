"""A real registry on loopback, and a wire to it that counts what is sent and can be cut."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from airflow_torchx.core.engine.images import RegistryLogin
from tests.airflow.processes import PATIENCE_S
from tests.airflow.stack import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

ROOT: Final = Path(__file__).parents[2]
SETUP: Final = ROOT / "container" / "registry.sh"
USER: Final = "tester"
PASSWORD: Final = "correct-horse-battery"  # noqa: S105 - of a registry that lives for a test
#: Made by ``htpasswd -nbB -C 4``; the registry takes bcrypt only.
_HTPASSWD: Final = f"{USER}:$2b$04$4flHDTOA7L9MY.Y9d6v9wu8Yvg6v.vcigOhuo91OoERVrDexFAvFO"


class Registry(NamedTuple):
    """A registry that runs.

    Args:
        host: its address and port, as in an image name.
        login: a user that it knows; it lets in anybody where it asks for none.
    """

    host: str
    login: RegistryLogin


@contextlib.contextmanager
def serving(
    folder: Path, *, auth: bool = True, host: str | None = None, inside: Sequence[str] = ()
) -> Iterator[Registry]:
    """Run a registry, and kill it.

    Args:
        folder: an empty one, for all that it writes.
        auth: whether it asks for a login.
        host: its address and port; by default a free port on loopback, which stays free after that.
        inside: a command line in front of what needs the network that the address is in.
    """
    host = host or f"127.0.0.1:{free_port()}"
    passwords = folder / "htpasswd"
    passwords.write_text(f"{_HTPASSWD}\n")
    config = folder / "config.yml"
    config.write_text(
        "version: 0.1\n"
        "log: {level: error, accesslog: {disabled: true}}\n"
        f"storage: {{filesystem: {{rootdirectory: {folder / 'data'}}}}}\n"
        f"http: {{addr: '{host}', secret: none}}\n"
        + f"auth: {{htpasswd: {{realm: tests, path: {passwords}}}}}\n"
        * auth
    )
    with (folder / "log").open("wb") as log:
        command = [*inside, program(), "serve", str(config)]
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            _await(process, host, folder / "log", inside)
            yield Registry(host, RegistryLogin(registry=host, username=USER, password=PASSWORD))
        finally:
            process.kill()
            process.wait()


def program() -> str:
    """Return the registry's program, downloaded first where it is not there yet."""
    subprocess.run([SETUP], check=True)
    own = ROOT / ".cache" / "registry" / "docker-registry"
    found = own if own.exists() else shutil.which("docker-registry") or shutil.which("registry")
    return str(found)


#: Ends with 0 if something listens there.
_KNOCK: Final = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])))"


def _await(
    process: subprocess.Popen[bytes], host: str, log: Path, inside: Sequence[str] = ()
) -> None:
    knock = [*inside, sys.executable, "-I", "-S", "-c", _KNOCK, *host.split(":")]
    deadline_s = time.monotonic() + PATIENCE_S
    while process.poll() is None and time.monotonic() < deadline_s:
        if subprocess.run(knock, check=False, capture_output=True).returncode == 0:
            return
        time.sleep(0.02)
    raise RuntimeError(f"the registry does not start: {log.read_text()}")


def never(_piece: bytes, _sent_bytes: int) -> bool:
    """Let everything through."""
    return False


class Wire:
    """A TCP proxy on loopback in front of a registry.

    Args:
        to: host and port behind it.
        cuts: asked before each piece is passed on to the registry, with the piece and the bytes
            that its connection has sent with it; True cuts the connection.
        times: how many connections it cuts at most.
    """

    def __init__(self, to: str, cuts: Callable[[bytes, int], bool] = never, times: int = 1) -> None:
        self._to = to.split(":")
        self._cuts = cuts
        self._times = times
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._ends: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.host = f"127.0.0.1:{self._listener.getsockname()[1]}"
        #: What was passed on to the registry.
        self.sent_bytes = 0
        #: Connections that were cut.
        self.cut = 0

    def __enter__(self) -> Self:
        self._spawn(self._accept)
        return self

    def hang_up(self) -> None:
        """Take no more connections. Idempotent."""
        _shut(self._listener)

    def __exit__(self, *_: object) -> None:
        self.hang_up()
        self._threads[0].join()
        with self._lock:
            ends = [*self._ends]
        for end in ends:
            _shut(end)
        for thread in self._threads[1:]:
            thread.join()
        for end in (*ends, self._listener):
            end.close()

    def _spawn(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection((self._to[0], int(self._to[1])))
                with self._lock:
                    self._ends += [near, far]
                self._spawn(self._up, near, far)
                self._spawn(self._down, far, near)

    def _up(self, near: socket.socket, far: socket.socket) -> None:
        sent_bytes = 0
        with contextlib.suppress(OSError):
            while piece := near.recv(65536):
                sent_bytes += len(piece)
                with self._lock:
                    cut = self.cut < self._times and self._cuts(piece, sent_bytes)
                    self.cut += cut
                    self.sent_bytes += len(piece) * (not cut)
                if cut:
                    break
                far.sendall(piece)
        _shut(near)
        _shut(far)

    def _down(self, far: socket.socket, near: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := far.recv(65536):
                near.sendall(piece)
        _shut(near)
        _shut(far)


def _shut(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
