"""A second API server of a whole Airflow: the one that users of the page ask.

It differs from the first one in all that a deployment may choose: users with rights, a brand, two
workers, Docker access, and a path below which it is. It may end and start again while tasks run.
"""

from __future__ import annotations

import json
import secrets
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import httpx

from tests.airflow.processes import until
from tests.airflow.stack import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.airflow.stack import Stack

#: Users with their roles; ana may read one DAG alone, see `per_dag_rights`.
USERS: Final = {"mara": "user", "vic": "viewer", "ana": "user"}
ROOT: Final = "/airflow"
#: Shades of the brand: their lightness and chroma.
_SHADES: Final = {
    "50": (0.98, 0.01),
    "100": (0.95, 0.03),
    "200": (0.91, 0.05),
    "300": (0.85, 0.08),
    "400": (0.77, 0.1),
    "500": (0.7, 0.11),
    "600": (0.6, 0.1),
    "700": (0.51, 0.09),
    "800": (0.43, 0.07),
    "900": (0.38, 0.06),
    "950": (0.27, 0.04),
}
_BRAND: Final = {
    shade: {"value": f"oklch({lightness} {chroma} 190)"}
    for shade, (lightness, chroma) in _SHADES.items()
}


class Front:
    """Users, and the server that they ask.

    Args:
        stack: the Airflow whose database and logs it shows.
    """

    def __init__(self, stack: Stack) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}{ROOT}"
        self._passwords = {user: secrets.token_hex(8) for user in USERS}
        self._tokens: dict[str, str] = {}
        passwords = stack.home / "passwords.json"
        passwords.write_text(json.dumps(self._passwords))
        self._server = stack.another_api_server(
            "front",
            {
                "AIRFLOW__API__BASE_URL": self.url,
                "AIRFLOW__API__PORT": str(port),
                "AIRFLOW__API__THEME": json.dumps({"tokens": {"colors": {"brand": _BRAND}}}),
                "AIRFLOW__TORCHX__UI_DOCKER_ACCESS": "True",
                "AIRFLOW__CORE__AUTH_MANAGER": "per_dag_rights.PerDagRights",
                "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
                "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
                "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(
                    f"{user}:{role}" for user, role in USERS.items()
                ),
            },
        )

    def owns(self, pid: int) -> bool:
        """Tell whether a process is one of its own."""
        return self._server.owns(pid)

    @contextmanager
    def away(self) -> Iterator[None]:
        """End it, and start it again afterwards, with one worker; `wait` until it answers."""
        self.end()
        try:
            yield
        finally:
            self.start(workers=1)

    def end(self) -> None:
        """End it, with its workers."""
        self._server.end()

    def start(self, workers: int = 2) -> None:
        """Start it, or start it again; each worker process imports the whole of Airflow."""
        self._server.env = {**self._server.env, "AIRFLOW__API__WORKERS": str(workers)}
        self._server.start()

    def wait(self) -> None:
        """Wait until it answers."""
        until(self._answers, "the second API server")

    def token(self, user: str) -> str:
        """Return what a user has after a login."""
        if user not in self._tokens:
            body = {"username": user, "password": self._passwords[user]}
            answer = httpx.post(f"{self.url}/auth/token", json=body, timeout=30, trust_env=False)
            self._tokens[user] = answer.raise_for_status().json()["access_token"]
        return self._tokens[user]

    def status(self, user: str | None, method: str, path: str, body: object = None) -> int:
        """Return the status of an answer to a user, or to a request without a login."""
        headers = {"Authorization": f"Bearer {self.token(user)}"} if user else {}
        url = f"{self.url}/{path}"
        with httpx.Client(headers=headers, timeout=30, trust_env=False) as client:
            return client.request(method, url, json=body).status_code

    def _answers(self) -> bool:
        self._server.assert_runs()
        try:
            return httpx.get(f"{self.url}/api/v2/version", trust_env=False).is_success
        except httpx.HTTPError:
            return False
