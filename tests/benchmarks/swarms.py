"""A swarm of three daemons on this machine, side by side with nothing but the SDK.

"Bare" is what a user of Docker's SDK does for the same app: 64 services of one replica each,
created by 8 threads, and one list of tasks for their states.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from airflow_torchx.core.connection.swarm import SWARM_NETWORK
from airflow_torchx.core.engine.labels import APP_ID
from airflow_torchx.docker_engine.request import request
from airflow_torchx.runtime.replica_log import ReplicaLog
from airflow_torchx.schedulers.swarm_scheduler import SwarmScheduler
from airflow_torchx.specs import AppDef, Resource, Role
from airflow_torchx.swarm_engine import SwarmEngine
from tests.benchmarks.comparison import Comparison
from tests.swarm.hosts import swarm

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import docker

    from airflow_torchx.docker_engine.request import Client
    from tests.swarm.hosts import Hosts

ROUNDS: Final = 5
READS: Final = 21
REPLICAS: Final = 64
LOG_MB: Final = 16
LINE_BYTES: Final = 100
TAG: Final = "airflow-torchx/busybox:local"
RESOURCE: Final = Resource(cpu=0.05, gpu=0, memMB=32)
_POLL_S: Final = 0.1
_MIB: Final = 1 << 20

results = Comparison("a swarm of three daemons")
row = results.row


def swarms(client: docker.APIClient) -> None:
    """Measure launches, states and logs on a swarm that is made for that."""
    del client
    with swarm() as hosts, SwarmEngine.connect(hosts.endpoint()) as engine:
        compare(hosts, engine)


def compare(hosts: Hosts, engine: SwarmEngine) -> None:
    """Measure launches, states and logs on a swarm."""
    engine.create_network(SWARM_NETWORK)
    scheduler = SwarmScheduler("bench", engine)
    with closing(hosts[1].client) as bare:
        launches(scheduler, bare)
        statuses(scheduler, bare)
        logs(scheduler, bare, hosts[1].url)


def launches(scheduler: SwarmScheduler, bare: Client) -> None:
    """Launch 64 replicas in turn, and wait until all of them run."""
    who: dict[str, Callable[[], float]] = {
        "ours": partial(launched, scheduler, bare),
        "bare": partial(created, bare),
    }
    spent: dict[str, list[float]] = {name: [] for name in who}
    names = [*who]
    for _ in range(ROUNDS):
        for name in names:
            spent[name].append(who[name]())
        names.reverse()
    ours, least = (statistics.median(spent[name]) for name in who)
    row(f"place and run {REPLICAS} replicas, s, against the SDK", ours, least, "at most", 1.10)


def launched(scheduler: SwarmScheduler, bare: Client) -> float:
    """Return how long our launch takes until all replicas run."""
    began = time.perf_counter()
    with submitted(scheduler, bare, sleeper(REPLICAS)) as app_id:
        await_states(bare, f"{APP_ID}={app_id}", REPLICAS, "running")
        return time.perf_counter() - began


def created(bare: Client) -> float:
    """Create the same services with nothing but the SDK and 8 threads, until all replicas run."""
    run = f"bare-{uuid.uuid4().hex[:8]}"
    # As ours: each node would ask a registry for a tag, also for one that it has.
    image = bare.inspect_image(TAG)["Id"]

    def create(index: int) -> None:
        body = service(run, f"{run}-{index}", image)
        request(bare, "POST", "/services/create", json=body)

    began = time.perf_counter()
    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(create, range(REPLICAS)))
        await_states(bare, f"bench={run}", REPLICAS, "running")
        return time.perf_counter() - began
    finally:
        remove(bare, f"bench={run}")


def service(run: str, name: str, image: str) -> dict[str, Any]:
    """Return a service like that of one replica."""
    resources = {"NanoCPUs": int(RESOURCE.cpu * 10**9), "MemoryBytes": RESOURCE.memMB * _MIB}
    container = {"Image": image, "Command": ["sleep", "600"], "Hostname": name}
    return {
        "Name": name,
        "Labels": {"bench": run},
        "Mode": {"Replicated": {"Replicas": 1}},
        "EndpointSpec": {"Mode": "dnsrr"},
        "TaskTemplate": {
            "ContainerSpec": {**container, "StopGracePeriod": 10**9},
            "Networks": [{"Target": SWARM_NETWORK}],
            "Resources": {"Limits": resources, "Reservations": resources},
            "RestartPolicy": {"Condition": "none"},
        },
    }


def statuses(scheduler: SwarmScheduler, bare: Client) -> None:
    """Describe 64 running replicas, in turn with the list of their tasks."""
    with submitted(scheduler, bare, sleeper(REPLICAS)) as app_id:
        label = f"{APP_ID}={app_id}"
        await_states(bare, label, REPLICAS, "running")
        ours, least = [], []
        for _ in range(READS):
            ours.append(clocked(partial(scheduler.describe, app_id)))
            least.append(clocked(partial(bare.tasks, {"label": label})))
    medians = statistics.median(ours), statistics.median(least)
    row(f"describe {REPLICAS} replicas, s, against GET /tasks", *medians, "at most", 1.2)


def logs(scheduler: SwarmScheduler, bare: Client, url: str) -> None:
    """Read a finished log of 100-byte lines, in turn with the docker command line."""
    lines = (LOG_MB << 20) // LINE_BYTES
    write = f"yes {'x' * (LINE_BYTES - 1)} | head -n {lines}"
    role = Role("writer", TAG, entrypoint="sh", args=["-c", write], resource=RESOURCE)
    show = partial(subprocess.run, stdout=subprocess.DEVNULL, check=True)
    environ = {**os.environ, "DOCKER_HOST": url}
    with submitted(scheduler, bare, AppDef("writer", [role])) as app_id:
        (one,) = scheduler.wait(app_id).roles_statuses[0].replicas
        command = ["docker", "service", "logs", "--raw", one.container_id]
        ours, theirs = [], []
        for _ in range(ROUNDS):
            theirs.append(clocked(partial(show, command, env=environ)))
            began = time.perf_counter()
            read = sum(1 for _ in ReplicaLog(scheduler.engine, one.container_id))
            ours.append(time.perf_counter() - began)
            if read != lines:
                raise AssertionError(read)
    speeds = LOG_MB / statistics.median(ours), LOG_MB / statistics.median(theirs)
    row(f"{LOG_MB} MB log, MB/s, against `docker service logs`", *speeds, "at least", 0.8)


def sleeper(replicas: int) -> AppDef:
    """Return an app whose replicas sleep."""
    args = {"entrypoint": "sleep", "args": ["600"], "resource": RESOURCE}
    return AppDef("bench", [Role("bench", TAG, num_replicas=replicas, **args)])  # type: ignore[arg-type]


@contextlib.contextmanager
def submitted(scheduler: SwarmScheduler, bare: Client, app: AppDef) -> Iterator[str]:
    """Launch an app, and remove it at the end."""
    app_id = scheduler.submit(app, {"stop_grace_s": 1})
    try:
        yield app_id
    finally:
        remove(bare, f"{APP_ID}={app_id}")


def await_states(bare: Client, label: str, count: int, state: str) -> None:
    """Wait until so many tasks are in a state."""
    while True:
        states = [task["Status"]["State"] for task in bare.tasks({"label": label})]
        if states.count(state) == count:
            return
        if "rejected" in states or "failed" in states:
            raise AssertionError(states)
        time.sleep(_POLL_S)


def remove(bare: Client, label: str) -> None:
    """Remove services, and wait until their containers are gone."""
    for one in bare.services({"label": label}):
        bare.remove_service(one["ID"])
    while bare.tasks({"label": label}):
        time.sleep(_POLL_S)


def clocked(call: Callable[[], object]) -> float:
    """Return the seconds of one call."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began
