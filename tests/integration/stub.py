"""A daemon that answers what a test says, down to the byte, over a unix socket, TCP or TLS."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from typing import TYPE_CHECKING, NamedTuple, Self, TypeVar

from airflow_torchx.core.connection.endpoint import Endpoint
from airflow_torchx.docker_engine import DockerEngine
from airflow_torchx.errors import EngineUnreachableError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

_T = TypeVar("_T")


class Request(NamedTuple):
    """A request that a stub got."""

    method: str
    target: str
    body: bytes

    @property
    def json(self) -> dict[str, object]:
        """Return what was sent."""
        found: dict[str, object] = json.loads(self.body)
        return found


class Stub:
    """Answers ``/version`` by itself, and everything else as the test says.

    Args:
        answer: from a request to the bytes of its answer; a ConnectionError that it raises closes
            the connection.
        address: path of a unix socket, or a host and a port.
        tls: speaks TLS.
        api_version: the version of the Engine API that it speaks; None to leave
            that to the test as well.
    """

    def __init__(
        self,
        answer: Callable[[Request], Iterable[bytes]],
        address: Path | tuple[str, int],
        *,
        tls: ssl.SSLContext | None = None,
        api_version: str | None = "1.41",
    ) -> None:
        self.requests: list[Request] = []
        self.connections = 0
        self._answer = answer
        self._address = address
        self._tls = tls
        self._api_version = api_version
        self._threads: list[threading.Thread] = []
        self._connections: list[socket.socket] = []
        self._listener: socket.socket | None = None

    @property
    def port(self) -> int:
        """Return the TCP port."""
        assert self._listener is not None
        port: int = self._listener.getsockname()[1]
        return port

    @property
    def asked(self) -> list[str]:
        """Return what was asked for, but for the version; without the version in the path."""
        found = [request for request in self.requests if request.target != "/version"]
        return [f"{request.method} /{request.target.split('/', 2)[2]}" for request in found]

    def __enter__(self) -> Self:
        if isinstance(self._address, tuple):
            self._listener = socket.create_server(self._address)
        else:
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(str(self._address))
            self._listener.listen(100)
        self._spawn(self._accept, self._listener)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._listener is not None
        for sock in (self._listener, *self._connections):
            with contextlib.suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        if not isinstance(self._address, tuple):
            self._address.unlink()

    def _spawn(self, target: Callable[[socket.socket], None], sock: socket.socket) -> None:
        thread = threading.Thread(target=target, args=(sock,), daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        with listener, contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                self.connections += 1
                self._connections.append(connection)
                self._spawn(self._converse, connection)

    def _converse(self, connection: socket.socket) -> None:
        # A request that is none, like the greeting of TLS, ends the connection.
        with connection, contextlib.suppress(OSError, ValueError):
            if self._tls:
                connection = self._tls.wrap_socket(connection, server_side=True)
                self._connections.append(connection)
            with connection, connection.makefile("rb") as incoming:
                for request in _read(incoming):
                    self.requests.append(request)
                    own = json_answer({"ApiVersion": self._api_version})
                    is_version = self._api_version and request.target == "/version"
                    for part in own if is_version else self._answer(request):
                        connection.sendall(part)


def _read(incoming: Iterable[bytes]) -> Iterator[Request]:
    lines = iter(incoming)
    for line in lines:
        method, target, _ = line.decode().split(" ", 2)
        length = 0
        for header in lines:
            name, _, value = header.decode().partition(":")
            if name.lower() == "content-length":
                length = int(value)
            if not header.strip():
                break
        body: bytes = incoming.read(length)  # type: ignore[attr-defined]
        yield Request(method, target, body)


def json_answer(value: object, status: int = 200) -> list[bytes]:
    """Return a whole answer."""
    body = json.dumps(value).encode()
    head = f"HTTP/1.1 {status} Stub\r\nContent-Length: {len(body)}\r\n\r\n"
    return [head.encode() + body]


def failure(status: int, message: str = "because") -> list[bytes]:
    """Return an answer in which the daemon refuses something."""
    return json_answer({"message": message}, status)


def chunked(*parts: bytes, end: bool = True) -> list[bytes]:
    """Return an answer in chunks, its end or only its beginning."""
    chunks = [b"%x\r\n%b\r\n" % (len(part), part) for part in parts]
    return [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", *chunks, b"0\r\n\r\n" * end]


def saying(answer: list[bytes]) -> Callable[[Request], list[bytes]]:
    """Return a daemon that gives one answer to everything."""
    return lambda _: answer


def connect(address: Path, timeout_s: float = 60) -> DockerEngine:
    """Return a connection to a stub, which has ``timeout_s`` for each answer but the first one.

    A test with a short one is about a later answer, and a busy machine may delay the first one.
    """
    engine = DockerEngine.connect(Endpoint(url=f"unix://{address}"))
    engine.client.timeout = timeout_s
    return engine


def opened(engine: DockerEngine, opens: Callable[[], _T]) -> _T:
    """Return what a client opens, with a timeout that is as short as the machine is fast.

    The stub has to begin its answer within the timeout, and a test goes on to exceed it.
    """
    while True:
        try:
            return opens()
        except EngineUnreachableError:
            engine.client.timeout *= 2
