"""Tests of what a reaper gets from the process that it stands by for."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import tempfile
from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_torchx.core.connection.endpoint import Endpoint
from airflow_torchx.core.connection.pem import Pem
from airflow_torchx.core.connection.swarm import Swarm
from airflow_torchx.core.engine import labels
from airflow_torchx.runtime import launching, lifecycle
from airflow_torchx.runtime.reaper import WAIT, Order, endpoint_fields, endpoint_of, repeat
from airflow_torchx.testing import FakeEngine, Program
from tests.unit.apps import planned, states

if TYPE_CHECKING:
    from pathlib import Path


def test_an_endpoint_keeps_its_certificates() -> None:
    """A reaper connects as its maker does, also with certificates as text."""
    endpoint = Endpoint(
        url="tcp://gpu-host:2376",
        tls_ca=Pem("authority"),
        tls_cert="/certificates/client.pem",
        tls_private_key=Pem("key"),
        request_timeout_s=7.0,
        swarm=Swarm(managers=("tcp://box2:2376",), constraints=("node.role==worker",), mtu=8950),
    )

    assert endpoint == endpoint_of(json.loads(json.dumps(endpoint_fields(endpoint))))


def test_the_last_order_is_carried_out_in_any_folder(tmp_path: Path) -> None:
    """A reaper takes long certificates, and ignores modules in its working directory."""
    (tmp_path / "json.py").write_text("raise SystemExit('not the module of Python')")
    endpoint, *orders = ({"tls_ca": "x" * 200_000}, {"grace_s": 1.0}, {"grace_s": 2.0})

    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", WAIT, "json.tool", "--json-lines", "--compact"],
        input="".join(f"{json.dumps(message)}\n" for message in (endpoint, *orders)),
        capture_output=True,
        cwd=tmp_path,
        text=True,
        timeout=60,
        check=False,
    )

    assert "" == done.stderr
    assert [endpoint, orders[-1]] == [json.loads(line) for line in done.stdout.splitlines()]


FORKS = """
import os, signal, sys
from airflow_torchx.core.connection.endpoint import Endpoint
from airflow_torchx.runtime.reaper import Order, Reaper

reaper = Reaper(Endpoint(url=sys.argv[1]), "app", "launch")
reaper.order(Order())
if os.fork() == 0:
    sys.stdin.read()
    os._exit(0)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_reaper_does_not_wait_for_a_child_of_its_process() -> None:
    """A child that the process has forked has no share in the pipe that the reaper reads."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as daemon:
        daemon.bind(f"{folder}/s")
        daemon.listen()
        daemon.settimeout(60)
        with subprocess.Popen(
            [sys.executable, "-c", FORKS, f"unix://{folder}/s"], stdin=subprocess.PIPE
        ) as maker:
            assert -signal.SIGKILL == maker.wait(60)
            # The child ends with this pipe.
            connection, _ = daemon.accept()
            connection.close()


def test_a_launch_that_was_complete_is_left_alone_for_good() -> None:
    """Another process may have adopted it, and be about to restart it when the reaper looks."""
    engine = FakeEngine(images=["busybox"], programs=Program(runs_for_s=None))
    launching.launch(engine, planned())
    pauses: list[float] = []

    repeat(engine, "app-1", "one", Order(spares_complete=True), pauses.append)

    assert [0.0] == pauses
    assert ["RUNNING"] * 3 == states(engine)


def test_a_launch_that_broke_off_is_removed() -> None:
    """The reaper looks several times, because the daemon may still execute a last request.

    The lock that the launch had on a swarm goes, too, and that of another app stays.
    """
    engine = FakeEngine(images=["busybox"], programs=Program(runs_for_s=None))
    specs = planned().containers
    engine.create(specs[0])
    for app_id in ("app-1", "app-2"):
        lock = {labels.SWARM_LOCK: app_id}
        engine.create(replace(specs[0], name=f"lock-of-{app_id}", labels=lock))
    pauses: list[float] = []

    def sleep(pause_s: float) -> None:
        pauses.append(pause_s)
        if len(pauses) == 2:
            engine.create(specs[1])

    repeat(engine, "app-1", "one", Order(spares_complete=True), sleep)

    assert 3 == len(pauses)
    assert not lifecycle.exists(engine, "app-1")
    assert ["lock-of-app-2"] == [row.name for row in engine.rows({})]
