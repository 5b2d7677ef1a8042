"""Whose running apps a user sees: Airflow's own checks, on the fake engine."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Final

import pytest
from fastapi.testclient import TestClient

from tests.ui.live_app import OURS, LiveApps, path_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROUTES: Final = ("live", "stats", "logs")


def address(route: str, **query: object) -> str:
    """Return the address of a route for the app of the DAG ``train``."""
    return path_of(OURS, route, role="trainer", replica=0, **query)


@pytest.fixture
def client(airflow_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """Return a client of the page's server under an auth manager with rights for each DAG."""
    assert airflow_home.exists()
    monkeypatch.setenv("AIRFLOW__CORE__AUTH_MANAGER", "tests.airflow.dag_rights.DagRights")
    with warnings.catch_warnings():
        # What Airflow and its own dependencies say of each other is not ours to mend.
        warnings.simplefilter("ignore")
        from airflow.api_fastapi import app as airflow_app

        from airflow_torchx.ui.server import create_app

        airflow_app.create_auth_manager().init()
        apps = LiveApps()
        apps.launch()
        with TestClient(create_app(apps.live)) as client:
            yield client
        airflow_app.purge_cached_app()


def headers_of(user: str) -> dict[str, str]:
    """Return the headers of a user's requests; the name lists the DAGs that the user may read."""
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

    manager = get_auth_manager()
    token = manager.generate_jwt(SimpleAuthManagerUser(username=user, role="viewer"))
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize("route", ROUTES)
def test_anonymous_users_see_nothing(client: TestClient, route: str) -> None:
    """A request without a login, or with an invalid one, is refused first of all."""
    assert 401 == client.get(address(route)).status_code
    assert 401 == client.get(address(route, tail="x", handle="")).status_code
    invalid = {"Authorization": "Bearer x.y.z"}
    assert 403 == client.get(address(route), headers=invalid).status_code


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("query", [{}, {"dag_id": "eval"}])
def test_a_reader_of_another_dag_sees_nothing(
    client: TestClient, route: str, query: dict[str, str]
) -> None:
    """The right on another DAG does not help, also not if the query names that."""
    answer = client.get(address(route, **query), headers=headers_of("eval"))

    assert 403 == answer.status_code


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("query", [{}, {"dag_id": "secret"}])
def test_a_reader_of_the_dag_sees_its_app(
    client: TestClient, route: str, query: dict[str, str]
) -> None:
    """A viewer needs no other right."""
    answer = client.get(address(route, **query), headers=headers_of("train"))

    assert 200 == answer.status_code
    assert "one\ntwo\n" == answer.text if route == "logs" else OURS.app_id in answer.text


def test_logs_need_a_right_of_their_own(client: TestClient) -> None:
    """A user who may read task instances, and not task logs, sees states and usage."""
    found = [
        client.get(address(route), headers=headers_of("train-without-logs")).status_code
        for route in ROUTES
    ]

    assert [200, 200, 403] == found


@pytest.mark.parametrize("route", ROUTES)
def test_the_cookie_of_the_ui_is_a_login(client: TestClient, route: str) -> None:
    """The browser sends the cookie that Airflow's login has set."""
    token = headers_of("train")["Authorization"].removeprefix("Bearer ")

    assert 200 == client.get(address(route), headers={"Cookie": f"_token={token}"}).status_code
