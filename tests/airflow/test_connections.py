"""What a connection says, from Airflow to the daemon and its registries."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_torchx.cli.daemon import settings_of
from airflow_torchx.core.connection.endpoint import Endpoint
from airflow_torchx.core.connection.settings import Settings, daemon_url
from airflow_torchx.core.connection.swarm import Swarm
from airflow_torchx.core.state.app_ref import AppRef
from airflow_torchx.errors import InvalidAppError
from airflow_torchx.hooks import TorchXDockerHook
from airflow_torchx.operators import TorchXDockerOperator
from airflow_torchx.task.poke import handle_of
from tests import pages
from tests.airflow.apps import shell
from tests.airflow.command import Answer, airflow
from tests.conftest import BUSYBOX, require_docker
from tests.integration.registry import PASSWORD, Registry, serving
from tests.integration.stub import Stub, failure
from tests.integration.tls import Certificate, Front

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_torchx.docker_engine import DockerEngine
    from tests.airflow.one_task import OneTask
    from tests.airflow.stack import Stack

#: Airflow's command line takes its time.
pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """Return a certificate that signs itself."""
    return Certificate.make(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def front(certificate: Certificate) -> Iterator[Front]:
    """Return TLS in front of the daemon of the tests."""
    require_docker().close()
    with Front(certificate) as running:
        yield running


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """Return a registry that asks for a login."""
    require_docker().close()
    with serving(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture
def connection(
    airflow_home: Path,
    front: Front,
    certificate: Certificate,
    registry: Registry,
    monkeypatch: pytest.MonkeyPatch,
) -> dict[str, Any]:
    """Return a connection that says everything; the registries that it names are there."""
    assert airflow_home.is_dir()
    login = {"conn_type": "docker", "host": registry.host, "login": registry.login.username}
    monkeypatch.setenv("AIRFLOW_CONN_RIGHT", json.dumps({**login, "password": PASSWORD}))
    monkeypatch.setenv("AIRFLOW_CONN_WRONG", json.dumps({**login, "password": "hidden-word"}))
    extra = {**certificate.texts(), "network": "bridge", "registries": ["right"]}
    return {"conn_type": "torchx_docker", "host": front.url, "extra": extra}


def hook_on(monkeypatch: pytest.MonkeyPatch, connection: object) -> TorchXDockerHook:
    """Return a hook whose connection is this one."""
    text = connection if isinstance(connection, str) else json.dumps(connection)
    monkeypatch.setenv("AIRFLOW_CONN_GPUS", text)
    return TorchXDockerHook("gpus")


@pytest.mark.usefixtures("airflow_home")
@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("torchx-docker://tcp://gpu-1:2376", Endpoint(url="tcp://gpu-1:2376")),
        ("torchx-docker://ssh://me@gpu-1:22", Endpoint(url="ssh://me@gpu-1:22")),
        ("torchx-docker://unix:///run/d.sock", Endpoint(url="unix:///run/d.sock")),
        ("torchx-docker://unix%3A%2F%2F%2Frun%2Fd.sock", Endpoint(url="unix:///run/d.sock")),
        ("torchx-docker:///?api_version=1.43", Endpoint(api_version="1.43")),
        (
            "torchx-docker://tcp://h/?tls_ca=%2Fca.pem&tls_verify=false",
            Endpoint(url="tcp://h", tls_ca="/ca.pem", tls_verify=False),
        ),
    ],
)
def test_uri(monkeypatch: pytest.MonkeyPatch, uri: str, expected: Endpoint) -> None:
    """A connection may be written as a URI."""
    assert expected == hook_on(monkeypatch, uri).endpoint()


@pytest.mark.usefixtures("airflow_home")
def test_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """The default connection is the one that Airflow's configuration names."""
    hook_on(monkeypatch, {"conn_type": "torchx_docker", "host": "tcp://gpu-1"})

    assert Endpoint() == TorchXDockerHook().endpoint()
    monkeypatch.setenv("AIRFLOW__TORCHX__DEFAULT_CONN_ID", "gpus")
    assert Endpoint(url="tcp://gpu-1") == TorchXDockerHook().endpoint()


def test_wrong_fields(monkeypatch: pytest.MonkeyPatch, connection: dict[str, Any]) -> None:
    """One error lists all wrong fields of a connection, and shows no key."""
    key = connection["extra"]["tls_private_key"]
    connection["extra"] |= {"tls_private_key": key[40:], "options": {"usr": 1}, "network": "-"}
    hook = hook_on(monkeypatch, connection)

    with pytest.raises(InvalidAppError) as raised:
        hook.get_conn()

    assert ["extra.tls_private_key", "extra.network", "extra.options.usr"] == [
        problem.where for problem in raised.value.problems
    ]
    is_fine, message = hook.test_connection()
    assert (False, "invalid connection: 3 problems") == (
        is_fine,
        message.splitlines()[0],
    )
    assert "invalid connection 'gpus': 3 problems" in str(raised.value)
    assert not [line for line in key.splitlines()[1:-1] if line in str(raised.value)]


