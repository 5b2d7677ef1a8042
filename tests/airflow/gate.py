"""A gate in front of a Docker daemon: it holds chosen requests until a test lets them go.

So a test kills a process between two requests, not some seconds after its start.
"""

from __future__ import annotations

import os
import re
import select
import socket
import struct
import threading
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import unquote

from airflow_torchx.core.connection.endpoint import Endpoint
from airflow_torchx.core.plan.progress import PROGRESS_PATH
from airflow_torchx.docker_engine.connection import resolve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from io import BufferedReader
    from pathlib import Path

PATIENCE_S: Final = 120.0
_PIECE_BYTES: Final = 1 << 16
_VERSION: Final = re.compile(r"^/v\d+\.\d+(?=/)")
_HEADER: Final = re.compile(rb"^([^:\r\n]+): *([^\r\n]*)\r$", re.MULTILINE)
_CREDENTIALS: Final = struct.Struct("3i")  # process, user, group


class Kind(StrEnum):
    """What a request is for: a pattern of its method and path, without the version."""

    LIST = r"GET /containers/json"
    CREATE = r"POST /containers/create"
    START = r"POST /containers/[^/]+/start"
    INSPECT = r"GET /containers/[^/]+/json"
    LOGS = r"GET /containers/[^/]+/logs"
    ARCHIVE = r"GET /containers/[^/]+/archive"
    RENAME = r"POST /containers/[^/]+/rename"
    STOP = r"POST /containers/[^/]+/stop"
    REMOVE = r"DELETE /containers/[^/]+"
    EVENTS = r"GET /events"
    # Of a swarm.
    SERVICE_CREATE = r"POST /services/create"
    SERVICE_UPDATE = r"POST /services/[^/]+/update"
    SERVICE_REMOVE = r"DELETE /services/[^/]+"

    @classmethod
    def of(cls, method: str, target: str) -> Kind | None:
        """Return the kind of a request, None for one that is never held."""
        route, _, query = target.partition("?")
        if PROGRESS_PATH in unquote(query):
            # It is read at any time while an app runs, and no outcome depends on it.
            return None
        path = _VERSION.sub("", route)
        matching = (kind for kind in cls if re.fullmatch(kind, f"{method} {path}"))
        return next(matching, None)


class Side(StrEnum):
    """Where a request is held."""

    BEFORE = "before"  # the daemon has not seen it
    AFTER = "after"  # the daemon has done it, and the client has no answer


@dataclass
class Hold:
    """Catches one request and all later ones of its kind and process, until they are let go.

    Args:
        kind: which requests.
        nth: the first one that is caught, counted from 1 since the hold was set.
        side: where it is caught.
        after: only requests that come when so many of these kinds were answered count.
        of: only requests of processes for which this is true count.
    """

    kind: Kind
    nth: int = 1
    side: Side = Side.BEFORE
    after: Mapping[Kind, int] | None = None
    of: Callable[[int], bool] = lambda _: True

    def __post_init__(self) -> None:
        self._seen = 0
        self._pid: int | None = None
        self._caught = threading.Event()
        self._released = threading.Event()
        self._lock = threading.Lock()

    def wait(self) -> int:
        """Wait until a request is held, and return the process that sent it."""
        assert self._caught.wait(PATIENCE_S), f"nothing to hold at {self}"
        assert self._pid
        return self._pid

    @property
    def has_caught(self) -> bool:
        """Tell whether a request was ever held here."""
        return self._caught.is_set()

    def release(self) -> None:
        """Let everything go, now and later."""
        self._released.set()

    def wants(self, kind: Kind | None, pid: int, answered: Mapping[Kind, int]) -> bool:
        """Count a request, and tell whether it is one to hold."""
        counts = kind is self.kind and not self._released.is_set() and self.of(pid)
        if not counts or any(answered.get(k, 0) < n for k, n in (self.after or {}).items()):
            return False
        with self._lock:
            self._seen += 1
            self._pid = self._pid or (pid if self._seen >= self.nth else None)
            return pid == self._pid

    def catch(self) -> None:
        """Tell that a request is held, and come back when it is let go."""
        self._caught.set()
        self._released.wait()


