"""Which login a registry gets."""

from __future__ import annotations

import base64
import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from airflow_torchx.core.engine.images import RegistryLogin
from airflow_torchx.docker_engine.logins import header
from airflow_torchx.errors import EngineError

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "hidden-word"  # noqa: S105 - nobody's


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder for the docker configuration, and for credential helpers."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    configure(tmp_path, {})
    return tmp_path


def configure(folder: Path, config: dict[str, Any]) -> None:
    """Write a docker configuration."""
    (folder / "config.json").write_text(json.dumps(config))


def install(folder: Path, name: str, script: str) -> None:
    """Install a credential helper."""
    program = folder / f"docker-credential-{name}"
    program.write_text(f"#!/bin/sh\nread -r host\n{script}\n")
    program.chmod(0o700)


def login(registry: str) -> RegistryLogin:
    """Return a login of ours."""
    return RegistryLogin(registry=registry, username="me", password=SECRET)


def found(host: str, *logins: RegistryLogin) -> dict[str, str] | None:
    """Return what a header says, with its keys in lower case."""
    text = header(host, logins)
    entry = json.loads(base64.urlsafe_b64decode(text)) if text else None
    return {key.lower(): value for key, value in entry.items() if value} if entry else None


def test_none(folder: Path) -> None:
    """Where nobody has logged in there is no header."""
    configure(folder, {"auths": {"h:1": {}, "other": {"auth": "bWU6eA=="}}})

    assert found("h:1") is None
    assert found("h:1", login("h:2")) is None


@pytest.mark.parametrize(
    "spelling",
    ["docker.io", "index.docker.io", "https://index.docker.io/v1/", "registry-1.docker.io", ""],
)
def test_docker_hub(folder: Path, spelling: str) -> None:
    """It is known under all its names, and Docker hears the one that it wants."""
    assert folder.is_dir()
    assert found("docker.io", login(spelling)) == {
        "username": "me",
        "password": SECRET,
        "serveraddress": "https://index.docker.io/v1/",
    }


def test_our_login_wins(folder: Path) -> None:
    """Over the docker configuration, and the first of ours over the second; ports count."""
    configure(folder, {"auths": {"h:1": {"auth": base64.b64encode(b"cli:x").decode()}}})
    logins = [
        login("h"),
        login("http://h:1/v2"),
        RegistryLogin(registry="h:1", username="second", password=SECRET),
    ]

    assert "me" == (found("h:1", *logins) or {})["username"]
    assert "cli" == (found("h:1", login("h:2")) or {})["username"]


def test_configuration_is_read_anew(folder: Path) -> None:
    """A `docker login` in the meantime counts."""
    assert found("docker.io") is None

    auth = base64.b64encode(b"cli:x").decode()
    configure(folder, {"auths": {"https://index.docker.io/v1/": {"auth": auth}}})

    assert "cli" == (found("docker.io") or {})["username"]


def test_identity_token(folder: Path) -> None:
    """Where a helper gives a token, that is sent and no user."""
    configure(folder, {"credHelpers": {"h:1": "mine"}})
    install(folder, "mine", f"""echo '{{"Username": "<token>", "Secret": "{SECRET}"}}'""")

    assert {"identitytoken": SECRET, "serveraddress": "h:1"} == found("h:1")


def test_helper_that_knows_nothing(folder: Path) -> None:
    """It is asked for Docker Hub by its long name, and what it does not know is no error."""
    configure(folder, {"credsStore": "mine"})
    said = "credentials not found in native keychain"
    install(folder, "mine", f'echo "$host" >"$0.asked"; echo "{said}"; exit 1')

    assert found("docker.io") is None
    assert "https://index.docker.io/v1/\n" == (folder / "docker-credential-mine.asked").read_text()


@pytest.mark.parametrize(
    "script",
    [
        f"echo {SECRET}; exit 1",
        f"echo {SECRET}",
        f"""echo '["{SECRET}"]'""",
        f"""echo '{{"Secret": "{SECRET}"}}'""",
        f"printf '\\377{SECRET}'; exit 1",
    ],
    ids=["fails", "no JSON", "a list", "no user", "no text"],
)
def test_helper_that_fails(folder: Path, script: str, caplog: pytest.LogCaptureFixture) -> None:
    """It is named, with a way to try it; what it printed is told nowhere."""
    caplog.set_level("DEBUG")
    configure(folder, {"credHelpers": {"h:1": "mine"}})
    install(folder, "mine", script)

    with pytest.raises(
        EngineError, match="docker-credential-mine gives no login for h:1"
    ) as raised:
        header("h:1", ())

    assert "`echo h:1 | docker-credential-mine get`" in raised.value.fix
    assert raised.value.__cause__ is None
    assert raised.value.__context__ is None
    assert SECRET not in str(raised.value) + caplog.text


def test_helper_that_is_missing(folder: Path) -> None:
    """It is named, with the settings that name it."""
    configure(folder, {"credsStore": "nowhere"})

    with pytest.raises(EngineError, match=r"docker-credential-nowhere, which .* not on the PATH"):
        header("h:1", ())


@pytest.mark.parametrize(
    "auths",
    [{"h:1": SECRET}, {"h:1": {"auth": SECRET}}, {"h:1": {"auth": 5}}, [SECRET]],
    ids=["no entry", "no base64", "a number", "a list"],
)
def test_broken_configuration(folder: Path, auths: object) -> None:
    """It is an error that says where it is, but not what it holds."""
    configure(folder, {"auths": auths})

    with pytest.raises(EngineError, match="cannot be read") as raised:
        header("h:1", ())

    assert "Mend `auths` in ~/.docker/config.json" in raised.value.fix
    assert SECRET not in str(raised.value)
    assert raised.value.__context__ is None


def test_a_login_hides_its_password() -> None:
    """Also where it is shown by accident."""
    assert SECRET not in repr(login("h"))
