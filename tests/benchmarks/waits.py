"""What a triggerer needs to wait for many apps: a thousand on a stub, a hundred for real."""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from airflow_torchx.concurrency.parallel import map_concurrently
from airflow_torchx.core.engine import labels
from airflow_torchx.docker_engine import DockerEngine
from airflow_torchx.schedulers.docker_scheduler import DockerScheduler
from airflow_torchx.specs import AppDef, Resource, Role
from tests.benchmarks.comparison import HERE, Comparison, console

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import docker

APPS: Final = 1_000
ENDS: Final = 200
REAL_APPS: Final = 100
#: So many wait for room on a swarm, beside so many that run.
ROOMLESS: Final = 100
WITHIN_S: Final = 10
#: One look for safety's sake, which comes once a minute, is in it.
WATCHED_S: Final = 60

#: Runs until it is asked to end.
SLEEPER: Final = Role(
    "bench",
    "airflow-torchx/busybox:local",
    entrypoint="sh",
    args=["-c", "trap 'exit 0' TERM; sleep 3600 & wait"],
    resource=Resource(cpu=0, gpu=0, memMB=16),
)
APP: Final = AppDef("bench", [SLEEPER])

results = Comparison("waits in the triggerer, against what is to be reached")
row = results.row


def waits(client: docker.APIClient) -> None:
    """Wait for 1,000 apps of a stub, of which 200 end within 10 s; then for 100 real ones."""
    with tempfile.TemporaryDirectory() as folder, stub(Path(folder) / "sock") as address:
        with worker([f"app-{index}" for index in range(APPS)], f"unix://{address}") as running:
            idle = json.loads(out(running).readline())
            ask(address, f"POST /end?apps={ENDS}&within_s={WITHIN_S}")
            time.sleep(WITHIN_S + 3)
            told = ask(address, "GET /told")
            fired = ended(running)
        report_idle(f"{APPS:,} apps of a stub", idle, APPS)
        row("streams of events", told["streams"], 1, "at most", 1.0)
        report_ends(f"{ENDS} of {APPS:,} apps of a stub", told["ends"], fired)
    real(client)


def swarm_waits(client: docker.APIClient) -> None:
    """Wait for 1,000 apps of a stub of a manager, of which 200 end within 10 s."""
    del client
    with swarm(APPS) as address:
        watch_swarm(address)


def swarm_room(client: docker.APIClient) -> None:
    """Wait for 100 apps that have no room on a swarm, on which 100 others run."""
    del client
    with swarm(2 * ROOMLESS, ROOMLESS) as address:
        app_ids = [f"app-{index}" for index in range(ROOMLESS, 2 * ROOMLESS)]
        with worker(app_ids, "") as running:
            idle = json.loads(out(running).readline())
            before = ask(address, "GET /told")["requests"]
            time.sleep(WITHIN_S)
            asked = ask(address, "GET /told")["requests"] - before
            ended(running)
    if idle["waiting"] != ROOMLESS:
        raise AssertionError(idle)
    what = f"{ROOMLESS} apps without room on a stub swarm"
    row(f"{what}, idle: share of a core", idle["cores"], 0.05, "at most", 1.0)
    row(f"{what}: requests a second", asked / WITHIN_S, 10, "at most", 1.0)


@contextmanager
def swarm(apps: int, waiting: int = 0) -> Iterator[Path]:
    """Run a stub of a manager, with a connection to it, and yield its socket."""
    with tempfile.TemporaryDirectory() as folder:
        address = Path(folder) / "sock"
        connection = {
            "conn_type": "torchx_docker",
            "host": f"unix://{address}",
            "extra": {"scheduler": "docker_swarm"},
        }
        os.environ["AIRFLOW_CONN_TORCHX_SWARM"] = json.dumps(connection)
        try:
            with stub(address, "stub_manager.py", apps, waiting):
                yield address
        finally:
            del os.environ["AIRFLOW_CONN_TORCHX_SWARM"]


def watch_swarm(address: Path) -> None:
    """Show what a wait for all apps of a stub of a manager takes, and how late ends are seen."""
    with worker([f"app-{index}" for index in range(APPS)], "") as running:
        idle = json.loads(out(running).readline())
        ask(address, f"POST /end?apps={ENDS}&within_s={WITHIN_S}")
        time.sleep(WITHIN_S + 6)
        told = ask(address, "GET /told")
        fired = ended(running)
    report_idle(f"{APPS:,} apps of a stub swarm", idle, APPS)
    if told["ends"].keys() != fired.keys():
        raise AssertionError(sorted(told["ends"].keys() ^ fired.keys()))
    took_s = statistics.median(fired[app_id] - at_s for app_id, at_s in told["ends"].items())
    row(f"{ENDS} of them, end to trigger: median, s", took_s, 2.0, "at most", 1.0)


def launch(scheduler: DockerScheduler, app_id: str) -> None:
    """Launch the app of this id."""
    scheduler.schedule(scheduler.prepare(APP, context=scheduler.new_context(app_id)))


