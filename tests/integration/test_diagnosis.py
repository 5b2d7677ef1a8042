"""How it stands with a daemon and the registries it can log in to."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import docker
import pytest

from airflow_torchx.core.connection.daemon_report import DaemonReport, LoginCheck
from airflow_torchx.core.connection.endpoint import Endpoint
from airflow_torchx.core.engine import labels
from airflow_torchx.core.engine.images import RegistryLogin
from airflow_torchx.docker_engine import DockerEngine, diagnose, peer
from tests.airflow.stack import free_port
from tests.integration.stub import Request, Stub, failure, json_answer
from tests.integration.uv_project import BASE

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tests.integration.registry import Registry

WRONG: Final = "hidden-word"  # not a real one


def login(host: str) -> RegistryLogin:
    """Return a login that no registry takes."""
    return RegistryLogin(registry=host, username="me", password=WRONG)


def checks(*logins: RegistryLogin) -> tuple[LoginCheck, ...]:
    """Return what the daemon of the tests finds of logins."""
    found = diagnose(Endpoint(), "bridge", logins)
    assert isinstance(found, DaemonReport), found
    return found.logins


@pytest.mark.docker
def test_daemon(docker_engine: DockerEngine, network_name: str) -> None:
    """The diagnosis describes the daemon and says whether a network exists, and creates none."""
    found = [diagnose(Endpoint(), name, ()) for name in (network_name, "bridge")]

    assert found == [
        DaemonReport(info=docker_engine.info(), network=name, has_network=name == "bridge")
        for name in (network_name, "bridge")
    ]
    assert () == docker_engine.networks(network_name)


@pytest.mark.docker
def test_logins(registry: Registry) -> None:
    """The diagnosis judges each login by itself, and shows no password."""
    right, wrong = checks(registry.login, login(registry.host))

    assert LoginCheck(registry=registry.host, username=registry.login.username) == right
    assert "me" == wrong.username
    assert "401 Unauthorized" in str(wrong.error) or "unauthorized" in str(wrong.error)
    assert str(wrong.error).endswith(" Check login and password of its connection.")
    assert WRONG not in str(wrong)


@pytest.mark.docker
def test_nothing_is_kept(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The diagnosis leaves the docker configuration alone, and its logins excuse no wrong one."""
    config = json.dumps({"auths": {registry.host: {"username": "tester", "password": "x"}}})
    (tmp_path / "config.json").write_text(config)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))

    right, wrong = checks(registry.login, replace(registry.login, password=WRONG))

    assert (None, True) == (right.error, wrong.error is not None)
    assert [config] == [path.read_text() for path in tmp_path.iterdir()]


@pytest.mark.docker
def test_no_registry() -> None:
    """The diagnosis tells a missing registry from one that refuses."""
    host = f"127.0.0.1:{free_port()}"

    (found,) = checks(login(host))

    assert "connection refused" in str(found.error)
    assert str(found.error).endswith(
        f"Check that a registry runs at {host}, and that the daemon can reach it."
    )


@pytest.mark.docker
def test_hung_registry() -> None:
    """A registry that takes the connection and does not answer is not waited for."""
    with socket.create_server(("127.0.0.1", 0)) as hung:
        host = f"127.0.0.1:{hung.getsockname()[1]}"
        found = checks(*[login(host)] * 3)

    assert {f"no answer in 4 s. Check that a registry runs at {host}, and that the"} == {
        str(check.error).partition(" daemon")[0] for check in found
    }


def test_what_is_asked(address: Path) -> None:
    """The diagnosis asks the daemon once, and logs in as Docker's own command line does."""

    def answer(request: Request) -> Iterable[bytes]:
        if request.target.endswith("/auth"):
            return failure(500, "login attempt failed: x509: certificate signed by nobody")
        return json_answer([] if "networks" in request.target else {"Runtimes": {"nvidia": {}}})

    with Stub(answer, address) as stub:
        found = diagnose(Endpoint(url=f"unix://{address}"), "lan", [login("docker.io")])

    assert ["GET /info", "GET /networks", "POST /auth"] == [
        asked.partition("?")[0] for asked in stub.asked
    ]
    assert stub.requests[-1].json == {
        "username": "me",
        "password": WRONG,
        "serveraddress": "https://index.docker.io/v1/",
    }
    assert isinstance(found, DaemonReport)
    assert ("nvidia",) == found.info.runtimes
    assert "copy its CA certificate to /etc/docker/certs.d/docker.io/ca.crt" in str(found)


def test_no_daemon(address: Path) -> None:
    """The diagnosis says on one line why the daemon does not answer."""
    found = diagnose(Endpoint(url=f"unix://{address}"), "lan", [login("docker.io")])

    assert isinstance(found, str)
    assert found.startswith(f"no Docker daemon at unix://{address}: its socket does not exist.")
    assert 1 == len(found.splitlines())


def test_a_daemon_that_says_no_more(address: Path) -> None:
    """The diagnosis does not wait for a daemon that hangs after its version."""
    leave = threading.Event()

    def hang(_: Request) -> list[bytes]:
        leave.wait(60)
        return []

    with Stub(hang, address):
        found = diagnose(Endpoint(url=f"unix://{address}"), "lan", ())
        leave.set()

    assert isinstance(found, str)
    assert "did not answer in time" in found


@pytest.mark.docker
@pytest.mark.parametrize("shared", [{}, {"pid_mode": "host"}], ids=["network", "processes"])
def test_mounted_socket(
    docker_engine: DockerEngine, app_id: str, tmp_path: Path, shared: dict[str, Any]
) -> None:
    """A container does not see the files behind a mounted socket, whatever it shares; we do."""
    code = "import runpy; print(runpy.run_path('/peer.py')['is_visible']('/s/sock'))"
    volumes = [f"{tmp_path}:/s", f"{peer.__file__}:/peer.py:ro"]
    with socket.socket(socket.AF_UNIX) as server, closing(docker.from_env()) as client:
        server.bind(str(tmp_path / "sock"))
        server.listen()

        inside = client.containers.run(
            BASE,
            ["python3", "-c", code],
            labels={labels.APP_ID: app_id},
            network_mode="host",
            volumes=volumes,
            **shared,
        )

        assert (b"False", True) == (inside.strip(), peer.is_visible(str(tmp_path / "sock")))
    assert docker_engine.info().is_local