def test_the_key_is_masked(monkeypatch: pytest.MonkeyPatch, connection: dict[str, Any]) -> None:
    """A log never shows the key, as text, as file content or inside the extra."""
    from airflow.sdk._shared.secrets_masker import redact

    key = connection["extra"]["tls_private_key"]
    connection["extra"]["tls_private_key"] = key.replace("\n", "")
    hook_on(monkeypatch, connection).settings()

    # Whether Airflow finds the whole text first or its lines depends on the order of a set.
    assert ["", ""] == [str(redact(text)).strip("*\n") for text in (key.replace("\n", ""), key)]
    assert key.splitlines()[1] not in str(redact(json.dumps(connection)))


@pytest.mark.docker
def test_test(monkeypatch: pytest.MonkeyPatch, connection: dict[str, Any]) -> None:
    """The test of a connection describes the daemon and confirms network and login."""
    is_fine, message = hook_on(monkeypatch, connection).test_connection()

    assert is_fine, message
    daemon, network, files, login = message.splitlines()
    pattern = r"Docker \S+ \(API [\d.]+\) on .+ at tcp://127.0.0.1:\d+: \d+ CPUs, [\d.]+ GiB of "
    assert re.match(pattern, daemon)
    assert "Network 'bridge' exists." == network
    assert files.startswith("The files of its host are not visible here")
    assert re.fullmatch(r"Login to 127.0.0.1:\d+ as 'tester' succeeded\.", login)


@pytest.mark.docker
@pytest.mark.parametrize(
    ("registries", "expected"),
    [
        (["right", "wrong"], r"as 'tester' failed: .*nauthorized"),
        (["nowhere"], r"connection 'nowhere': it does not exist"),
        (["gpus"], r"connection 'gpus': its type is 'torchx_docker'; use a connection of type"),
    ],
)
def test_test_fails(
    monkeypatch: pytest.MonkeyPatch,
    connection: dict[str, Any],
    registries: list[str],
    expected: str,
) -> None:
    """The test of a connection fails if a registry's is wrong, missing or of another type."""
    connection["extra"]["registries"] = registries

    is_fine, message = hook_on(monkeypatch, connection).test_connection()

    assert not is_fine
    assert re.search(expected, message), message
    assert "hidden-word" not in message


@pytest.mark.usefixtures("airflow_home")
def test_test_without_a_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test of a connection answers, and never raises, without a daemon or a connection."""
    hook = hook_on(monkeypatch, {"conn_type": "torchx_docker", "host": "unix:///nonexistent"})

    assert (False, "no Docker daemon at unix:///nonexistent: its socket does not exist. ") == (
        hook.test_connection()[0],
        hook.test_connection()[1].partition("Start")[0],
    )
    is_fine, message = TorchXDockerHook("nowhere").test_connection()
    assert not is_fine
    assert "torchx_conn_id: there is no connection 'nowhere'; add one of type" in message
    assert message.endswith("pass torchx_conn_id= or app_id=")


@pytest.mark.usefixtures("airflow_home")
def test_the_scheduler_of_a_swarm(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A sensor of an id, and the plan of a dry run, name the scheduler of the connection.

    The dry run asks the daemon of the connection for its facts.
    """
    address = tmp_path / "docker.sock"
    swarm = {"host": f"unix://{address}", "extra": {"scheduler": "docker_swarm"}}
    hook_on(monkeypatch, {"conn_type": "torchx_docker", **swarm})
    task = TorchXDockerOperator(task_id="gang", app=shell("true"), torchx_conn_id="gpus")

    with Stub(lambda _: failure(503, "This node is not a swarm manager."), address) as stub:
        task.dry_run()

    assert "docker_swarm://gpus/app-1" == handle_of(AppRef("app-1", "gpus"))
    assert "GET /swarm" in stub.asked
    printed = capsys.readouterr().out
    assert "handle: docker_swarm://gpus/" in printed
    assert "network: torchx-swarm" in printed
    assert "docker service rm" == TorchXDockerHook("gpus").docker_cli().remove
    assert "docker rm -f" == TorchXDockerHook("nowhere").docker_cli().remove


@pytest.mark.usefixtures("airflow_home")
def test_a_connection_that_a_command_names() -> None:
    """The error of the command line names its option, and no argument of an operator."""
    with pytest.raises(InvalidAppError) as caught:
        settings_of(None, "nowhere")

    (problem,) = caught.value.problems
    assert ("--conn", "add one of type 'torchx_docker'") == (problem.where, problem.fix)


