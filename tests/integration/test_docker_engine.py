"""The Docker door under many clients, and where a daemon misbehaves."""

from __future__ import annotations

import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

import pytest

from airflow_torchx.core.connection.endpoint import Endpoint
from airflow_torchx.core.engine import labels
from airflow_torchx.core.engine.containers import (
    ContainerSpec,
    HostOptions,
    LogQuery,
    PortBinding,
    Ulimit,
)
from airflow_torchx.core.logs.lines import LineReader
from airflow_torchx.docker_engine import DockerEngine
from airflow_torchx.errors import (
    EngineError,
    EngineNotFoundError,
    EngineUnreachableError,
)
from airflow_torchx.specs import BindMount, VolumeMount
from tests.airflow.processes import PATIENCE_S
from tests.conftest import BUSYBOX
from tests.integration.stub import Request, Stub, connect, failure, json_answer, saying

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path


LINE: Final = struct.pack(">BxxxI", 1, 2) + b"a\n"


# A real daemon.


@pytest.mark.docker
def test_64_clients(
    docker_engine: DockerEngine, app_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    """64 logs are followed at once beside other requests, and all end promptly when closed."""
    spec = ContainerSpec(
        role="main",
        replica=0,
        name=app_id,
        image=BUSYBOX,
        entrypoint="sh",
        args=("-c", "echo a; sleep 600"),
        env={},
        labels={labels.APP_ID: app_id},
        network="none",
    )
    container_id = docker_engine.create(spec)
    docker_engine.start(container_id)
    arrived = threading.Semaphore(0)

    def follow(stream: Iterable[bytes]) -> list[bytes]:
        chunks = []
        for chunk in stream:
            chunks.append(chunk)
            arrived.release()
        return chunks

    streams = [docker_engine.logs(container_id, LogQuery(follow=True)) for _ in range(64)]
    with ThreadPoolExecutor(64 + 16) as pool:
        followed = [pool.submit(follow, stream) for stream in streams]
        rows = list(pool.map(docker_engine.rows, [{labels.APP_ID: app_id}] * 200))
        for _ in streams:
            assert arrived.acquire(timeout=PATIENCE_S)
        for stream in streams:
            stream.close()
        chunks = [future.result() for future in followed]

    assert [[LINE]] * 64 == chunks
    assert [1] * 200 == [len(found) for found in rows]
    assert [] == [record for record in caplog.records if record.levelname != "DEBUG"]


@pytest.mark.docker
def test_every_setting_is_taken(docker_engine: DockerEngine, app_id: str, tmp_path: Path) -> None:
    """A real daemon takes a container with every setting that it needs no hardware for."""
    import docker

    spec = ContainerSpec(
        role="main",
        replica=0,
        name=app_id,
        image=BUSYBOX,
        entrypoint="true",
        args=(),
        env={"A": "b=c"},
        labels={labels.APP_ID: app_id},
        network="host",
        mounts=(BindMount(str(tmp_path), "/b", read_only=True), VolumeMount("", "/c")),
        nano_cpus=500_000_000,
        memory_mib=64,
        max_restarts=2,
        ports=(PortBinding(container_port=29500, host_port=0),),
        stop_grace_s=2.5,
        host=HostOptions(
            privileged=True,
            user="1000:1000",
            ipc_mode="private",
            ulimits=(Ulimit(name="nofile", soft=1000, hard=2000),),
            cap_add=("SYS_PTRACE",),
            init=True,
            # A host name of its own is kept on the network of the host if /etc/hosts lists it.
            extra_hosts={"db": "10.0.0.1", app_id: "127.0.1.1"},
            dns=("1.1.1.1",),
            log_driver="local",
            log_options={"max-size": "1m"},
            runtime="runc",
            security_opt=("seccomp=unconfined",),
            tmpfs={"/scratch": "size=1m"},
            working_dir="/w",
        ),
    )

    container_id = docker_engine.create(spec)

    client = docker.APIClient(version="auto")
    kept: dict[str, Any] = client.inspect_container(container_id)
    client.close()
    config, host = kept["Config"], kept["HostConfig"]
    assert (app_id, 3, "1000:1000", "/w") == (
        config["Hostname"],
        config["StopTimeout"],
        config["User"],
        config["WorkingDir"],
    )
    assert (500_000_000, 64 << 20, 64 << 20) == (host["NanoCpus"], host["Memory"], host["ShmSize"])
    assert {"Name": "on-failure", "MaximumRetryCount": 2} == host["RestartPolicy"]
    assert {"Type": "local", "Config": {"max-size": "1m"}} == host["LogConfig"]
    assert [{"Name": "nofile", "Soft": 1000, "Hard": 2000}] == host["Ulimits"]
    assert ("private", True, True) == (host["IpcMode"], host["Init"], host["Privileged"])
    assert ["bind", "volume"] == [mount["Type"] for mount in host["Mounts"]]


@pytest.mark.docker
def test_missing_bind_source(docker_engine: DockerEngine, app_id: str) -> None:
    """A folder that does not exist is refused, and not made."""
    spec = ContainerSpec(
        role="main",
        replica=0,
        name=app_id,
        image=BUSYBOX,
        entrypoint="true",
        args=(),
        env={},
        labels={labels.APP_ID: app_id},
        network="none",
        mounts=(BindMount(f"/nowhere/{app_id}", "/b"),),
    )

    with pytest.raises(EngineError, match="bind source path does not exist") as raised:
        docker_engine.create(spec)

    assert 400 == raised.value.status


@pytest.mark.docker
def test_restarts_begin_a_line(docker_engine: DockerEngine, app_id: str) -> None:
    """What a run leaves unfinished is not glued to the next run's output, whatever the driver."""
    for driver in ("json-file", "local"):
        spec = ContainerSpec(
            role="main",
            replica=0,
            name=f"{app_id}-{driver}",
            image=BUSYBOX,
            entrypoint="sh",
            args=("-c", "head -c 40000 /dev/zero | tr '\\0' a; echo; printf unfinished; exit 1"),
            env={},
            labels={labels.APP_ID: app_id},
            network="none",
            max_restarts=1,
            host=HostOptions(log_driver=driver),
        )
        container_id = docker_engine.create(spec)
        docker_engine.start(container_id)
        _wait_for_exit(docker_engine, container_id)
        for timestamps in (False, True):
            reader = LineReader(timestamps=timestamps)
            stream = docker_engine.logs(container_id, LogQuery(timestamps=timestamps))
            lines = [line.text for chunk in stream for line in reader.feed(chunk)]

            assert ["a" * 40000, "unfinished"] * 2 == [*lines, *reader.flush()]


def _wait_for_exit(engine: DockerEngine, container_id: str) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline_s:
        detail = engine.inspect(container_id)
        assert detail is not None
        if detail.state == "exited" and detail.restarts == 1:
            return
        time.sleep(0.05)
    pytest.fail("the container keeps running")


# Daemons that misbehave.


def test_one_request_per_verb(address: Path) -> None:
    """Every verb is one request."""
    with Stub(saying(json_answer([])), address) as stub, connect(address) as engine:
        engine.rows({labels.APP_ID: "a", labels.ROLE_NAME: None})
        engine.start("c")
        engine.stop("c", 1.5)
        engine.rename("c", "d")
        engine.remove("c")
        engine.remove_network("n")
        engine.networks("n")

    rows, *others = stub.asked
    assert rows.startswith("GET /containers/json?")
    assert "torchx.pytorch.org%2Fapp-id%3Da" in rows
    assert "torchx.pytorch.org%2Frole-name%22" in rows
    assert [
        "POST /containers/c/start",
        "POST /containers/c/stop?t=2",
        "POST /containers/c/rename?name=d",
        "DELETE /containers/c?v=True&link=False&force=True",
        "DELETE /networks/n",
        "GET /networks?filters=%7B%22name%22%3A+%5B%22n%22%5D%7D",
    ] == others


@pytest.mark.parametrize(("api_version", "expected"), [("1.41", True), ("1.44", None)])
def test_duplicate_networks(address: Path, api_version: str, expected: object) -> None:
    """An old Engine is asked to refuse a second network of one name."""
    answer = saying(json_answer({"Id": "n"}, 201))
    with Stub(answer, address, api_version=api_version) as stub, connect(address) as engine:
        engine.create_network("torchx")

    body = stub.requests[-1].json
    assert expected == body.get("CheckDuplicate")
    assert ("bridge", {"airflow-torchx/network": "1"}) == (body["Driver"], body["Labels"])


def test_no_answer_in_time(address: Path) -> None:
    """A daemon that hangs is an error, and not waited for."""
    hung = threading.Event()

    def answer(_: Request) -> Iterator[bytes]:
        hung.wait()
        yield b""

    with Stub(answer, address), connect(address, timeout_s=0.3) as engine:
        with pytest.raises(EngineUnreachableError, match="did not answer in time"):
            engine.rows({})
        hung.set()


def test_stop_has_time(address: Path) -> None:
    """A stop may take its grace on top of the time for an answer."""

    def answer(_: Request) -> Iterator[bytes]:
        time.sleep(0.6)
        yield from json_answer({})

    with Stub(answer, address), connect(address, timeout_s=0.3) as engine:
        engine.stop("c", 60)


def test_daemon_restarts(address: Path) -> None:
    """While the daemon is away every request is an error; when it is back, all is well."""
    with Stub(saying(json_answer([])), address):
        engine = connect(address)
        engine.rows({})

    with pytest.raises(EngineUnreachableError, match="its socket does not exist"):
        engine.rows({})

    with Stub(saying(json_answer([])), address), engine:
        assert () == engine.rows({})


def test_connections_are_reused(address: Path) -> None:
    """Requests to different addresses go over one connection, one after the other."""
    with Stub(saying(json_answer([])), address) as stub, connect(address) as engine:
        for number in range(20):
            engine.start(f"c{number}")

        assert 2 == stub.connections  # one more asked for the version


@pytest.mark.parametrize(
    "ended", [json_answer({"StatusCode": 0}), failure(404, "no such container")]
)
def test_a_removal_in_progress(address: Path, ended: list[bytes]) -> None:
    """A container that another call is removing is gone when its removal returns."""

    def answer(request: Request) -> Iterable[bytes]:
        return failure(409, "is already in progress") if request.method == "DELETE" else ended

    with Stub(answer, address) as stub, connect(address) as engine:
        engine.remove("c")

    assert ["DELETE /containers/c?v=True&link=False&force=True"] == stub.asked[:1]
    assert ["POST /containers/c/wait?condition=removed"] == stub.asked[1:]


@pytest.mark.parametrize("is_other", [False, True], ids=["own", "another client's"])
def test_a_removal_that_meets_a_rename(address: Path, *, is_other: bool) -> None:
    """A removal is sent again if the daemon could not remove the folder of the container."""
    message = "unlinkat /containers/c: directory not empty"
    waited = {"StatusCode": -1, "Error": {"Message": message}}
    failed = failure(409, "is already in progress") if is_other else failure(500, message)
    deletions = iter([failed, failure(404)])

    def answer(request: Request) -> Iterable[bytes]:
        return next(deletions) if request.method == "DELETE" else json_answer(waited)

    with Stub(answer, address), connect(address) as engine:
        engine.remove("c")

    assert () == tuple(deletions)


def test_a_rename_that_meets_a_removal(address: Path) -> None:
    """A container that is being removed counts as one that does not exist."""
    message = "open /containers/c/.tmp-config.v2.json1: no such file or directory"
    with (
        Stub(saying(failure(500, message)), address),
        connect(address) as engine,
        pytest.raises(EngineNotFoundError, match="container c is being removed"),
    ):
        engine.rename("c", "d")


def test_a_removed_container_that_the_daemon_lists(address: Path) -> None:
    """A row without a name is left out: its container is gone, and no request reaches it."""
    rows = [{"Id": "a", "Names": [], "State": "removing"}, {"Id": "b", "Names": ["/b"]}]
    with Stub(saying(json_answer(rows)), address), connect(address) as engine:
        assert ["b"] == [row.id for row in engine.rows({})]


def test_a_removal_that_never_succeeds(address: Path) -> None:
    """A container whose folder stays is an error after five removals."""
    message = "unlinkat /containers/c: directory not empty"
    with (
        Stub(saying(failure(500, message)), address) as stub,
        connect(address) as engine,
        pytest.raises(EngineError, match=r"cannot remove container c: .*not empty"),
    ):
        engine.remove("c")

    assert 5 == len(stub.asked)


def test_removing_a_container_that_is_gone(address: Path) -> None:
    """Removing a container that another client has removed is not an error."""
    with Stub(saying(failure(404)), address) as stub, connect(address) as engine:
        engine.remove("c")

    assert 1 == len(stub.asked)


def test_remove_fails(address: Path) -> None:
    """A container that cannot be removed is an error."""
    with (
        Stub(saying(failure(500)), address),
        connect(address) as engine,
        pytest.raises(EngineError, match="cannot remove container c: because"),
    ):
        engine.remove("c")


def test_an_answer_has_the_time_of_the_connection(address: Path) -> None:
    """Each request has the time that the endpoint gives."""
    endpoint = Endpoint(url=f"unix://{address}", request_timeout_s=7.5)

    with Stub(saying(json_answer([])), address), DockerEngine.connect(endpoint) as engine:
        assert 7.5 == engine.client.timeout
