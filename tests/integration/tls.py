"""TLS in front of a daemon: certificates that sign themselves, and a wire that speaks it."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import subprocess
import threading
from typing import TYPE_CHECKING, Final, NamedTuple, Self
from urllib.parse import urlsplit

from airflow_torchx.core.connection.endpoint import Endpoint
from airflow_torchx.docker_engine.connection import resolve

if TYPE_CHECKING:
    from pathlib import Path

LOCAL: Final = ("127.0.0.1", 0)
_BLOCK_BYTES: Final = 65_536


class Certificate(NamedTuple):
    """A certificate that signs itself: authority, server's and client's in one.

    Args:
        cert: its file.
        key: the file of its key.
    """

    cert: Path
    key: Path

    @classmethod
    def make(cls, folder: Path, *addresses: str) -> Self:
        """Write one for servers at these addresses, by default at 127.0.0.1."""
        self = cls(folder / "cert.pem", folder / "key.pem")
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
        names = ",".join(f"IP:{address}" for address in addresses or LOCAL[:1])
        command += ["-subj", "/CN=stub", "-addext", f"subjectAltName={names}"]
        files = ["-out", str(self.cert), "-keyout", str(self.key)]
        subprocess.run([*command, *files], check=True, capture_output=True)
        return self

    def context(self) -> ssl.SSLContext:
        """Return the daemon's side of TLS; it asks for our certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.cert, self.key)
        context.load_verify_locations(self.cert)
        context.verify_mode = ssl.CERT_REQUIRED
        return context

    def texts(self) -> dict[str, str]:
        """Return it as the fields of a connection."""
        cert = self.cert.read_text()
        return {"tls_ca": cert, "tls_cert": cert, "tls_private_key": self.key.read_text()}

    def paths(self) -> dict[str, str]:
        """Return its files as the fields of a connection."""
        cert = str(self.cert)
        return {"tls_ca": cert, "tls_cert": cert, "tls_private_key": str(self.key)}


class Front:
    """Speaks TLS on loopback, and passes everything on to the daemon of the tests.

    Args:
        certificate: what it shows, and what it wants to be shown.
    """

    def __init__(self, certificate: Certificate) -> None:
        self._context = certificate.context()
        self._daemon = urlsplit(str(resolve(Endpoint(), os.environ).url)).path
        self._listener = socket.create_server(LOCAL)
        self._ends: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.url = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._spawn(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        for end in (self._listener, *self._ends):
            _shut(end)
        for thread in self._threads:
            thread.join()
        for end in (self._listener, *self._ends):
            end.close()

    def _spawn(self, target: object, *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                plain, _ = self._listener.accept()
                self._spawn(self._pass_on, plain)

    def _pass_on(self, plain: socket.socket) -> None:
        self._ends.append(plain)
        with contextlib.suppress(OSError):
            near = self._context.wrap_socket(plain, server_side=True)
            far = socket.socket(socket.AF_UNIX)
            self._ends += [near, far]
            far.connect(self._daemon)
            back = threading.Thread(target=_copy, args=(far, near), daemon=True)
            back.start()
            _copy(near, far)
            back.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while block := source.recv(_BLOCK_BYTES):
            target.sendall(block)
    _shut(source)
    _shut(target)


def _shut(end: socket.socket) -> None:
    # Not SSLSocket.shutdown, which forgets its TLS while another thread may read.
    with contextlib.suppress(OSError):
        socket.socket.shutdown(end, socket.SHUT_RDWR)