def real(client: docker.APIClient) -> None:
    """Wait for 100 containers that are asked to end within 10 s."""
    run = uuid.uuid4().hex[:8]
    app_ids = [f"wait-{run}-{index}" for index in range(REAL_APPS)]
    with DockerEngine.connect() as engine:
        scheduler = DockerScheduler("bench", engine)
        try:
            map_concurrently(partial(launch, scheduler), app_ids)
            with worker(app_ids, os.environ.get("DOCKER_HOST", "")) as running:
                idle = json.loads(out(running).readline())
                began_s = time.monotonic()
                for index, app_id in enumerate(app_ids):
                    at_s = began_s + index * WITHIN_S / REAL_APPS
                    time.sleep(max(0.0, at_s - time.monotonic()))
                    client.kill(container(client, app_id), signal="TERM")
                time.sleep(10)
                fired = ended(running)
            report_idle(f"{REAL_APPS} real apps", idle, REAL_APPS)
            took_ms = report_ends(f"{REAL_APPS} real apps", finished(client, app_ids), fired)
            floor_ms = report_floor(client, scheduler, run)
            row("real apps, median, ms, against Docker's list", took_ms, floor_ms, "at most", 2.0)
        finally:
            rows = [r for r in engine.rows({labels.APP_ID: None}) if run in r.labels[labels.APP_ID]]
            map_concurrently(lambda one: engine.remove(one.id), rows)


def report_floor(client: docker.APIClient, scheduler: DockerScheduler, run: str) -> float:
    """Return how long Docker itself takes to list an end, in ms: it puts the container away first.

    One app at a time ends, and nothing else is done than to ask for its row.
    """
    app_ids = [f"floor-{run}-{index}" for index in range(REAL_APPS // 5)]
    map_concurrently(lambda one: launch(scheduler, one), app_ids)
    shown = {}
    for app_id in app_ids:
        client.kill(container(client, app_id), signal="TERM")
        while scheduler.engine.rows({labels.APP_ID: app_id})[0].state == "running":
            time.sleep(0.005)
        shown[app_id] = time.monotonic()
    ends = finished(client, app_ids)
    return statistics.median(1000 * (shown[app_id] - ends[app_id]) for app_id in app_ids)


def container(client: docker.APIClient, app_id: str) -> str:
    """Return the container of an app."""
    (one,) = client.containers(all=True, filters={"label": f"{labels.APP_ID}={app_id}"})
    return str(one["Id"])


def finished(client: docker.APIClient, app_ids: list[str]) -> dict[str, float]:
    """Return when each app ended, on the monotonic clock."""
    from airflow_torchx.core.engine.times import parse_time

    shift_s = time.monotonic() - time.time()
    found = {}
    for app_id in app_ids:
        state = client.inspect_container(container(client, app_id))["State"]
        ended_at = parse_time(state["FinishedAt"])
        if ended_at is not None:
            found[app_id] = ended_at.timestamp() + shift_s
    return found


def report_idle(what: str, idle: Mapping[str, float], apps: int) -> None:
    """Show what waiting takes while nothing happens."""
    if idle["waiting"] != apps:
        raise AssertionError(idle)
    row(f"{what}, idle: share of a core", idle["cores"], 0.02, "at most", 1.0)
    row(f"{what}: memory of each, KB", idle["kb_each"], 40, "at most", 1.0)


def report_ends(what: str, ends: Mapping[str, float], fired: Mapping[str, float]) -> float:
    """Show how long it took from each end to its trigger, and return the median in ms."""
    if ends.keys() != fired.keys():
        raise AssertionError(sorted(ends.keys() ^ fired.keys()))
    took_ms = [1000 * (fired[app_id] - at_s) for app_id, at_s in ends.items()]
    p99 = statistics.quantiles(took_ms, n=100)[98]
    median = statistics.median(took_ms)
    row(f"{what}, end to trigger: median, ms", median, 100, "at most", 1.0)
    row(f"{what}, end to trigger: 99th percentile, ms", p99, 500, "at most", 1.0)
    console.print(f"the slowest took {max(took_ms):.0f} ms")
    return median


@contextmanager
def stub(address: Path, script: str = "stub_daemon.py", *numbers: int) -> Iterator[Path]:
    """Run the stub in a process of its own, for 1,000 apps unless it is given other numbers."""
    command = [sys.executable, str(HERE / script), str(address), *map(str, numbers or [APPS])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        out(running).readline()
        yield address
        running.kill()


@contextmanager
def worker(app_ids: list[str], host: str) -> Iterator[subprocess.Popen[str]]:
    """Run what waits in a process of its own."""
    command = [sys.executable, "-W", "ignore", str(HERE / "waits_worker.py")]
    command += ["airflow_torchx", str(WATCHED_S)]
    environ = {**os.environ, **({"DOCKER_HOST": host} if host else {})}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, env=environ, text=True) as running:
        assert running.stdin is not None
        running.stdin.write("\n".join([*app_ids, "", ""]))
        running.stdin.flush()
        yield running
        running.kill()


def ended(running: subprocess.Popen[str]) -> dict[str, float]:
    """Let a worker end, and return when its triggers fired."""
    assert running.stdin is not None
    running.stdin.close()
    return dict(json.loads(out(running).readline())["fired"])


def out(running: subprocess.Popen[str]) -> IO[str]:
    """Return what a process prints."""
    assert running.stdout is not None
    return running.stdout


def ask(address: Path, request: str) -> dict[str, Any]:
    """Ask the stub something."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(address))
        sock.sendall(f"{request} HTTP/1.1\r\n\r\n".encode())
        head, _, body = sock.recv(1 << 20).partition(b"\r\n\r\n")
        length = int(head.rpartition(b":")[2])
        while len(body) < length:
            body += sock.recv(1 << 20)
    return dict(json.loads(body))
