"""Side by side with TorchX, in one run on one daemon: ratios, not seconds.

Usage: python tests/benchmarks/run.py [launch] [status] [cancel] [logs] [imports]
                                      [commands] [tasks] [workspace] [push] [memory] [waits]
                                      [swarm] [swarm_waits] [swarm_room] [gpus] [usage] [page]
Everything by default. A bound that is missed is shown and makes no exit code: timings gate nothing.
"""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Final

import docker

from airflow_torchx.runtime import attach
from airflow_torchx.runtime.usage import UsageMonitor, UsageSampler
from airflow_torchx.schedulers.docker_scheduler import LABEL_APP_ID, create_scheduler
from airflow_torchx.specs import AppDef, Resource, Role
from tests.benchmarks import gpus, pages, swarms, waits, workspaces
from tests.benchmarks.comparison import Comparison, console, measure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_torchx.schedulers.docker_scheduler import DockerScheduler

ROUNDS: Final = 5
REPLICAS: Final = 64
LOG_MB: Final = 64
LINE_BYTES: Final = 100
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

    def launched(package: str) -> float:
        answer = measure(WORKER, package, "launch", REPLICAS, image)
        remove(client, **{LABEL_APP_ID: answer["app_id"]})
        return float(answer["seconds"])

    who: dict[str, Callable[[], float]] = {
        "torchx": partial(launched, "torchx"),
        "airflow_torchx": partial(launched, "airflow_torchx"),
        "floor": partial(floor, client, image),
    }
    spent: dict[str, list[float]] = {name: [] for name in who}
    names = [*who]
    for _ in range(ROUNDS):
        for name in names:
            spent[name].append(who[name]())
        # The daemon may still be busy with what the one before left.
        names = [*names[1:], names[0]]
    theirs, ours, least = (statistics.median(spent[name]) for name in who)
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

    try:
        began = time.perf_counter()
        with ThreadPoolExecutor(8) as pool:
            ids = list(pool.map(create, range(REPLICAS)))
            list(pool.map(client.start, ids))
        return time.perf_counter() - began
    finally:
        remove(client, floor=run)


@contextlib.contextmanager
def submitted(
    scheduler: DockerScheduler, client: docker.APIClient, app: AppDef, **cfg: object
) -> Iterator[str]:
    """Launch an app, and remove it at the end."""
    app_id = scheduler.submit(app, cfg)
    try:
        yield app_id
    finally:
        remove(client, **{LABEL_APP_ID: app_id})


def statuses(client: docker.APIClient) -> None:
    """Describe 64 running replicas, and list 100 finished apps of 2."""
    packages = ("airflow_torchx", "torchx")
    with create_scheduler("bench") as scheduler, contextlib.ExitStack() as apps:
        with submitted(scheduler, client, sleeper(REPLICAS, "600")) as app_id:
            ours, theirs = (
                measure(WORKER, package, "describe", app_id, 11)["seconds"] for package in packages
            )
        row(f"describe {REPLICAS} replicas, s", ours, theirs, "at most", 0.15)
        for _ in range(100):
            scheduler.wait(apps.enter_context(submitted(scheduler, client, sleeper(2, "0"))))
        ours, theirs = (measure(WORKER, package, "list", 5)["seconds"] for package in packages)
        row("list 100 finished apps of 2 replicas, s", ours, theirs, "at most", 0.10)


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
            with submitted(scheduler, client, AppDef("deaf", [deaf]), stop_grace_s=grace) as app_id:
                spent.append(clocked(partial(scheduler.cancel, app_id)))
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
    with create_scheduler("bench") as scheduler, contextlib.ExitStack() as apps:
        containers, app_id = [], ""
        for megabytes in (1, LOG_MB):
            app_id = apps.enter_context(submitted(scheduler, client, writer(megabytes)))
            status = scheduler.wait(app_id).roles_statuses[0].replicas[0]
            containers.append(status.container_id)
        small, large = containers
        rules_cost(app_id)
        read = partial(measure, WORKER, "airflow_torchx", "log")
        show = partial(subprocess.run, stdout=subprocess.DEVNULL, check=True)
        ours, theirs = [], []
        for _ in range(ROUNDS):
            theirs.append(clocked(partial(show, ["docker", "logs", large])))
            ours.append(read(large))
        least_mb = statistics.median(read(small)["peak_mb"] for _ in range(ROUNDS))
    if {one["lines"] for one in ours} != {lines_of(LOG_MB)}:
        raise AssertionError(ours)
    # Speeds are the inverse of times.
    took = statistics.median(one["seconds"] for one in ours)
    speeds = LOG_MB / took, LOG_MB / statistics.median(theirs)
    row(f"{LOG_MB} MB log, MB/s, against `docker logs`", *speeds, "at least", 0.8)
    peak_mb = statistics.median(one["peak_mb"] for one in ours)
    row("memory for it, MB, against a log of 1 MB", peak_mb, least_mb, "at most", 1.1)


