"""The gate through which the tests of kills reach the daemon."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import pytest

from airflow_torchx.core.engine.containers import LogQuery
from tests.airflow.gate import Gate, Hold, Kind, Side
from tests.integration.stub import Stub, chunked, connect, json_answer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.integration.stub import Request

FRAME: Final = b"\1\0\0\0\0\0\0\2a\n"


def answer(request: Request) -> list[bytes]:
    """Answer what the tests ask for."""
    if "/logs" in request.target:
        return chunked(FRAME, FRAME)
    if "/containers/json" in request.target:
        return json_answer([])
    if request.method == "POST":
        return json_answer(None, 204)
    return json_answer({"Id": "i"})


@pytest.fixture
def stub(tmp_path: Path) -> Iterator[Stub]:
    """Return a daemon behind the gate."""
    with Stub(answer, tmp_path / "daemon") as stub:
        yield stub


@pytest.fixture
def gate(tmp_path: Path, stub: Stub) -> Iterator[Gate]:
    """Return a gate to the stub."""
    assert not stub.asked
    with Gate(tmp_path / "gate", str(tmp_path / "daemon")) as gate:
        yield gate


def test_what_is_not_held_passes(gate: Gate, stub: Stub) -> None:
    """Requests and answers go through unchanged, and are counted by their kind."""
    with connect(gate.path) as engine:
        engine.rename("c", "d")
        engine.start("c")
        lines = b"".join(engine.logs("c", LogQuery(follow=True)))
        assert () == engine.rows({"a": None})

    assert FRAME * 2 == lines
    assert ["POST /containers/c/rename?name=d", "POST /containers/c/start"] == stub.asked[:2]
    assert [1, 1, 1, 1, 0] == [
        gate.answered(kind) for kind in (Kind.RENAME, Kind.START, Kind.LOGS, Kind.LIST, Kind.REMOVE)
    ]


@pytest.mark.parametrize("side", Side)
def test_the_nth_is_held(gate: Gate, stub: Stub, side: Side) -> None:
    """A held request waits before or behind the daemon, with those after it."""
    hold = gate.hold(Hold(Kind.START, nth=2, side=side))

    with connect(gate.path) as engine, ThreadPoolExecutor() as pool:
        engine.start("1")
        held = pool.submit(engine.start, "2")
        pid = hold.wait()
        assert () == engine.rows({})
        assert not held.done()
        seen = [request for request in stub.asked if "start" in request]
        hold.release()
        held.result()
        engine.start("3")

    assert os.getpid() == pid
    assert (1 if side is Side.BEFORE else 2) == len(seen)
    assert 3 == gate.answered(Kind.START)


def test_only_some_count(gate: Gate) -> None:
    """A hold may ask for what was answered before, and for who asks."""
    late = gate.hold(Hold(Kind.LIST, after={Kind.START: 1}))
    others = gate.hold(Hold(Kind.LIST, of=lambda pid: pid != os.getpid()))

    with connect(gate.path) as engine, ThreadPoolExecutor() as pool:
        engine.rows({})
        engine.start("c")
        held = pool.submit(engine.rows, {})
        assert os.getpid() == late.wait()
        late.release()
        held.result()

    assert not others.has_caught


def _start(path: Path) -> None:
    with connect(path) as engine:
        engine.start("c")


def test_a_client_that_was_killed_never_asked(gate: Gate, stub: Stub) -> None:
    """What is held before the daemon when its sender is killed does not reach it later."""
    hold = gate.hold(Hold(Kind.START))
    client = multiprocessing.get_context("spawn").Process(target=_start, args=(gate.path,))
    client.start()
    assert client.pid == hold.wait()

    client.kill()
    client.join()
    hold.release()
    with connect(gate.path) as engine:
        engine.rename("c", "d")

    assert -signal.SIGKILL == client.exitcode
    assert ["POST /containers/c/rename?name=d"] == stub.asked


def test_an_upgrade(tmp_path: Path) -> None:
    """After an upgrade of the protocol, bytes pass in both directions as they come."""
    with socket.socket(socket.AF_UNIX) as daemon:
        daemon.bind(str(tmp_path / "daemon"))
        daemon.listen()
        with (
            Gate(tmp_path / "gate", str(tmp_path / "daemon")),
            socket.socket(socket.AF_UNIX) as client,
        ):
            client.connect(str(tmp_path / "gate"))
            head = b"POST /v1.41/exec/e/start HTTP/1.1\r\nUpgrade: tcp\r\n\r\n"
            client.sendall(head)
            behind, _ = daemon.accept()
            with behind:
                assert head == behind.recv(1000)
                for one, other in ((behind, client), (client, behind)):
                    one.sendall(b"\0\1\n")
                    assert b"\0\1\n" == other.recv(1000)
