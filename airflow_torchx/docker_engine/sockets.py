"""HTTP over a unix socket, or over ssh, with one connection pool for all requests.

The adapters of Docker's SDK (7.2) have one pool per URL, so almost every request opens a new
connection. That of unix sockets leaks sockets that fail to connect. That of ssh has no timeouts,
and raises BrokenPipeError at the end of a log.
"""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool

from airflow_torchx.concurrency.daemons import in_daemon
from airflow_torchx.docker_engine.errors import SshError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from urllib3.response import HTTPResponse

#: `ssh` asks nothing, as a worker has no terminal. A peer that is gone is noticed within a minute.
_SSH: Final = (
    *("ssh", "-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=30"),
    *("-o", "ServerAliveInterval=20", "-o", "ServerAliveCountMax=3"),
)
#: What the docker CLI runs on a host that it reaches by ssh.
_DIAL: Final = "docker system dial-stdio"
_END_S: Final = 1.0
_BLOCK_BYTES: Final = 65_536
#: `ssh` may write for days, with a LogLevel of its configuration.
_SAID_BYTES: Final = 2000
_SHOWN_CHARS: Final = 200


class _UnixConnection(HTTPConnection):
    def __init__(self, *args: Any, url: str, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **kwargs)
        self._socket_path = urlsplit(url).path

    def connect(self) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(self.timeout)
            sock.connect(self._socket_path)
        except OSError:
            sock.close()
            raise
        self.sock = sock


class _Ssh:
    """The program `ssh`, whose input and output are a socket.

    It ends once that is closed and the daemon closes its side, which a command in a container that
    has no end delays.
    """

    def __init__(self, url: str, stdio: socket.socket) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - no shell reads it
            _command(url),
            stdin=stdio.fileno(),
            stdout=stdio.fileno(),
            stderr=subprocess.PIPE,
            # The shell sends Ctrl-C to all processes in its session, and we may still ask.
            start_new_session=True,
        )
        self._said = b""
        self._waits = in_daemon(self._wait, "torchx-ssh")

    def _wait(self) -> None:
        assert self._process.stderr is not None  # noqa: S101 - it is a pipe
        with self._process.stderr as pipe:
            while block := os.read(pipe.fileno(), _BLOCK_BYTES):
                self._said = (self._said + block)[-_SAID_BYTES:]
        self._process.wait()

    def why_failed(self) -> str:
        """Return the end of what it has written if it has failed, else an empty text."""
        self._waits.join(_END_S)
        lines = self._said.decode(errors="replace").split("\n")
        text = "; ".join(filter(None, map(str.strip, lines)))
        # What it has started may have its stderr, and live on.
        return (text or "no message") if self._process.poll() else ""

    def end(self) -> None:
        """Kill it, and what it has started."""
        if self._process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)


def _command(url: str) -> list[str]:
    parts = urlsplit(url)
    user, _, address = parts.netloc.rpartition("@")
    options = ("-l", unquote(user)) if user else ()
    port = ("-p", str(parts.port)) if parts.port else ()
    # Not `hostname`, which is in lower case: names in the configuration of ssh have a case.
    host = re.sub(r":\d*$", "", address).strip("[]")
    return [*_SSH, *options, *port, "--", host, _DIAL]


class _SshConnection(HTTPConnection):
    def __init__(self, *args: Any, url: str, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **kwargs)
        self._url = url
        self._ssh: _Ssh | None = None
        self._has_answered = False

    def connect(self) -> None:
        own, other = socket.socketpair()
        self._has_answered = False
        with other:
            try:
                self._ssh = _Ssh(self._url, other)
            except BaseException:
                own.close()
                raise
        own.settimeout(self.timeout)
        self.sock = own

    def send(self, data: Any) -> None:  # noqa: ANN401 - as in http.client
        with self._login():
            super().send(data)

    def getresponse(self) -> HTTPResponse:  # type: ignore[override] # as in urllib3
        with self._login():
            try:
                response = super().getresponse()
            except ConnectionError as error:
                if self._ssh is not None and (why := self._ssh.why_failed()):
                    raise SshError(why) from error
                raise
            except http.client.BadStatusLine as error:
                line = str(error).strip()[:_SHOWN_CHARS]
                raise SshError(f"{line!r} came in place of an answer of the daemon") from error
        self._has_answered = True
        return response

    @contextmanager
    def _login(self) -> Iterator[None]:
        """End a login that takes too long, or is interrupted: it may not see its socket closed.

        Later, other programs may share it, by a ControlMaster of the user's configuration.
        """
        try:
            yield
        except BaseException as error:
            is_over = self._has_answered or isinstance(error, ConnectionError)
            if self._ssh is not None and not is_over:
                self._ssh.end()
            raise


class _UnixPool(HTTPConnectionPool):
    ConnectionCls = _UnixConnection


class _SshPool(HTTPConnectionPool):
    ConnectionCls = _SshConnection


class SocketAdapter(HTTPAdapter):
    """Sends every request to one daemon; keeps up to ``max_connections`` idle connections.

    Args:
        url: ``unix:///path``, or ``ssh://user@host:port``, which the user's ssh configuration
            completes.
    """

    def __init__(self, url: str, *, max_connections: int) -> None:
        super().__init__()
        pool = _SshPool if url.startswith("ssh://") else _UnixPool
        self._pool = pool("localhost", maxsize=max_connections, url=url)

    def get_connection_with_tls_context(self, *_: Any, **__: Any) -> HTTPConnectionPool:  # noqa: ANN401
        """Return the pool."""
        return self._pool

    def request_url(self, request: Any, _: Any) -> str:  # noqa: ANN401
        """Return the path; the URL's host is ignored."""
        return str(request.path_url)

    def close(self) -> None:
        """Close idle connections; those in use are closed when they are released."""
        super().close()
        self._pool.close()
