"""Logins of registries, from Airflow connections."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from airflow_torchx.core.engine.images import RegistryLogin
from airflow_torchx.errors import InvalidAppError
from airflow_torchx.hooks import logins_from

if TYPE_CHECKING:
    from pathlib import Path

PASSWORD = "hidden-word"  # noqa: S105 - not a real one


@pytest.fixture(autouse=True)
def _connections(airflow_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert airflow_home.is_dir()
    whole = {"conn_type": "docker", "host": "ghcr.io", "login": "me", "password": PASSWORD}
    connections = {
        "ghcr": whole,
        "port": whole | {"host": "https://h/v2/", "port": 5000, "extra": {"reauth": "no"}},
        "hub": whole | {"host": "https://index.docker.io/v1/"},
        "both": whole | {"host": "h:5000", "port": 443},
        "empty": whole | {"host": "", "login": None, "password": " "},
        "other": whole | {"conn_type": "http"},
    }
    for name, connection in connections.items():
        monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(connection))
    monkeypatch.setenv("AIRFLOW_CONN_URI", f"docker://me:{PASSWORD}@h%3A5000")


def test_logins() -> None:
    """A connection is a login, however it is written."""
    logins = logins_from(["ghcr", "port", "hub", "both", "uri"])

    assert logins == tuple(
        RegistryLogin(registry=registry, username="me", password=PASSWORD)
        for registry in ("ghcr.io", "h:5000", "docker.io", "h:5000", "h:5000")
    )
    assert () == logins_from([])


def test_wrong_connections() -> None:
    """One error names everything that is wrong, with connection, field and fix, and no password."""
    with pytest.raises(InvalidAppError) as raised:
        logins_from(["empty", "ghcr", "nobodys", "other"])

    assert [str(problem) for problem in raised.value.problems] == [
        "connection 'empty'.host: it is missing; give the registry, like docker.io",
        "connection 'empty'.login: it is missing; give the user that logs in to the registry",
        "connection 'empty'.password: it is missing; give the user's password, or an access token",
        (
            "connection 'nobodys': it does not exist; "
            "add one of type 'docker', or remove it from the registries"
        ),
        "connection 'other': its type is 'http'; use a connection of type 'docker'",
    ]
    assert PASSWORD not in str(raised.value)


def test_missing_connection() -> None:
    """A registry's connection that does not exist raises Airflow's own error."""
    with pytest.raises(Exception, match="nowhere"):
        logins_from(["nowhere"])


def test_passwords_are_masked() -> None:
    """A log never shows a registry's password."""
    from airflow.sdk._shared.secrets_masker import redact

    logins_from(["ghcr"])

    assert "a *** b" == redact(f"a {PASSWORD} b")