class Gate:
    """A unix socket that leads to a daemon; on exit all that is held goes on.

    Args:
        path: the socket to make.
        daemon: the daemon's own socket.
        looks: is shown each request before it goes on, as its kind and its path.
    """

    def __init__(
        self, path: Path, daemon: str, looks: Callable[[Kind, str], None] = lambda *_: None
    ) -> None:
        self.path = path
        self._looks = looks
        self._daemon = daemon
        self._holds: list[Hold] = []
        self._asked: Counter[Kind] = Counter()
        self._answered: Counter[Kind] = Counter()
        self._lock = threading.Lock()
        self._passages: list[tuple[_Passage, threading.Thread]] = []
        self._listener = socket.socket(socket.AF_UNIX)

    def __enter__(self) -> Self:
        self._listener.bind(str(self.path))
        self._listener.listen(128)
        self._accepting = _spawn(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self.release_all()
        with self._listener, suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        for passage, thread in self._passages:
            passage.close()
            thread.join()
        self.path.unlink()

    def hold(self, hold: Hold) -> Hold:
        """Set a hold, and return it."""
        with self._lock:
            self._holds.append(hold)
        return hold

    def release_all(self) -> None:
        """Let everything go."""
        for hold in self._holds:
            hold.release()

    def asked(self, kind: Kind) -> int:
        """Return how many requests of a kind came, those that are held included."""
        return self._asked[kind]

    def answered(self, kind: Kind) -> int:
        """Return how many requests of a kind the daemon has begun to answer."""
        return self._answered[kind]

    def arrives(self, kind: Kind | None, target: str, pid: int) -> Hold | None:
        """Count a request, and return what holds it."""
        if kind:
            self._looks(kind, target)
        with self._lock:
            if kind:
                self._asked[kind] += 1
            wanting = [hold for hold in self._holds if hold.wants(kind, pid, self._answered)]
        return wanting[0] if wanting else None

    def is_answered(self, kind: Kind | None) -> None:
        """Count an answer."""
        with self._lock:
            if kind:
                self._answered[kind] += 1

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                passage = _Passage(self, client, self._daemon)
                self._passages.append((passage, _spawn(passage.carry)))


class _Passage:
    """One connection through a gate; its requests come one after the other.

    Args:
        gate: the gate.
        client: from where requests come.
        daemon: path of the socket to which they go.
    """

    def __init__(self, gate: Gate, client: socket.socket, daemon: str) -> None:
        self._gate = gate
        self._client = client
        self._daemon = socket.socket(socket.AF_UNIX)
        self._daemon.connect(daemon)
        credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        self._pid: int = _CREDENTIALS.unpack(credentials)[0]
        # What the next bytes of the daemon answer, and what holds them.
        self._unanswered: tuple[Kind | None, Hold | None] | None = None

    def carry(self) -> None:
        """Carry requests and answers until one end leaves."""
        with self._client, self._daemon:
            answers = _spawn(self._carry_answers)
            with suppress(OSError), self._client.makefile("rb") as incoming:
                while head := _head(incoming):
                    self._carry_request(head, incoming)
            self.close()
            answers.join()

    def close(self) -> None:
        """End the connection on both sides."""
        for end in (self._client, self._daemon):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _carry_request(self, head: bytes, incoming: BufferedReader) -> None:
        method, target, _ = head.decode("latin-1").split(" ", 2)
        kind = Kind.of(method, target)
        hold = self._gate.arrives(kind, target, self._pid)
        if hold and hold.side is Side.BEFORE:
            hold.catch()
        # A kill must not depend on which of the client's last requests were carried before it.
        if self._client_has_left():
            raise ConnectionResetError
        self._unanswered = kind, hold if hold and hold.side is Side.AFTER else None
        self._daemon.sendall(head)
        for piece in _body(head, incoming):
            self._daemon.sendall(piece)

    def _carry_answers(self) -> None:
        with suppress(OSError):
            while piece := self._daemon.recv(_PIECE_BYTES):
                if self._unanswered:
                    (kind, hold), self._unanswered = self._unanswered, None
                    self._gate.is_answered(kind)
                    if hold:
                        hold.catch()
                self._client.sendall(piece)
        self.close()

    def _client_has_left(self) -> bool:
        """Tell whether the client was killed, so that its request never left it."""
        poll = select.poll()
        poll.register(self._client, 0)
        return bool(poll.poll(0))


def daemon_socket() -> str:
    """Return the socket of the daemon that the docker command line would use."""
    url = str(resolve(Endpoint(), os.environ).url)
    assert url.startswith("unix://"), f"a gate leads to a unix socket only, not to {url}"
    return url.removeprefix("unix://")


def _head(incoming: BufferedReader) -> bytes:
    """Return the first line and the headers of a request, nothing if there is none."""
    head = b""
    while line := incoming.readline():
        head += line
        if line == b"\r\n":
            return head
    return b""


def _body(head: bytes, incoming: BufferedReader) -> Iterator[bytes]:
    """Yield what belongs to a request: its length, its chunks, or all after an upgrade."""
    headers = dict(_HEADER.findall(head.lower()))
    if b"upgrade" in headers:
        yield from iter(lambda: incoming.read1(_PIECE_BYTES), b"")
    elif headers.get(b"transfer-encoding") == b"chunked":
        size = -1
        while size:
            line = incoming.readline()
            size = int(line, 16)
            yield line + incoming.read(size + len(b"\r\n"))
    else:
        yield incoming.read(int(headers.get(b"content-length", 0)))


def _spawn(target: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    return thread
