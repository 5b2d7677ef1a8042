"""Images through the Docker door: what no fake can show, and daemons that misbehave."""

from __future__ import annotations

import io
import tarfile
import threading
import tracemalloc
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

import pytest

from airflow_torchx.core.connection.endpoint import Endpoint
from airflow_torchx.core.engine import labels
from airflow_torchx.core.engine.images import BuildSpec
from airflow_torchx.docker_engine import DockerEngine
from airflow_torchx.errors import (
    EngineConflictError,
    EngineError,
    EngineNotFoundError,
    EngineUnreachableError,
    ImagePushError,
)
from tests.conftest import BUSYBOX
from tests.contract.image_bench import tar
from tests.integration.stub import Request, Stub, connect, failure, json_answer, saying

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

EVERYTHING: Final = f"""FROM {BUSYBOX}
ENV A=b C="d e"
USER 12:34
VOLUME /more /data
EXPOSE 80 90/udp
ENTRYPOINT ["sh", "-c"]
CMD ["echo hi"]
HEALTHCHECK --interval=3s CMD true
STOPSIGNAL SIGUSR1
SHELL ["/bin/sh", "-ec"]
WORKDIR /w
LABEL base=1
ONBUILD RUN echo hi
"""
ONLY_CMD: Final = f'FROM {BUSYBOX}\nCMD ["true"]\n'
ONLY_ENTRYPOINT: Final = f'FROM {BUSYBOX}\nENTRYPOINT ["true"]\n'
#: What an image should not have of the container that it was made of.
OF_CONTAINERS: Final = ("Hostname", "Domainname", "Image")


class Bases:
    """Images to start from, and what the door does not show of images."""

    def __init__(self, client: Any, repository: str) -> None:  # noqa: ANN401 - the SDK has no types
        self._client = client
        self._repository = repository

    def make(self, dockerfile: str) -> str:
        """Return the name of an image of a Dockerfile; of none, one without any configuration."""
        client, repository = self._client, self._repository
        if not dockerfile:
            client.import_image_from_data(tar({"x": b"1"}), repository=repository, tag="base")
        else:
            context = io.BytesIO(tar({"Dockerfile": dockerfile.encode()}))
            tag = f"{repository}:base"
            list(client.build(fileobj=context, custom_context=True, tag=tag, rm=True))
        return f"{repository}:base"

    def config(self, ref: str) -> dict[str, Any]:
        """Return the configuration of an image, as far as it says something."""
        kept: dict[str, Any] = self._client.inspect_image(ref)["Config"]
        return {key: value for key, value in kept.items() if value and key not in OF_CONTAINERS}

    def clear(self) -> None:
        """Remove all images of this repository."""
        for row in self._client.images(name=self._repository):
            for tag in row["RepoTags"]:
                self._client.remove_image(tag)


@pytest.fixture
def bases(docker_engine: DockerEngine, app_id: str) -> Iterator[Bases]:
    """Return a maker of images in the repository that is called as the app."""
    import docker

    with closing(docker.APIClient(version="auto")) as client:
        made = Bases(client, app_id)
        yield made
        for row in docker_engine.rows({labels.APP_ID: app_id}):
            docker_engine.remove(row.id)
        made.clear()


# A real daemon.


@pytest.mark.docker
@pytest.mark.parametrize(
    "dockerfile",
    ["", ONLY_CMD, ONLY_ENTRYPOINT, EVERYTHING],
    ids=["nothing", "command", "entrypoint", "everything"],
)
def test_configuration_stays(
    docker_engine: DockerEngine, bases: Bases, app_id: str, dockerfile: str
) -> None:
    """A commit keeps the configuration of its base, and adds nothing else."""
    images, below, above = docker_engine.images, bases.make(dockerfile), f"{app_id}:above"

    container_id = images.prepare(below, app_id, {labels.APP_ID: app_id})
    images.commit(container_id, above, "/made")

    expected = bases.config(below)
    expected["WorkingDir"] = "/made"
    expected["Labels"] = {**expected.get("Labels", {}), labels.APP_ID: app_id}
    assert expected == bases.config(above)


