"""SSH servers in this process, in front of the daemons of hosts, for the program `ssh`."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Final

import paramiko  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.swarm.hosts import Host

#: What a client of Docker runs on a host.
_DIAL: Final = b"docker system dial-stdio"
_BLOCK_BYTES: Final = 65_536


class _Session(paramiko.ServerInterface):  # type: ignore[misc] # it has no types
    """Lets in the user who has a key, and joins the one command to the socket of a daemon."""

    def __init__(self, key: paramiko.PKey, daemon: str) -> None:
        self._key = key
        self._daemon = daemon

    def get_allowed_auths(self, username: str) -> str:
        del username
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        is_known = username == "train" and key == self._key
        return int(paramiko.AUTH_SUCCESSFUL if is_known else paramiko.AUTH_FAILED)

    def check_channel_request(self, kind: str, chanid: int) -> int:
        del kind, chanid
        return int(paramiko.OPEN_SUCCEEDED)

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        if command != _DIAL:
            return False
        daemon = socket.socket(socket.AF_UNIX)
        daemon.connect(self._daemon)
        for source, target in ((channel, daemon), (daemon, channel)):
            threading.Thread(target=_copy, args=(source, target), daemon=True).start()
        return True


def _copy(source: Any, target: Any) -> None:  # noqa: ANN401 - a socket and a channel
    with contextlib.suppress(OSError):
        while block := source.recv(_BLOCK_BYTES):
            target.sendall(block)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
    if isinstance(target, paramiko.Channel):
        target.send_exit_status(0)
        target.close()
        source.close()


@contextmanager
def _serving(host: Host, own: paramiko.PKey, user: paramiko.PKey) -> Iterator[int]:
    """Serve a host on loopback, and return the port."""
    listener = socket.create_server(("127.0.0.1", 0))
    transports = []

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                transport = paramiko.Transport(listener.accept()[0])
                transports.append(transport)
                transport.add_server_key(own)
                with contextlib.suppress(paramiko.SSHException, EOFError):
                    transport.start_server(
                        server=_Session(user, host.url.removeprefix("unix://")),
                        event=threading.Event(),
                    )

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
        for one in transports:
            one.close()


@contextmanager
def reached_by_ssh(hosts: Sequence[Host], folder: Path) -> Iterator[Path]:
    """Make hosts reachable as ``ssh://train@NAME`` by the program `ssh` in a folder; return it.

    `ssh` takes its settings from the home of the user who runs it, which the tests leave alone.
    """
    files = {name: folder / name for name in ("user", "server", "known", "config")}
    for name in ("user", "server"):
        make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(files[name])]
        subprocess.run(make, check=True)
    user, own = (
        paramiko.Ed25519Key.from_private_key_file(str(files[n])) for n in ("user", "server")
    )
    settings, known = [], []
    with ExitStack() as held:
        for host in hosts:
            port = held.enter_context(_serving(host, own, user))
            settings += [f"Host {host.name}", "HostName 127.0.0.1", f"Port {port}"]
            known.append(f"[127.0.0.1]:{port} {own.get_name()} {own.get_base64()}")
        settings += ["Host *", f"IdentityFile {files['user']}", "IdentitiesOnly yes"]
        settings += [f"UserKnownHostsFile {files['known']}", "StrictHostKeyChecking yes"]
        files["config"].write_text("\n".join(settings))
        files["known"].write_text("\n".join(known))
        program = folder / "bin" / "ssh"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec /usr/bin/ssh -F {files["config"]} "$@"\n')
        program.chmod(0o755)
        yield program.parent
