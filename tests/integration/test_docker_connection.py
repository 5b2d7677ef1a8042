"""Daemons that are not there, not ours or not Docker, and what is said about them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import subprocess
import tempfile
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from airflow_torchx.core.connection.endpoint import Endpoint
from airflow_torchx.core.engine.containers import LogQuery
from airflow_torchx.docker_engine import DockerEngine, unreachable_reason
from airflow_torchx.errors import EngineError, EngineUnreachableError
from tests.airflow.stack import free_port
from tests.integration.stub import Request, Stub, chunked, failure, json_answer, saying
from tests.integration.tls import LOCAL, Certificate, Front

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

pytestmark = pytest.mark.usefixtures("no_socket_left")

ELSEWHERE: Final = "set the host of the connection or DOCKER_HOST."


@pytest.mark.docker
def test_it_answers(docker_engine: DockerEngine) -> None:
    """Nothing is said about a daemon that answers."""
    assert docker_engine.info().url
    assert unreachable_reason() is None


def test_no_socket(address: Path) -> None:
    """The error for a missing socket says that the socket does not exist."""
    expected = f"no Docker daemon at unix://{address}: its socket does not exist. Start Docker, or"

    assert f"{expected} {ELSEWHERE}" == unreachable_reason(Endpoint(url=f"unix://{address}"))


def test_nobody_listens(address: Path) -> None:
    """The error for a socket or port on which nothing listens says so."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(address))

    for url in (f"unix://{address}", f"tcp://127.0.0.1:{free_port()}"):
        expected = f"no Docker daemon at {url}: connection refused. Start Docker there, check the"
        assert f"{expected} port, or {ELSEWHERE}" == unreachable_reason(Endpoint(url=url))


@contextlib.contextmanager
def nobody() -> Iterator[None]:
    """Become an unprivileged user for a while if we are root."""
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)


def test_permission_denied() -> None:
    """The error for a socket without write permission names the group to join."""
    import docker

    assert docker  # imported before the change of user
    with tempfile.TemporaryDirectory() as folder:
        address = Path(folder, "docker.sock")
        address.parent.chmod(0o711)
        with Stub(saying([]), address):
            address.chmod(0)
            with nobody():
                why = unreachable_reason(Endpoint(url=f"unix://{address}"))

    expected = f"no Docker daemon at unix://{address}: permission denied. Add the user to group"
    assert f"{expected} `docker` and log in again, or {ELSEWHERE}" == why


def test_hung_daemon(address: Path) -> None:
    """The error for a daemon that accepts and does not answer says so."""
    with socket.socket(socket.AF_UNIX) as hung:
        hung.bind(str(address))
        hung.listen()
        # By default, its request ends a second before the whole check does.
        why = unreachable_reason(Endpoint(url=f"unix://{address}", request_timeout_s=0.2))

    expected = f"cannot connect: the Docker daemon at unix://{address} did not answer in time."
    assert str(why).startswith(expected)


def test_slow_daemon(address: Path) -> None:
    """A daemon that never comes to the end of its answer is not waited for either."""
    leave = threading.Event()

    def drip(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
            while not leave.wait(0.1):
                connection.sendall(b" ")

    with socket.socket(socket.AF_UNIX) as slow, ThreadPoolExecutor() as pool:
        slow.bind(str(address))
        slow.listen()
        pool.submit(drip, slow)
        why = unreachable_reason(Endpoint(url=f"unix://{address}"))
        leave.set()
    for thread in threading.enumerate():
        if thread.name == "docker-diagnosis":
            thread.join()

    assert f"the Docker daemon at unix://{address} did not answer in 5 s. Check the address." == why


def test_unknown_host() -> None:
    """The error for an unknown host name says so."""
    # It is too long for the DNS, so the resolver asks no server, which may take longer than 5 s.
    host = f"no-such-host.{'x.' * 120}invalid"
    why = unreachable_reason(Endpoint(url=f"tcp://{host}"))

    expected = f"no Docker daemon at tcp://{host}:2375: unknown host name."
    assert str(why).startswith(expected)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (json_answer(["1.41"]), "cannot connect: the server at {} is not a Docker daemon."),
        (json_answer({"ApiVersion": "new"}), "cannot connect: the server at {} is not a"),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"], "cannot connect: the server at {}"),
        (failure(404, "page not found"), "no Docker daemon at {}: status 404, cannot connect: pa"),
        ([b"SSH-2.0-OpenSSH_9.2\r\n"], "cannot connect: lost the connection to the Docker"),
        (
            json_answer({"ApiVersion": "1.40"}),
            "the Docker daemon at {} supports API 1.40; 1.41 or newer is required. Upgrade",
        ),
    ],
    ids=["a list", "no version", "no JSON", "a status", "no HTTP", "too old"],
)
def test_not_our_docker(address: Path, answer: list[bytes], expected: str) -> None:
    """The error for a server that is not a usable Docker daemon says so."""
    url = f"unix://{address}"
    with Stub(saying(answer), address, api_version=None):
        why = unreachable_reason(Endpoint(url=url))

    assert str(why).startswith(expected.format(url))