@pytest.mark.docker
def test_build(docker_engine: DockerEngine, bases: Bases, app_id: str) -> None:
    """The Engine's own builder builds a Dockerfile where that is enough."""
    tag, told = f"{app_id}:built", list[str]()
    spec = BuildSpec(tag=tag, dockerfile="D", labels={labels.APP_ID: app_id})

    image_id = docker_engine.images.build(spec, [tar({"D": ONLY_CMD.encode()})], told.append)

    assert image_id == docker_engine.find_image(tag)
    assert {"Cmd": ["true"], "Labels": {labels.APP_ID: app_id}}.items() <= bases.config(tag).items()
    assert any("Step 1/" in line for line in told)


@pytest.mark.docker
def test_no_registry(docker_engine: DockerEngine, app_id: str) -> None:
    """Without a registry nothing counts as published, and nothing is pushed."""
    tag = f"127.0.0.1:9/{app_id}:1"

    assert not docker_engine.images.is_published(tag)
    with pytest.raises(ImagePushError, match=tag):
        docker_engine.images.push(tag, print)


@pytest.mark.docker
def test_inspect_everything(docker_engine: DockerEngine, bases: Bases) -> None:
    """An inspect tells what a workspace has to respect."""
    detail = docker_engine.images.inspect(bases.make(EVERYTHING))

    assert detail is not None
    assert ("12:34", "/w") == (detail.user, detail.working_dir)
    assert ("/data", "/more") == detail.volumes
    assert ("RUN echo hi",) == detail.on_build


@pytest.mark.docker
def test_files_are_streamed(docker_engine: DockerEngine, app_id: str) -> None:
    """Files are streamed to the daemon, and never held in memory as a whole."""
    container_id = docker_engine.images.prepare(BUSYBOX, app_id, {labels.APP_ID: app_id})
    large = tarfile.TarInfo("x")
    large.size = 100 << 20

    def files() -> Iterator[bytes]:
        yield large.tobuf()
        yield from (bytes(1 << 20) for _ in range(100))
        yield bytes(1024)

    tracemalloc.start()
    try:
        docker_engine.images.put_files(container_id, files())
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak_bytes < 10_000_000
    with pytest.raises(ValueError, match="104,857,600 bytes"):
        docker_engine.read_file(container_id, "/x", 1)


@pytest.mark.docker
def test_an_early_answer_closes_the_source(docker_engine: DockerEngine) -> None:
    """A source that is not read to its end is closed."""
    closed = []

    def source() -> Iterator[bytes]:
        try:
            yield from endless()
        finally:
            closed.append(True)

    files = source()
    with pytest.raises(EngineNotFoundError):
        docker_engine.images.put_files("f" * 64, files)

    assert [True] == closed


@pytest.mark.docker
def test_source_that_cannot_begin(docker_engine: DockerEngine, app_id: str) -> None:
    """An exception at the start of the source comes out unchanged."""
    container_id = docker_engine.images.prepare(BUSYBOX, app_id, {labels.APP_ID: app_id})

    class Broken:
        def __iter__(self) -> Iterator[bytes]:
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        docker_engine.images.put_files(container_id, Broken())


# Daemons that misbehave.


def endless() -> Iterator[bytes]:
    """Yield what no daemon reads to its end."""
    while True:
        yield bytes(100_000)


@pytest.mark.parametrize(
    ("status", "error"),
    [(404, EngineNotFoundError), (409, EngineConflictError), (500, EngineError)],
)
def test_early_answer(address: Path, status: int, error: type[EngineError]) -> None:
    """An answer that comes before all is sent is read, although the pipe breaks."""
    answer = saying(failure(status, "no space left on device"))
    with Stub(answer, address) as stub, connect(address) as engine:
        with pytest.raises(error, match="container c: no space left on device") as caught:
            engine.images.put_files("c", endless())
        with pytest.raises(error, match="no space left on device"):
            engine.images.put_files("c", [b"1"])

    assert status == caught.value.status
    assert ["PUT /containers/c/archive?path=%2F"] * 2 == stub.asked