@pytest.mark.usefixtures("airflow_home")
def test_another_type(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection of another type is refused."""
    with pytest.raises(InvalidAppError, match="its type is 'http'; use a connection of type 't"):
        hook_on(monkeypatch, {"conn_type": "http", "host": "h"}).settings()


@pytest.mark.usefixtures("airflow_home")
def test_the_commands_of_the_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands add correct connections, and a pool that counts deferred tasks."""
    from airflow.models.pool import Pool

    names = ("gpu_host", "gpu_cluster", "gpu_cluster_tls")
    texts = ("add gpu_host", "--conn-host tcp://box1.example", names[2], "airflow pools set")
    block = "".join(map(pages.block_with, texts))
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)

    subprocess.run(["bash", "-euc", block], check=True, capture_output=True)
    got = {}
    for name in names:
        got[name] = airflow("connections", "get", name, "--output=json").output
        airflow("connections", "delete", name)
    pool = Pool.get_pool("gpu_host")
    Pool.delete_pool("gpu_host")

    found = [json.loads(text)[0] for text in got.values()]
    host, cluster, tls = (
        Settings.parse(daemon_url(one["host"], port=int(one["port"])), one["extra_dejson"])
        for one in found
    )
    assert "tcp://gpu-1.example.com:2376" == host.endpoint.url
    assert ("training", ("ghcr",)) == (host.network, host.registries)
    managers = tuple(f"tcp://box{number}.example.com:2376" for number in (2, 3))
    assert Swarm(managers=managers) == cluster.endpoint.swarm
    assert ("tcp://box1:2376", Swarm()) == (tls.endpoint.url, tls.endpoint.swarm)
    assert pool is not None
    assert pool.include_deferred


@pytest.mark.docker
def test_command_line(connection: dict[str, Any]) -> None:
    """`airflow connections test` says that it is fine, or what is not."""

    def test(registry: str) -> Answer:
        text = json.dumps(
            {**connection, "extra": {**connection["extra"], "registries": [registry]}}
        )
        return airflow("connections", "test", "gpus", AIRFLOW_CONN_GPUS=text)

    fine, faulty = (test(registry) for registry in ("right", "wrong"))

    assert (0, True) == (fine.code, "Connection success!" in fine.output), fine
    assert (1, True) == (faulty.code, "as 'tester' failed" in faulty.output), faulty


@pytest.mark.docker
def test_api_server(stack: Stack, connection: dict[str, Any]) -> None:
    """The API server tests a connection of its database with a registry's, and hides the key."""
    key = connection["extra"]["tls_private_key"]
    right = json.loads(os.environ["AIRFLOW_CONN_RIGHT"])
    stack.post("connections", {"connection_id": "stored", **right})
    connection["extra"]["registries"] = ["stored"]
    # The UI sends this port for an empty one, and the API server compares it with the stored one.
    extra = json.dumps(connection["extra"])
    body = {**connection, "connection_id": "gpus", "extra": extra, "port": 0}

    shown = stack.post("connections", body)
    tested = stack.post("connections/test", body)
    broken = stack.post("connections/test", {**body, "connection_id": "x", "host": "gpu-1"})

    assert tested["status"], tested
    assert "as 'tester' succeeded" in tested["message"]
    assert (False, True) == (broken["status"], "host: 'gpu-1' has none" in broken["message"])
    assert "***" == json.loads(shown["extra"])["tls_private_key"]
    assert key.splitlines()[1] not in f"{shown} {tested} {broken} {stack.get('connections')}"


@pytest.mark.docker
def test_task(
    one_task: OneTask,
    docker_engine: DockerEngine,
    registry: Registry,
    connection: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A task goes to that daemon, with its logins and options under its own."""
    image = f"{registry.host}/team/busybox:1"
    docker_engine.images.tag(BUSYBOX, image)
    connection["extra"]["options"] = {"env": {"A": "1", "B": "1"}, "pull_policy": "always"}
    with hook_on(monkeypatch, connection).get_conn() as scheduler:
        scheduler.engine.images.push(image, lambda _: None)
    docker_engine.images.untag(image)

    ended = one_task.run(
        app=shell("""echo "{\\"A\\": $A, \\"B\\": $B}" > /result""", replicas=1),
        image=image,
        options={"env": {"B": "2"}},
        torchx_conn_id="gpus",
        result_path="/result",
        on_finish="keep",
    )
    docker_engine.remove(ended.rows[0].id)
    docker_engine.images.untag(image)

    assert "success" == ended.state
    assert {"A": 1, "B": 2} == ended.xcom()
    assert ended.xcom("app_handle").startswith("local_docker://gpus/")