@pytest.mark.parametrize("api_version", [None, "1.43"])
def test_api_version(address: Path, api_version: str | None) -> None:
    """The daemon's own version is spoken, or the one that is asked for."""
    endpoint = Endpoint(url=f"unix://{address}", api_version=api_version)
    with (
        Stub(saying(json_answer([])), address, api_version="1.50") as stub,
        DockerEngine.connect(endpoint) as engine,
    ):
        engine.rows({})

    assert stub.requests[-1].target.startswith(f"/v{api_version or '1.50'}/containers")


# The environment.


def test_environment(address: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an endpoint, the environment says where the daemon is."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{address}")
    with (
        Stub(saying(json_answer({"ServerVersion": "x"})), address),
        DockerEngine.connect() as engine,
    ):
        assert f"unix://{address}" == engine.info().url


def test_unknown_context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A context that does not exist is no reason to take another daemon."""
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("DOCKER_CONTEXT", "gone")

    expected = (
        "no Docker daemon: docker context 'gone' does not exist or has no host. Select one of"
    )
    assert str(unreachable_reason()).startswith(expected)


def test_wrong_types_in_the_configuration(
    tmp_path: Path,
    address: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A connection warns of settings of a wrong type, with the path of the file."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    (tmp_path / "config.json").write_text('{"proxies": "x"}')

    with Stub(saying([]), address):
        assert unreachable_reason(Endpoint(url=f"unix://{address}")) is None

    file = tmp_path / "config.json"
    expected = f"wrong types in the docker configuration {file} are ignored: proxies"
    assert [expected] == caplog.messages


def test_context(tmp_path: Path, address: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The docker command line and we read a context in the same way."""
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    command = ["docker", "context", "create", "ours", "--docker", f"host=unix://{address}"]
    subprocess.run(command, check=True, capture_output=True)
    monkeypatch.setenv("DOCKER_CONTEXT", "ours")

    assert (tmp_path / "contexts" / "meta" / hashlib.sha256(b"ours").hexdigest()).is_dir()
    with Stub(saying([]), address):
        assert unreachable_reason() is None


