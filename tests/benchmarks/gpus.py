"""What GPUs cost a launch, and how soon the next app gets those of one that has ended."""

from __future__ import annotations

import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from requests.adapters import BaseAdapter

from airflow_torchx.core.engine import labels
from airflow_torchx.docker_engine import DockerEngine
from airflow_torchx.docker_engine.connection import open_client
from airflow_torchx.schedulers.docker_scheduler import DockerScheduler
from airflow_torchx.specs import AppDef, Resource, Role
from tests.benchmarks.comparison import Comparison, console
from tests.integration.second_daemon import running_with_gpus

if TYPE_CHECKING:
    import docker
    from requests import PreparedRequest, Response

    from airflow_torchx.core.connection.endpoint import Endpoint
    from airflow_torchx.core.engine.protocol import Engine

ROUNDS: Final = 15
#: Of a launch of one replica before there was a queue for GPUs.
REQUESTS_BEFORE: Final = 6
MORE_S: Final = 0.3
WAKES_S: Final = 1.0

results = Comparison("GPUs, against what is to be reached")
row = results.row


class Counting(BaseAdapter):
    """Sends requests and counts them."""

    def __init__(self, inner: BaseAdapter) -> None:
        super().__init__()
        self._inner = inner
        self.count = 0

    def send(self, request: PreparedRequest, *args: Any, **options: Any) -> Response:  # noqa: ANN401
        """Send a request and return the response."""
        self.count += 1
        return self._inner.send(request, *args, **options)

    def close(self) -> None:
        """Close all connections."""
        self._inner.close()


def gpus(client: docker.APIClient) -> None:
    """Launch apps on a daemon whose driver says which GPUs a container has, but gives it none."""
    del client
    with running_with_gpus(("GPU-aaaa", "GPU-bbbb")) as daemon:
        requests(daemon.endpoint)
        with DockerEngine.connect(daemon.endpoint) as engine:
            launches(engine)
            wakes(engine)


def app(gpus: int, seconds: int = 0) -> AppDef:
    """Return an app of one replica."""
    resource = Resource(cpu=-1, gpu=gpus, memMB=-1)
    image = "airflow-torchx/busybox:local"
    return AppDef(
        "bench", [Role("bench", image, entrypoint="sleep", args=[f"{seconds}"], resource=resource)]
    )


def requests(endpoint: Endpoint) -> None:
    """Count the requests of a launch without GPUs; the network is there already."""
    client = open_client(endpoint)
    counting = Counting(client.get_adapter(client.base_url))
    client.mount(client.base_url, counting)
    with DockerEngine(client, endpoint) as engine:
        scheduler = DockerScheduler("bench", engine)
        scheduler.delete(scheduler.submit(app(0)))
        before = counting.count
        app_id = scheduler.submit(app(0))
        made = counting.count - before
        scheduler.delete(app_id)
    limit = round((REQUESTS_BEFORE + 1) / REQUESTS_BEFORE, 2)
    row(
        "requests of a launch without GPUs, against before", made, REQUESTS_BEFORE, "at most", limit
    )


def launches(engine: Engine) -> None:
    """Launch an app with a GPU, which no other one wants, in turn with one without."""
    scheduler = DockerScheduler("bench", engine)
    spent: dict[int, list[float]] = {0: [], 1: []}
    for _ in range(ROUNDS):
        for count, seconds in spent.items():
            began = time.perf_counter()
            app_id = scheduler.submit(app(count))
            seconds.append(time.perf_counter() - began)
            scheduler.wait(app_id)
            scheduler.delete(app_id)
    without, with_one = (statistics.median(seconds) for seconds in spent.values())
    limit = round((without + MORE_S) / without, 2)
    row("launch with a GPU, s, against one without", with_one, without, "at most", limit)


def wakes(engine: Engine) -> None:
    """Have an app wait for another one to end, and see when it has got the GPUs."""
    scheduler = DockerScheduler("bench", engine)
    spent = []
    with ThreadPoolExecutor(1) as waiter:
        for _ in range(ROUNDS):
            first = scheduler.submit(app(2, seconds=600))
            second = waiter.submit(scheduler.submit, app(2))
            while not engine.rows({labels.GPU_MARKER: "ticket"}):
                time.sleep(0.01)
            # Long enough for the waiting to be a quiet one.
            time.sleep(3)
            (holder,) = engine.rows({labels.APP_ID: first})
            engine.stop(holder.id, 0)
            (got,) = engine.rows({labels.APP_ID: second.result()})
            ended, began = engine.inspect(holder.id), engine.inspect(got.id)
            if not (ended and ended.finished_at and began and began.created_at):
                raise AssertionError(ended, began)
            spent.append((began.created_at - ended.finished_at).total_seconds())
            for app_id in (first, second.result()):
                scheduler.delete(app_id)
    median = statistics.median(spent)
    row("end of an app to the next one's container, median, s", median, WAKES_S, "at most", 1.0)
    console.print(f"the slowest took {max(spent):.2f} s")
