"""HTTP over a unix socket, with one connection pool for all requests.

The adapter of Docker's SDK (7.2) has one pool per URL, so almost every request opens a new
connection, and it leaks sockets that fail to connect.
"""

from __future__ import annotations

import socket
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool


class _Connection(HTTPConnection):
    def __init__(self, *args: Any, socket_path: str, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **kwargs)
        self._socket_path = socket_path

    def connect(self) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(self.timeout)
            sock.connect(self._socket_path)
        except OSError:
            sock.close()
            raise
        self.sock = sock


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class UnixAdapter(HTTPAdapter):
    """Sends every request to one unix socket; keeps up to ``max_connections`` idle connections."""

    def __init__(self, socket_path: str, *, max_connections: int) -> None:
        super().__init__()
        self._pool = _Pool("localhost", maxsize=max_connections, socket_path=socket_path)

    def get_connection_with_tls_context(self, *_: Any, **__: Any) -> _Pool:  # noqa: ANN401
        """Return the pool."""
        return self._pool

    def request_url(self, request: Any, _: Any) -> str:  # noqa: ANN401
        """Return the path; the URL's host is ignored."""
        return str(request.path_url)

    def close(self) -> None:
        """Close idle connections; those in use are closed when they are released."""
        super().close()
        self._pool.close()
