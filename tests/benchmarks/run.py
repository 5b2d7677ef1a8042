"""Side by side with TorchX, in one run on one daemon: ratios, not seconds.

Usage: python tests/benchmarks/run.py [launch] [status] [cancel] [logs] [imports]
                                      [workspace] [push] [memory] [waits]
Everything by default. A bound that is missed is shown and makes no exit code: timings gate nothing.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Final

import docker

from airflow_torchx import jobs
from airflow_torchx.docker_engine import DockerEngine
from airflow_torchx.replica_logs import ReplicaLog
from airflow_torchx.schedulers.docker_scheduler import LABEL_APP_ID, create_scheduler
from airflow_torchx.specs import AppDef, Resource, Role
from tests.benchmarks import waits, workspaces
from tests.benchmarks.comparison import Comparison, console, measure

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS: Final = 5
REPLICAS: Final = 64
LOG_BYTES: Final = 64 << 20
WORKER: Final = "worker.py"
TAG: Final = "airflow-torchx/busybox:local"

results = Comparison("medians")
row = results.row


def remove(client: docker.APIClient, **labels: str) -> None:
    """Remove containers by label, several at a time."""
    filters = {"label": [f"{name}={value}" for name, value in labels.items()] or [LABEL_APP_ID]}
    ids = [row["Id"] for row in client.containers(all=True, filters=filters)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda one: client.remove_container(one, force=True, v=True), ids))


def launches(client: docker.APIClient) -> None:
    """Launch 64 replicas: TorchX, ours, and the bare SDK with the same number of threads."""
    image = client.inspect_image(TAG)["Id"]  # TorchX pulls a tag each time, but not an id
    spent: dict[str, list[float]] = {"torchx": [], "airflow_torchx": [], "floor": []}
    for _ in range(ROUNDS):
        for package in ("torchx", "airflow_torchx"):
            answer = measure(WORKER, package, "launch", REPLICAS, image)
            spent[package].append(answer["seconds"])
            remove(client, **{LABEL_APP_ID: answer["app_id"]})
        spent["floor"].append(floor(client, image))
    theirs, ours, least = (
        statistics.median(spent[k]) for k in ("torchx", "airflow_torchx", "floor")
    )
    row(f"launch {REPLICAS} replicas, s, against TorchX", ours, theirs, "at most", 0.65)
    row(f"launch {REPLICAS} replicas, s, against the bare SDK", ours, least, "at most", 1.10)


def floor(client: docker.APIClient, image: str) -> float:
    """Create and start the same containers with nothing but the SDK and 8 threads."""
    run = uuid.uuid4().hex[:8]
    host = client.create_host_config(
        network_mode="torchx", mem_limit="64m", shm_size="64m", nano_cpus=1_000_000_000
    )

    def create(index: int) -> str:
        name = f"floor-{run}-{index}"
        made = client.create_container(
            image,
            ["sleep", "600"],
            hostname=name,
            name=name,
            labels={"floor": run},
            host_config=host,
        )
        return str(made["Id"])

    began = time.perf_counter()
    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(create, range(REPLICAS)))
        list(pool.map(client.start, ids))
    spent = time.perf_counter() - began
    remove(client, floor=run)
    return spent


def statuses(client: docker.APIClient) -> None:
    """Describe 64 running replicas, and list 100 finished apps of 2."""
    with create_scheduler("bench") as scheduler:
        app = sleeper(REPLICAS, "600")
        app_id = scheduler.submit(app)
        ours, theirs = (
            measure(WORKER, package, "describe", app_id, 11)["seconds"]
            for package in ("airflow_torchx", "torchx")
        )
        row(f"describe {REPLICAS} replicas, s", ours, theirs, "at most", 0.15)
        remove(client, **{LABEL_APP_ID: app_id})
        finished = [scheduler.submit(sleeper(2, "0")) for _ in range(100)]
        for one in finished:
            scheduler.wait(one)
        ours, theirs = (
            measure(WORKER, package, "list", 5)["seconds"]
            for package in ("airflow_torchx", "torchx")
        )
        row("list 100 finished apps of 2 replicas, s", ours, theirs, "at most", 0.10)
        for one in finished:
            remove(client, **{LABEL_APP_ID: one})


def sleeper(replicas: int, seconds: str) -> AppDef:
    """Return an app whose replicas sleep."""
    role = Role(
        "bench",
        TAG,
        entrypoint="sleep",
        args=[seconds],
        num_replicas=replicas,
        resource=Resource(cpu=1, gpu=0, memMB=64),
    )
    return AppDef("bench", [role])


def cancels(client: docker.APIClient) -> None:
    """Cancel 16 replicas that ignore SIGTERM, under a grace period of 10 s."""
    grace = 10.0
    deaf = Role(
        "deaf", TAG, entrypoint="sh", args=["-c", "trap '' TERM; sleep 600"], num_replicas=16
    )
    spent = []
    with create_scheduler("bench") as scheduler:
        for _ in range(ROUNDS):
            app_id = scheduler.submit(AppDef("deaf", [deaf]), {"stop_grace_s": grace})
            spent.append(clocked(partial(scheduler.cancel, app_id)))
            remove(client, **{LABEL_APP_ID: app_id})
    row(
        "cancel 16 deaf replicas, s, against one grace",
        statistics.median(spent),
        grace,
        "at most",
        (grace + 3) / grace,
    )


def clocked(call: Callable[[], object]) -> float:
    """Return the seconds of one call."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def logs(client: docker.APIClient) -> None:
    """Read a finished 64 MB log of 100-byte lines, in turn with the docker command line."""
    line = "x" * 99
    writer = Role("writer", TAG, entrypoint="sh", args=["-c", f"yes {line} | head -c {LOG_BYTES}"])
    with create_scheduler("bench") as scheduler, DockerEngine.connect() as engine:
        app_id = scheduler.submit(AppDef("writer", [writer]))
        status = scheduler.wait(app_id).roles_statuses[0].replicas[0]
        ours, theirs, peaks = [], [], []
        for _ in range(ROUNDS):
            theirs.append(
                clocked(
                    lambda: subprocess.run(
                        ["docker", "logs", status.container_id],
                        stdout=subprocess.DEVNULL,
                        check=True,
                    )
                )
            )
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            ours.append(clocked(lambda: count(engine, status.container_id)))
            peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
        # Speeds are the inverse of times.
        row(
            "64 MB log, MB/s, against `docker logs`",
            64 / statistics.median(ours),
            64 / statistics.median(theirs),
            "at least",
            0.8,
        )
        console.print(f"peak memory grew by {max(peaks) / 1024:.1f} MB while 64 MB were read")
        jobs.delete(engine, app_id)
    del client


