"""Resolving an endpoint from the environment and docker contexts."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Final

import pytest

from airflow_torchx.core.connection.docker_config import DockerConfig
from airflow_torchx.core.connection.endpoint import Endpoint
from airflow_torchx.docker_engine.connection import open_client, resolve
from airflow_torchx.errors import EngineUnreachableError

if TYPE_CHECKING:
    from pathlib import Path


URL: Final = "unix:///var/run/docker.sock"


def context(folder: Path, name: str, *, tls: bool = False, **endpoint: object) -> None:
    """Write a docker context."""
    key = hashlib.sha256(name.encode()).hexdigest()
    meta = folder / "contexts" / "meta" / key
    meta.mkdir(parents=True)
    (meta / "meta.json").write_text(json.dumps({"Name": name, "Endpoints": {"docker": endpoint}}))
    if tls:
        certificates(folder / "contexts" / "tls" / key / "docker")


def certificates(folder: Path) -> None:
    """Create empty files with the names of Docker's TLS files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("ca.pem", "cert.pem", "key.pem"):
        (folder / name).touch()


def test_default(tmp_path: Path) -> None:
    """Without any configuration, the default socket is used."""
    assert Endpoint(url=URL) == resolve(Endpoint(), {"HOME": str(tmp_path)})
    assert Endpoint(url=URL) == resolve(Endpoint(), {"DOCKER_CONFIG": str(tmp_path)})


def test_environment(tmp_path: Path) -> None:
    """DOCKER_HOST wins over a context, and the endpoint's own URL over both."""
    environ = {
        "DOCKER_HOST": "tcp://gpu-1",
        "DOCKER_CONTEXT": "absent",
        "DOCKER_CONFIG": str(tmp_path),
        "DOCKER_API_VERSION": "1.43",
    }

    assert Endpoint(url="tcp://gpu-1:2375", api_version="1.43") == resolve(Endpoint(), environ)
    assert Endpoint(url="unix:///s") == resolve(Endpoint(url="unix:///s"), environ)


def test_environment_with_tls(tmp_path: Path) -> None:
    """DOCKER_CERT_PATH and DOCKER_TLS_VERIFY work as in the docker CLI."""
    certificates(tmp_path)
    files = {f"tls_{name}": str(tmp_path / f"{name}.pem") for name in ("ca", "cert")}
    files["tls_private_key"] = str(tmp_path / "key.pem")
    host = {"DOCKER_HOST": "tcp://gpu-1"}
    verifying = {**host, "DOCKER_TLS_VERIFY": "1"}

    assert Endpoint(url="tcp://gpu-1:2376", tls_verify=False, **files) == resolve(  # type: ignore[arg-type]
        Endpoint(), {**host, "DOCKER_CERT_PATH": str(tmp_path)}
    )
    assert Endpoint(url="tcp://gpu-1:2376", **files) == resolve(  # type: ignore[arg-type]
        Endpoint(), {**verifying, "DOCKER_CONFIG": str(tmp_path)}
    )


def test_environment_without_certificates(tmp_path: Path) -> None:
    """With DOCKER_TLS_VERIFY set, missing TLS files never lead to plain HTTP."""
    environ = {"DOCKER_HOST": "tcp://gpu-1", "DOCKER_TLS_VERIFY": "1", "HOME": str(tmp_path)}

    endpoint = resolve(Endpoint(), environ)

    assert endpoint.uses_tls
    assert str(tmp_path / ".docker" / "ca.pem") == endpoint.tls_ca


def test_context(tmp_path: Path) -> None:
    """DOCKER_CONTEXT wins over the current context, and ``default`` is the default socket."""
    context(tmp_path, "a", Host="unix:///a.sock")
    context(tmp_path, "b", tls=True, Host="tcp://b:2376", SkipTLSVerify=True)
    (tmp_path / "config.json").write_text('{"currentContext": "a"}')
    environ = {"DOCKER_CONFIG": str(tmp_path)}

    assert Endpoint(url="unix:///a.sock") == resolve(Endpoint(), environ)
    assert Endpoint(url=URL) == resolve(Endpoint(), {**environ, "DOCKER_CONTEXT": "default"})
    b = resolve(Endpoint(), {**environ, "DOCKER_CONTEXT": "b"})
    assert ("tcp://b:2376", False, True) == (b.url, b.tls_verify, b.uses_tls)
    assert str(b.tls_private_key).startswith(str(tmp_path / "contexts" / "tls"))


@pytest.mark.parametrize("content", ["{", "[]", '{"currentContext": 1}', "", None])
def test_configuration_without_context(tmp_path: Path, content: str | None) -> None:
    """A configuration that names no context means the default socket, whatever else is in it."""
    file = tmp_path / "config.json"
    file.mkdir() if content is None else file.write_text(content)

    assert URL == resolve(Endpoint(), {"DOCKER_CONFIG": str(tmp_path)}).url


def test_unknown_context(tmp_path: Path) -> None:
    """A context that does not exist, or that names no host, is never another daemon."""
    context(tmp_path, "empty")
    (tmp_path / "config.json").write_text('{"currentContext": "empty"}')
    environ = {"DOCKER_CONFIG": str(tmp_path)}

    for name, variables in (("empty", {}), ("gone", {"DOCKER_CONTEXT": "gone"})):
        with pytest.raises(
            EngineUnreachableError,
            match=f"docker context '{name}' does not exist or has no host",
        ):
            resolve(Endpoint(), {**environ, **variables})


def test_unreadable_context(tmp_path: Path) -> None:
    """The error says why a context cannot be read."""
    key = hashlib.sha256(b"a").hexdigest()
    (tmp_path / "contexts" / "meta" / key / "meta.json").mkdir(parents=True)

    with pytest.raises(
        EngineUnreachableError, match="docker context 'a' cannot be read: Is a directory"
    ):
        resolve(Endpoint(), {"DOCKER_CONFIG": str(tmp_path), "DOCKER_CONTEXT": "a"})


def test_wrong_url() -> None:
    """An invalid URL raises an error without a connection attempt."""
    with pytest.raises(EngineUnreachableError, match="'gpu-1' has none of the schemes"):
        resolve(Endpoint(), {"DOCKER_HOST": "gpu-1"})


def test_header_that_cannot_be_sent() -> None:
    """A header that HTTP does not allow is an error, which hides its value."""
    config = DockerConfig(headers={"X-Token": "hidden\nword"})

    with pytest.raises(EngineUnreachableError) as raised:
        open_client(Endpoint(url="unix:///absent"), config)

    assert (
        "HttpHeaders of the docker configuration has an invalid header: 'X-Token'."
        == raised.value.what
    )
    assert "hidden" not in str(raised.value)
    assert raised.value.__cause__ is None
