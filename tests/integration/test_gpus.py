"""GPUs that apps get on a real daemon, and for which of its containers they wait."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

import pytest

from airflow_torchx.core.engine import labels
from airflow_torchx.core.engine.containers import LogQuery
from airflow_torchx.core.logs.lines import LineReader
from airflow_torchx.docker_engine import DockerEngine
from airflow_torchx.docker_engine.connection import open_client
from airflow_torchx.errors import GpuWaitTimeoutError, InvalidAppError
from airflow_torchx.schedulers.docker_scheduler import DockerScheduler
from airflow_torchx.specs import AppDef, Resource, Role
from tests.conftest import BUSYBOX
from tests.integration.conftest import GPU_IDS
from tests.integration.second_daemon import running_with_gpus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_torchx.core.connection.endpoint import Endpoint

pytestmark = [pytest.mark.docker, pytest.mark.xdist_group("gpus")]

A, B, C, D = GPU_IDS
#: Shows which GPUs a container sees, and uses them until it is removed.
USE: Final = ["-c", "echo $NVIDIA_VISIBLE_DEVICES; sleep 600"]


def app(*gpus: int) -> AppDef:
    """Return an app with a replica for each number of GPUs."""
    return AppDef(
        "a",
        [
            Role(
                f"r{index}",
                BUSYBOX,
                entrypoint="sh",
                args=USE,
                resource=Resource(cpu=-1, gpu=count, memMB=-1),
            )
            for index, count in enumerate(gpus)
        ],
    )


class Bench:
    """Launches apps on a daemon with GPUs, and containers of other programs.

    Args:
        gpu_ids: of the connection.
    """

    def __init__(self, engine: DockerEngine, *gpu_ids: str) -> None:
        self.engine = engine
        self._scheduler = DockerScheduler("tests", engine, gpu_ids=gpu_ids)

    def launch(
        self, app: AppDef, on_wait: Callable[[], None] | None = None, **options: object
    ) -> list[str]:
        """Launch an app and return which GPUs each replica sees.

        Args:
            app: the app.
            on_wait: called once when the app waits, which it has to; None if it need not.
            options: run options.
        """
        waits = [on_wait] if on_wait else []

        def should_stop() -> bool:
            if waits and self.engine.rows({labels.GPU_MARKER: "ticket"}):
                waits.pop()()
            return False

        info = self._scheduler.prepare(app, {"network": "host", **options})
        launched = self._scheduler.launch(info, should_stop=should_stop)
        replicas = [one for role in launched.roles_statuses for one in role.replicas]
        seen = [self._first_line(one.container_id) for one in replicas]

        assert not waits
        assert [",".join(one.gpus) for one in replicas] in (seen, ["all"])
        return seen

    def run_foreign(self, **request: object) -> str:
        """Run a container of another program with this request for GPUs, and return its id."""
        client: Any
        with closing(open_client(self.engine.endpoint)) as client:
            host = {
                "NetworkMode": "none",
                "DeviceRequests": [{"Capabilities": [["gpu"]], **request}],
            }
            config = {"Image": BUSYBOX, "Entrypoint": ["sh", *USE], "HostConfig": host}
            made = client.create_container_from_config(config, "notebook")["Id"]
            client.start(made)
        return str(made)

    def queue(self) -> list[str]:
        """Return the names of the containers that hold places in the queue, or GPUs for an app."""
        return [row.name for row in self.engine.rows({labels.GPU_MARKER: None})]

    def _first_line(self, container_id: str) -> str:
        reader = LineReader()
        with closing(self.engine.logs(container_id, LogQuery(follow=True))) as log:
            return next(line.text for chunk in log for line in reader.feed(chunk))


@pytest.fixture
def bench(gpu_engine: DockerEngine) -> Bench:
    """Return a daemon with four GPUs."""
    return Bench(gpu_engine)


@pytest.fixture(scope="module")
def silent_daemon() -> Iterator[Endpoint]:
    """Return where a daemon listens that has GPUs, but reports none."""
    with running_with_gpus(()) as daemon:
        yield daemon.endpoint


@pytest.fixture
def silent_engine(silent_daemon: Endpoint) -> Iterator[DockerEngine]:
    """Return a connection to that daemon, on which a test leaves no container."""
    with DockerEngine.connect(silent_daemon) as engine:
        yield engine

        for row in engine.rows({}):
            engine.remove(row.id)


def test_apps_have_gpus_of_their_own(bench: Bench) -> None:
    """Apps that are launched one after the other get different GPUs."""
    assert [[A], [B, f"{C},{D}"]] == [bench.launch(app(1)), bench.launch(app(1, 2))]
    assert [] == bench.queue()


def test_waiting_for_an_app(bench: Bench) -> None:
    """An app that needs GPUs of another app waits until all of them are free."""
    bench.launch(app(1))
    (holder,) = bench.engine.rows({})

    seen = bench.launch(app(2, 2), lambda: bench.engine.remove(holder.id))

    assert [f"{A},{B}", f"{C},{D}"] == seen
    assert [] == bench.queue()


def test_giving_up(bench: Bench) -> None:
    """An app that waits for too long leaves the queue, and says who holds the GPUs."""
    bench.run_foreign(DeviceIDs=[B])

    with pytest.raises(GpuWaitTimeoutError, match=f"{B} is held by container notebook"):
        bench.launch(app(4), gpu_wait_timeout_s=0)

    assert [] == bench.queue()


def test_containers_of_other_programs(bench: Bench) -> None:
    """An app waits while a container of another program has a GPU that it needs."""
    notebook = bench.run_foreign(DeviceIDs=[B])

    assert [A, C] == bench.launch(app(1, 1))
    assert [f"{B},{D}"] == bench.launch(app(2), lambda: bench.engine.remove(notebook))


def test_a_count_of_another_program(bench: Bench) -> None:
    """A container of another program that requests a number of GPUs has the first ones."""
    bench.run_foreign(Count=3)

    assert [D] == bench.launch(app(1))


def test_ignored_programs(bench: Bench) -> None:
    """With ``gpu_foreign=ignore``, apps take GPUs of containers of other programs, after others."""
    bench.run_foreign(DeviceIDs=[B])

    assert [f"{A},{C}"] == bench.launch(app(2), gpu_foreign="ignore")
    assert [f"{D},{B}"] == bench.launch(app(2), gpu_foreign="ignore")
    assert ["running"] == [row.state for row in bench.engine.rows({}) if row.name == "notebook"]


@pytest.mark.parametrize("request_", [{"Count": -1}, {"DeviceIDs": ["all"]}])
def test_all_gpus_of_another_program(
    bench: Bench, caplog: pytest.LogCaptureFixture, request_: dict[str, object]
) -> None:
    """A container of another program that requests all GPUs only causes a warning."""
    bench.run_foreign(**request_)

    assert [",".join(GPU_IDS)] == bench.launch(app(4))
    assert "these containers may use the same GPUs" in caplog.text
    assert "notebook" in caplog.text


def test_gpus_of_the_connection(silent_engine: DockerEngine) -> None:
    """If the daemon reports no GPUs, apps get those of the connection."""
    bench = Bench(silent_engine, "GPU-eeee", "GPU-ffff")

    assert [["GPU-eeee"], ["GPU-ffff"]] == [bench.launch(app(1)), bench.launch(app(1))]


def test_unknown_gpus(silent_engine: DockerEngine) -> None:
    """If no ids are known, one replica at a time gets the GPUs, and more of them are an error."""
    bench = Bench(silent_engine)

    assert ["0,1"] == bench.launch(app(2))
    with pytest.raises(GpuWaitTimeoutError):
        bench.launch(app(1), gpu_wait_timeout_s=0)
    with pytest.raises(InvalidAppError, match="gpu_ids"):
        bench.launch(app(1, 1))
    assert 1 == len(silent_engine.rows({}))