def rules_cost(app_id: str) -> None:
    """Write the log of an app with and without a search for failure rules, in turn."""
    spent: dict[str, list[float]] = {"rules": [], "plain": []}
    for _ in range(ROUNDS):
        for how, seconds in spent.items():
            answer = measure(WORKER, "airflow_torchx", "gang_log", app_id, how)
            if answer["lines"] != lines_of(LOG_MB):
                raise AssertionError(answer)
            seconds.append(answer["seconds"])
    with_rules, plain = (LOG_MB / statistics.median(seconds) for seconds in spent.values())
    row(
        "log with failure rules, MB per CPU second, against none",
        with_rules,
        plain,
        "at least",
        0.95,
    )


def writer(megabytes: int) -> AppDef:
    """Return an app whose replica writes a log of this size."""
    line = "x" * (LINE_BYTES - 1)
    write = f"yes {line} | head -n {lines_of(megabytes)}"
    return AppDef("writer", [Role("writer", TAG, entrypoint="sh", args=["-c", write])])


def lines_of(megabytes: int) -> int:
    """Return how many lines make a log of this size."""
    return (megabytes << 20) // LINE_BYTES


def imports(client: docker.APIClient) -> None:
    """Import after airflow.sdk what a DAG file imports."""
    for what, module in (
        ("the operators", "import airflow_torchx.operators"),
        (
            "operators, sensors and specs",
            "import airflow_torchx.operators, airflow_torchx.sensors, airflow_torchx.specs",
        ),
    ):
        code = (
            "import time, airflow.sdk\n"
            "from airflow.sdk import DAG, BaseHook, BaseOperator, BaseSensorOperator\n"
            f"began = time.perf_counter(); {module}\n"
            "print(time.perf_counter() - began)"
        )
        run = partial(subprocess.run, check=True, capture_output=True, text=True)
        command = [sys.executable, "-W", "ignore", "-c", code]
        spent = [float(run(command).stdout.split()[-1]) for _ in range(ROUNDS)]
        row(f"import {what}, s, against 50 ms", statistics.median(spent), 0.050, "at most", 1.0)
    del client


def commands(client: docker.APIClient) -> None:
    """Start the command line, for its help and for what is on the daemon."""
    for words, limit_s in (("--help", 0.5), ("run --help", 0.5), ("list", 1.0)):
        command = [sys.executable, "-m", "airflow_torchx.cli", *words.split()]
        run = partial(subprocess.run, command, check=True, capture_output=True)
        spent = [clocked(run) for _ in range(ROUNDS)]
        title = f"airflow-torchx {words}, s, against {limit_s} s"
        row(title, statistics.median(spent), limit_s, "at most", 1.0)
    del client


def tasks(client: docker.APIClient) -> None:
    """Run a task of one container that ends at once, in turn with Airflow's own DockerOperator.

    Docker itself starts a container on a network with names, like `torchx`, later than one on its
    default network: DockerOperator took 1.05 to 1.22 times as long there, in four runs.
    """
    spent = measure("tasks_worker.py", "airflow_torchx", 2 * ROUNDS, TAG)
    ours, same, default = (statistics.median(spent[one]) for one in ("ours", "torchx", "bridge"))
    title = "execute a task of `true`, s, against DockerOperator"
    row(f"{title} on the same network", ours, same, "at most", 1.25)
    row(f"{title} on Docker's default network", ours, default, "at most", 1.25)
    del client


def usage(client: docker.APIClient) -> None:
    """Read for a minute what 16 replicas use, after the first readings, which come more often."""
    with create_scheduler("bench") as scheduler:
        app = sleeper(16, "600")
        with submitted(scheduler, client, app) as app_id:
            sampler = UsageSampler(scheduler.engine, UsageMonitor())
            seen = attach.look(scheduler.engine, app_id)

            def share(seconds: int) -> float:
                began_s = time.process_time()
                for _ in range(seconds):
                    sampler.look(seen)
                    time.sleep(1)
                return (time.process_time() - began_s) / seconds

            share(15)
            row("usage of 16 replicas, share of a core", share(60), 0.01, "at most", 1.0)
            sampler.close()


def main() -> None:
    """Measure what the command line names, or everything."""
    parts = {
        "launch": launches,
        "status": statuses,
        "cancel": cancels,
        "logs": logs,
        "imports": imports,
        "commands": commands,
        "tasks": tasks,
        "workspace": workspaces.builds,
        "push": workspaces.pushes,
        "memory": workspaces.memory,
        "waits": waits.waits,
        "swarm": swarms.swarms,
        "swarm_waits": waits.swarm_waits,
        "swarm_room": waits.swarm_room,
        "gpus": gpus.gpus,
        "usage": usage,
        "page": pages.redraws,
    }
    client = docker.from_env(timeout=120).api  # the same daemon as everybody else here
    for name in sys.argv[1:] or parts:
        console.print(f"[bold]{name}[/bold]")
        parts[name](client)
    results.show()
    workspaces.results.show()
    waits.results.show()
    swarms.results.show()
    gpus.results.show()
    pages.results.show()


if __name__ == "__main__":
    main()