def count(engine: DockerEngine, container: str) -> int:
    """Read a log to its end and count its lines."""
    lines = sum(1 for _ in ReplicaLog(engine, container))
    if lines != LOG_BYTES // 100 + 1:
        raise AssertionError(lines)
    return lines


def imports(client: docker.APIClient) -> None:
    """Import the operators after airflow.sdk."""
    code = (
        "import time, airflow.sdk; from airflow.sdk import BaseOperator, BaseHook\n"
        "began = time.perf_counter(); import airflow_torchx.operators\n"
        "print(time.perf_counter() - began)"
    )
    run = [sys.executable, "-W", "ignore", "-c", code]
    spent = [
        float(subprocess.run(run, check=True, capture_output=True, text=True).stdout.split()[-1])
        for _ in range(ROUNDS)
    ]
    row("import the operators, s, against 50 ms", statistics.median(spent), 0.050, "at most", 1.0)
    del client


def main() -> None:
    """Measure what the command line names, or everything."""
    parts = {
        "launch": launches,
        "status": statuses,
        "cancel": cancels,
        "logs": logs,
        "imports": imports,
        "workspace": workspaces.builds,
        "push": workspaces.pushes,
        "memory": workspaces.memory,
        "waits": waits.waits,
    }
    client = docker.from_env(timeout=120).api  # the same daemon as everybody else here
    for name in sys.argv[1:] or parts:
        console.print(f"[bold]{name}[/bold]")
        parts[name](client)
    results.show()
    workspaces.results.show()
    waits.results.show()


if __name__ == "__main__":
    main()