def test_early_answer_over_tcp() -> None:
    """An answer that comes before all is sent is read over TCP, too."""
    answer = saying(failure(500, "no space left on device"))
    with Stub(answer, ("127.0.0.1", 0)) as stub:
        url = f"tcp://127.0.0.1:{stub.port}"
        with (
            DockerEngine.connect(Endpoint(url=url)) as engine,
            pytest.raises(EngineError, match="no space left on device"),
        ):
            engine.images.put_files("c", endless())


def test_cut(address: Path) -> None:
    """A connection that ends without an answer is an error, and the next request opens another."""

    def answer(request: Request) -> Iterable[bytes]:
        if request.method == "PUT":
            raise ConnectionResetError
        return json_answer([])

    with Stub(answer, address), connect(address) as engine:
        with pytest.raises(EngineUnreachableError, match="cannot put files into container c"):
            engine.images.put_files("c", endless())

        assert () == engine.images.rows({})


def test_daemon_stops_reading(address: Path) -> None:
    """A daemon that stops reading is an error after the request timeout."""
    hung = threading.Event()

    def answer(_: Request) -> Iterator[bytes]:
        hung.wait(60)
        yield b""

    with Stub(answer, address), connect(address, timeout_s=0.3) as engine:
        with pytest.raises(EngineUnreachableError, match="did not answer in time"):
            engine.images.put_files("c", endless())
        hung.set()


def test_daemon_hangs_at_the_end(address: Path) -> None:
    """A daemon that has read all and does not answer is an error after the request timeout."""
    hung = threading.Event()

    def answer(_: Request) -> Iterator[bytes]:
        hung.wait(60)
        yield b""

    with Stub(answer, address), connect(address, timeout_s=0.3) as engine:
        with pytest.raises(EngineUnreachableError, match="did not answer in time"):
            engine.images.put_files("c", [b"1"])
        hung.set()


def test_one_request_per_verb(address: Path) -> None:
    """A verb on images is one request."""
    with Stub(saying(json_answer([])), address) as stub, connect(address) as engine:
        engine.images.rows({"a": "b", "c": None})
        engine.images.untag("localhost:5000/app:1")

    rows, untag = stub.asked
    assert rows.startswith("GET /images/json?")
    assert "a%3Db" in rows
    assert "all=0" in rows
    assert untag.startswith("DELETE /images/localhost:5000/app:1?force=False")


def test_tag_with_a_port(address: Path) -> None:
    """The colon of a registry's port does not begin a tag."""
    with Stub(saying(json_answer([], 201)), address) as stub, connect(address) as engine:
        engine.images.tag("app:1", "localhost:5000/app:2")

    assert ["POST /images/app:1/tag?tag=2&repo=localhost%3A5000%2Fapp&force=0"] == stub.asked


def test_commit_takes_its_time(address: Path) -> None:
    """A commit may take longer than an answer to anything else."""
    waited = threading.Event()

    def answer(request: Request) -> Iterator[bytes]:
        if "/commit" in request.target:
            waited.wait(0.6)
            yield from json_answer({"Id": "sha256:1"}, 201)
        else:
            # So little time has the commit alone.
            engine.client.timeout = 0.3
            yield from json_answer({"Config": {"Cmd": ["sh"]}})

    with Stub(answer, address) as stub, connect(address) as engine:
        assert "sha256:1" == engine.images.commit("c", "localhost:5000/app:2", "/w")

    assert "POST /commit?container=c&repo=localhost%3A5000%2Fapp&tag=2&pause=0" == stub.asked[1]
    assert {"Cmd": ["sh"], "WorkingDir": "/w"} == stub.requests[-1].json