# TLS.


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """Return a certificate for 127.0.0.1 that signs itself, and its key."""
    return Certificate.make(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def tls(certificate: Certificate) -> ssl.SSLContext:
    """Return the daemon's side of TLS; it asks for our certificate."""
    return certificate.context()


def endpoint(stub: Stub, certificate: Certificate) -> Endpoint:
    """Return how to reach a stub that speaks TLS."""
    return Endpoint.parse(f"tcp://127.0.0.1:{stub.port}", certificate.paths())


def test_tls(
    tls: ssl.SSLContext, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both sides show their certificates, and the environment of requests has no say."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere")
    with Stub(saying(json_answer([])), LOCAL, tls=tls) as stub:
        where = endpoint(stub, certificate)
        with DockerEngine.connect(where) as engine:
            assert () == engine.rows({})
        assert unreachable_reason(where) is None


@pytest.mark.docker
def test_tls_as_text(certificate: Certificate, monkeypatch: pytest.MonkeyPatch) -> None:
    """PEM texts become private files for as long as their connection is open."""
    with tempfile.TemporaryDirectory() as folder, Front(certificate) as front:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        where = Endpoint.parse(front.url, certificate.texts())
        with DockerEngine.connect(where) as engine:
            assert ["tls_ca.pem", "tls_cert.pem", "tls_private_key.pem"] == sorted(
                path.name for path in Path(folder).glob("*/*")
            )
            with ThreadPoolExecutor(4) as pool:
                urls = {info.url for info in pool.map(lambda _: engine.info(), range(8))}
        left = os.listdir(folder)  # noqa: PTH208 - names are enough

    assert ({front.url}, []) == (urls, left)


def test_no_tls_files_after_a_failure(
    certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failed connection leaves no certificate files, and its error does not mention them."""
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        with Stub(saying([]), LOCAL) as stub:  # it speaks no TLS
            url = f"tcp://127.0.0.1:{stub.port}"
            with pytest.raises(EngineUnreachableError, match="TLS failed") as raised:
                DockerEngine.connect(Endpoint.parse(url, certificate.texts()))
        left = os.listdir(folder)  # noqa: PTH208 - names are enough

    assert [] == left
    told = "".join(traceback.format_exception(raised.value))
    assert not [line for line in certificate.key.read_text().splitlines() if line in told]


def test_key_of_another_certificate(
    tls: ssl.SSLContext, certificate: Certificate, tmp_path: Path
) -> None:
    """A key that does not fit its certificate is an error of TLS."""
    other = Certificate.make(tmp_path).key.read_text()
    with Stub(saying([]), LOCAL, tls=tls) as stub:
        url = f"tcp://127.0.0.1:{stub.port}"
        where = Endpoint.parse(url, {**certificate.texts(), "tls_private_key": other})
        with pytest.raises(EngineUnreachableError, match=r"TLS failed \(key values mismatch\)"):
            DockerEngine.connect(where)


def test_close_over_tls(tls: ssl.SSLContext, certificate: Certificate) -> None:
    """Closing a log ends a read that waits in another thread, over TLS as well."""
    leave = threading.Event()

    def answer(_: Request) -> Iterator[bytes]:
        yield from chunked(b"a", end=False)
        leave.wait()

    with (
        Stub(answer, LOCAL, tls=tls) as stub,
        DockerEngine.connect(endpoint(stub, certificate)) as engine,
        ThreadPoolExecutor() as pool,
    ):
        stream = engine.logs("c", LogQuery(follow=True))
        chunks = iter(stream)
        first = next(chunks)
        reading = pool.submit(list, chunks)
        stream.close()
        others = reading.result()
        leave.set()

    assert (b"a", []) == (first, others)


def test_unknown_authority(tls: ssl.SSLContext) -> None:
    """A daemon whose certificate has an unknown authority is refused."""
    with Stub(saying([]), LOCAL, tls=tls) as stub:
        why = unreachable_reason(Endpoint(url=f"https://127.0.0.1:{stub.port}"))

    assert "TLS failed (self-signed certificate). Check that the daemon uses TLS" in str(why)


def test_no_tls() -> None:
    """A daemon that does not speak TLS is named as such."""
    with Stub(saying([]), LOCAL) as stub:
        why = unreachable_reason(Endpoint(url=f"https://127.0.0.1:{stub.port}"))

    assert "TLS failed (" in str(why)


def test_missing_certificate(tmp_path: Path) -> None:
    """A file that cannot be read is named."""
    absent = tmp_path / "ca.pem"
    where = Endpoint(url="tcp://127.0.0.1:1", tls_ca=str(absent))

    with pytest.raises(EngineUnreachableError, match=f"TLS file {absent} cannot be read: No such"):
        DockerEngine.connect(where)


def test_broken_certificate(tmp_path: Path) -> None:
    """A file that holds something else is an error of TLS."""
    (tmp_path / "ca.pem").write_text("no certificate")
    where = Endpoint(url="tcp://127.0.0.1:1", tls_ca=str(tmp_path / "ca.pem"))

    with pytest.raises(EngineError):
        DockerEngine.connect(where)
