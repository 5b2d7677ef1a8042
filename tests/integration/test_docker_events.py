"""Events, where their connection breaks, is quiet or is closed."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs, urlsplit

import pytest

from airflow_torchx.core.connection.endpoint import Endpoint
from airflow_torchx.core.engine import labels
from airflow_torchx.core.engine.containers import ContainerEvent
from airflow_torchx.docker_engine import DockerEngine
from airflow_torchx.errors import EngineError, EngineUnreachableError
from tests.integration.stub import Request, Stub, chunked, connect, failure, opened, saying

if TYPE_CHECKING:
    from collections.abc import Iterator

LABELS: Final = {labels.APP_ID: "a", labels.APP_NAME: "trainer"}
ATTRIBUTES: Final = {**LABELS, "other": "label", "name": "a-0", "image": "i", "exitCode": "7"}
EVENT: Final = {
    "Type": "container",
    "Action": "die",
    "Actor": {"ID": "c", "Attributes": ATTRIBUTES},
    "time": 1,
    "timeNano": 1_000_000_002,
}
LINE: Final = json.dumps(EVENT).encode() + b"\n"
READ: Final = ContainerEvent(
    container_id="c",
    name="a-0",
    labels=LABELS,
    action="die",
    time_ns=1_000_000_002,
    exit_code=7,
)


def test_request(address: Path) -> None:
    """The request asks only for events that change a row of an app's container."""
    with Stub(saying(chunked(LINE)), address) as stub, connect(address) as engine:
        engine.events().close()
        url = urlsplit(stub.asked[0].removeprefix("GET "))

    assert "/events" == url.path
    assert {
        "type": ["container"],
        "label": [labels.APP_ID],
        "event": ["create", "start", "pause", "unpause", "rename", "die", "destroy"],
    } == json.loads(parse_qs(url.query)["filters"][0])


def test_objects_in_pieces(address: Path) -> None:
    """An event may come in several chunks, and several of them in one."""
    answer = chunked(LINE[:10], LINE[10:] + LINE + LINE[:-1], b"\n", end=False)

    def say(_: Request) -> Iterator[bytes]:
        yield from answer
        raise ConnectionError

    events: list[ContainerEvent] = []
    with Stub(say, address), connect(address) as engine, pytest.raises(EngineUnreachableError):
        events.extend(engine.events())

    assert [READ] * 3 == events


@pytest.mark.parametrize("end", [True, False])
def test_end(address: Path, *, end: bool) -> None:
    """A stream that the daemon ends, or whose connection breaks, is an error."""

    def say(_: Request) -> Iterator[bytes]:
        yield from chunked(LINE, end=end)
        raise ConnectionError

    with (
        Stub(say, address),
        connect(address) as engine,
        pytest.raises(EngineUnreachableError, match="event"),
    ):
        list(engine.events())


def test_refusal(address: Path) -> None:
    """A daemon that refuses to send events is an error at once."""
    with (
        Stub(saying(failure(403)), address),
        connect(address) as engine,
        pytest.raises(EngineError, match="cannot follow container events: because"),
    ):
        engine.events()


def test_quiet_and_close(address: Path) -> None:
    """A stream waits longer than a request may take, until another thread closes it."""
    leave = threading.Event()

    def say(_: Request) -> Iterator[bytes]:
        yield chunked(end=False)[0]
        time.sleep(2.5 * engine.client.timeout)
        yield chunked(LINE)[1]
        leave.wait()

    with (
        Stub(say, address),
        connect(address, timeout_s=0.3) as engine,
        ThreadPoolExecutor() as pool,
    ):
        stream = opened(engine, engine.events)
        events = iter(stream)
        first = next(events)
        reading = pool.submit(list, events)
        stream.close()
        others = reading.result()
        leave.set()

    assert (READ, []) == (first, others)


def test_a_quiet_connection_is_kept_alive() -> None:
    """The system asks a far daemon every half minute, and routers do not forget the connection."""
    leave = threading.Event()

    def say(_: Request) -> Iterator[bytes]:
        yield chunked(end=False)[0]
        leave.wait(60)

    with Stub(say, ("127.0.0.1", 0)) as stub:
        url = f"tcp://127.0.0.1:{stub.port}"
        with DockerEngine.connect(Endpoint(url=url)) as engine, closing(engine.events()):
            options = [
                (
                    sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
                    sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
                )
                for sock in sockets_to(stub.port)
            ]
            leave.set()

    assert (1, 30) in options


def sockets_to(port: int) -> Iterator[socket.socket]:
    """Yield this process's own connections to a port."""
    for entry in list(Path("/proc/self/fd").iterdir()):
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(int(entry.name))) as sock:
            if sock.getpeername()[1:2] == (port,):
                yield sock


def test_hung_daemon(address: Path) -> None:
    """A daemon that accepts the request and does not answer is an error in time."""
    leave = threading.Event()

    def say(_: Request) -> list[bytes]:
        leave.wait(60)
        return []

    with Stub(say, address), connect(address, timeout_s=0.3) as engine:
        with pytest.raises(EngineUnreachableError, match="did not answer in time"):
            engine.events()
        leave.set()
