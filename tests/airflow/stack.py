"""A whole Airflow: API server, scheduler with its workers, DAG processor, each a real process."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import httpx

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

_T = TypeVar("_T")

_DAGS: Final = Path(__file__).with_name("dags")
_COMPONENTS: Final = (("api-server",), ("scheduler", "--skip-serve-logs"), ("dag-processor",))
_BOOT_S: Final = 90.0
_TASK_S: Final = 60.0
_TICK_S: Final = 0.1


@dataclass(frozen=True)
class Attempt:
    """The first attempt of the task ``gang`` of one DAG run.

    Args:
        stack: where it runs.
        dag_id: the DAG.
        run_id: the run.
    """

    stack: Stack
    dag_id: str
    run_id: str

    def state(self) -> str | None:
        """Return the task's state, None while it has none."""
        state: str | None = self.stack.get(self._path())["state"]
        return state

    def wait_for(self, *states: str) -> str:
        """Wait until the task is in one of these states, and return it."""
        return until(
            lambda: state if (state := self.state()) in states else None,
            f"{self.dag_id} {' or '.join(states)}",
        )

    def mark(self, state: str) -> None:
        """Set the task's state as a user does in Airflow's UI."""
        self.stack.patch(self._path(), {"new_state": state})

    def log(self) -> list[dict[str, Any]]:
        """Return the events of the task log, with their fields."""
        events: list[dict[str, Any]] = []
        path, token = f"{self._path()}/logs/1", None
        while True:
            page = self.stack.get(path, **({"token": token} if token else {}))
            events += page["content"]
            token = page["continuation_token"]
            if token is None or not page["content"]:
                return events

    def xcom(self, key: str) -> Any:  # noqa: ANN401 - any JSON
        """Return what the task pushed."""
        return self.stack.get(f"{self._path()}/xcomEntries/{key}")["value"]

    def text(self) -> str:
        """Return all that Airflow shows of the task: instance, rendered fields, XComs, log."""
        paths = [self._path(), f"{self._path()}/xcomEntries", f"dags/{self.dag_id}/details"]
        return "\n".join([*(str(self.stack.get(path)) for path in paths), str(self.log())])

    def _path(self) -> str:
        return f"dags/{self.dag_id}/dagRuns/{self.run_id}/taskInstances/gang"


class Stack:
    """Boots on entry, and is gone with all its processes on exit.

    Args:
        home: the AIRFLOW_HOME to make.
        database: an initialised SQLite database, to be copied.
    """

    def __init__(self, home: Path, database: Path) -> None:
        self.home = home
        self._database = database
        self._processes: list[subprocess.Popen[bytes]] = []
        port = _free_port()
        self._url = f"http://127.0.0.1:{port}"
        self._http = httpx.Client(base_url=self._url, trust_env=False, timeout=30)
        self._env = {
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(port),
            "AIRFLOW__API__SECRET_KEY": secrets.token_hex(32),
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(32),
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__CORE__DAGS_FOLDER": str(_DAGS),
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self._url}/execution/",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__PARALLELISM": "2",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.2",
            # How often a running task asks whether somebody ended it.
            "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
        }

    def __enter__(self) -> Self:
        self.home.mkdir()
        shutil.copy(self._database, self.home / "airflow.db")
        try:
            for component in _COMPONENTS:
                self._start(component)
            until(self._is_healthy, "Airflow", patience_s=_BOOT_S)
            until(self._knows_dags, "the DAGs", patience_s=_BOOT_S)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._stop()

    def trigger(self, dag_id: str, run_id: str) -> Attempt:
        """Start a run of a DAG."""
        body = {"dag_run_id": run_id, "logical_date": None}
        self._answer(self._http.post(f"/api/v2/dags/{dag_id}/dagRuns", json=body))
        return Attempt(self, dag_id, run_id)

    def get(self, path: str, **params: str) -> Any:  # noqa: ANN401 - any JSON
        """Return what the REST API answers."""
        accept = {"Accept": "application/json"}
        return self._answer(self._http.get(f"/api/v2/{path}", params=params, headers=accept))

    def patch(self, path: str, body: dict[str, Any]) -> None:
        """Change something through the REST API."""
        self._answer(self._http.patch(f"/api/v2/{path}", json=body))

    def _start(self, component: tuple[str, ...]) -> None:
        command = [sys.executable, "-m", "airflow", *component]
        with (self.home / f"{component[0]}.log").open("wb") as log:
            # A session of its own: its workers are ended with it.
            process = subprocess.Popen(
                command,
                env=os.environ | self._env,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._processes.append(process)

    def _stop(self) -> None:
        self._http.close()
        for process in self._processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _is_healthy(self) -> bool:
        for (component, *_), process in zip(_COMPONENTS, self._processes, strict=True):
            log = self.home / f"{component}.log"
            assert process.poll() is None, f"{component} ended:\n{log.read_text()[-5000:]}"
        try:
            health = self._http.get("/api/v2/monitor/health").raise_for_status().json()
            token = self._http.get("/auth/token").raise_for_status().json()["access_token"]
        except httpx.HTTPError:
            return False
        self._http.headers["Authorization"] = f"Bearer {token}"
        parts = ("metadatabase", "scheduler", "dag_processor")
        return all(health[part]["status"] == "healthy" for part in parts)

    def _knows_dags(self) -> bool:
        assert not self.get("importErrors")["import_errors"]
        return bool(self.get("dags")["total_entries"])

    @staticmethod
    def _answer(response: httpx.Response) -> Any:  # noqa: ANN401 - any JSON
        assert response.is_success, f"{response.request.url}: {response.text}"
        return response.json()


def until(look: Callable[[], _T | None], what: str, *, patience_s: float = _TASK_S) -> _T:
    """Return what ``look`` returns as soon as that is true."""
    deadline = time.monotonic() + patience_s
    while True:
        if seen := look():
            return seen
        assert time.monotonic() < deadline, f"{what}: not within {patience_s:g} s"
        time.sleep(_TICK_S)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
