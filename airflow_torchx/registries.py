"""From Airflow connections of type ``docker`` to the logins of registries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException
from airflow.sdk.log import mask_secret

from airflow_torchx.core.images import RegistryLogin
from airflow_torchx.core.registries import host_of
from airflow_torchx.errors import InvalidAppError, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airflow.sdk import Connection

#: The connection type of Airflow's own Docker provider, which need not be installed.
CONN_TYPE: Final = "docker"

_MISSING: Final = {
    "host": "give the registry, like docker.io",
    "login": "give the user that logs in to the registry",
    "password": "give the user's password, or an access token",
}


def logins_from(conn_ids: Sequence[str]) -> tuple[RegistryLogin, ...]:
    """Return the logins that these connections hold, one each; their passwords are masked in logs.

    Args:
        conn_ids: Airflow connections of type ``docker``: host (and port), login, password.

    Raises:
        InvalidAppError: with one problem for every connection that is missing, and every field that
            is missing or wrong.
    """
    connections, problems = [], []
    for conn_id in conn_ids:
        try:
            connection = BaseHook.get_connection(conn_id)
        except AirflowNotFoundException:
            fix = f"add one of type {CONN_TYPE!r}, or take it out of the registries"
            problems.append(Problem(f"connection {conn_id!r}", "there is none of this id", fix))
            continue
        if connection.password:
            mask_secret(connection.password)
        connections.append((conn_id, connection))
        problems += _problems(conn_id, connection)
    if problems:
        raise InvalidAppError(problems, subject="app with these registries")
    return tuple(_login(connection) for _, connection in connections)


def _problems(conn_id: str, connection: Connection) -> Iterator[Problem]:
    where = f"connection {conn_id!r}"
    if connection.conn_type != CONN_TYPE:
        what = f"its type is {connection.conn_type!r}"
        yield Problem(where, what, f"choose a connection of type {CONN_TYPE!r}")
        return
    for field, fix in _MISSING.items():
        if not (getattr(connection, field) or "").strip():
            yield Problem(f"{where}.{field}", "it is missing", fix)


def _login(connection: Connection) -> RegistryLogin:
    host = host_of(str(connection.host))
    return RegistryLogin(
        registry=f"{host}:{connection.port}" if connection.port and ":" not in host else host,
        username=str(connection.login),
        password=str(connection.password),
    )
