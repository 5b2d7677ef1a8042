"""A whole Airflow: API server, scheduler with its workers, DAG processor, triggerers.

Each is a real process, which a test may stop, kill and start again.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

import httpx
from cryptography.fernet import Fernet
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

from tests.airflow.processes import PATIENCE_S, Component, until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType

    from sqlalchemy import TextClause

DAGS: Final = Path(__file__).with_name("dags")
EXAMPLES: Final = Path(__file__).parents[2] / "dags"
_LOCAL_SETTINGS: Final = Path(__file__).with_name("local_settings")
#: Of a request that changes something.
_TRIES: Final = 5
_RETRY_S: Final = 0.1
_PARTS: Final = ("metadatabase", "scheduler", "dag_processor", "triggerer")


#: The database is asked by who waits: each answer of the REST API takes it 40 ms of a core, and
#: many tests wait for many tasks.
_NOW: Final = text(
    "SELECT state, try_number, pid FROM task_instance WHERE dag_id = :dag_id"
    " AND run_id = :run_id AND task_id = :task_id AND map_index = :map_index"
)
#: The line of Airflow's race. A task defers, its trigger fires, and the second process of the try
#: runs already when the scheduler gets to the executor's event of the end of the first process. The
#: scheduler fails the try then, and writes this line into its log and into the table of events.
_RACED: Final = text(
    "SELECT DISTINCT try_number FROM log WHERE dag_id = :dag_id AND run_id = :run_id"
    " AND task_id = :task_id AND map_index = :map_index AND event = 'state mismatch' AND extra LIKE"
    " '%finished with state success, but the task instance''s state%' ORDER BY try_number"
)
#: The tries that were followed by another one, of all tasks of a run, but for those that raced.
_FAILED_TRIES: Final = text(
    "SELECT h.dag_id, h.task_id, h.map_index, h.try_number FROM task_instance_history h"
    " WHERE h.run_id = :run_id AND NOT EXISTS (SELECT 1 FROM log l WHERE l.dag_id = h.dag_id"
    " AND l.run_id = h.run_id AND l.task_id = h.task_id AND l.map_index = h.map_index"
    " AND l.try_number = h.try_number AND l.event = 'state mismatch' AND l.extra LIKE"
    " '%finished with state success, but the task instance''s state%')"
)
_FAIL_ATTEMPT: Final = """\
import sys

from airflow.models.taskinstance import TaskInstance
from airflow.utils.session import create_session
from sqlalchemy import select

dag_id, run_id, task_id, map_index = sys.argv[1:]
with create_session() as session:
    attempt = select(TaskInstance).filter_by(
        dag_id=dag_id, run_id=run_id, task_id=task_id, map_index=int(map_index)
    )
    session.scalars(attempt).one().handle_failure("taken for lost", session=session)
"""
_RUN_STATES: Final = text("SELECT run_id, state FROM dag_run WHERE dag_id = :dag_id")


class Now(NamedTuple):
    """Where a task stands: its state, if it has one, its try, and the process of that."""

    state: str | None
    try_number: int
    pid: int | None


@dataclass(frozen=True)
class Task:
    """A task instance of a DAG run, with all its tries.

    Args:
        stack: where it runs.
        dag_id: the DAG.
        run_id: the run.
        task_id: the task.
        map_index: which one, of a mapped task.
    """

    stack: Stack
    dag_id: str
    run_id: str
    task_id: str = "gang"
    map_index: int = -1

    def now(self) -> Now:
        """Return where the task stands."""
        (row,) = self._select(_NOW)
        return Now(*row)

    def raced(self, killed: int | None = None) -> tuple[int, ...]:
        """Return the tries that Airflow failed by a race of its own.

        Args:
            killed: a process that a test has killed. Its end leaves the same line: the executor
                calls it a success, and the task instance is still running.
        """
        tries = (int(try_number) for (try_number,) in self._select(_RACED))
        return tuple(one for one in tries if killed is None or killed not in self._pids(one))

    def _pids(self, try_number: int) -> set[int]:
        """Return the processes that a try had when the scheduler took it for finished."""
        told = re.compile(
            rf"TaskInstance Finished: dag_id={self.dag_id}, task_id={self.task_id},"
            rf" run_id={re.escape(self.run_id)}, map_index={self.map_index}, .* state=running, .*"
            rf" executor_state=success, try_number={try_number}, .* pid=(\d+)"
        )
        return {int(pid) for pid in told.findall(self.stack.scheduler.text())}

    def record(self) -> str:
        """Return what the task, its triggers, the scheduler and the triggerers logged of it."""
        lines = [
            f"try {one['try_number']}: {one['state']}\n{_told(self.log(one['try_number']))}"
            for one in self.tries()
        ]
        for component in (self.stack.scheduler, *self.stack.triggerers):
            own = (line for line in component.text().splitlines() if self.run_id in line)
            lines += [f"{component.name}:", *own]
        return "\n".join(lines)

    def state(self) -> str | None:
        """Return the task's state, None while it has none."""
        return self.now().state

    def details(self) -> dict[str, Any]:
        """Return all that Airflow knows of it now."""
        details: dict[str, Any] = self.stack.get(self._own_path)
        return details

    def wait_for(self, *states: str) -> str:
        """Wait until the task is in one of these states, and return it.

        A retry of a try that raced is waited for.
        """

        def come_to() -> str | None:
            self.stack.assert_runs()
            now = self.now()
            is_raced = now.state == "up_for_retry" and now.try_number in self.raced()
            return now.state if now.state in states and not is_raced else None

        return until(come_to, f"{self.dag_id} {self.run_id} {' or '.join(states)}")

    def mark(self, state: str) -> None:
        """Set the task's state as a user does in Airflow's UI."""
        self.stack.patch(self._own_path, {"new_state": state})

    def fail_attempt(self) -> None:
        """Fail the running attempt as the scheduler does that takes it for lost."""
        key = (self.dag_id, self.run_id, self.task_id, str(self.map_index))
        self.stack.run_python("-c", _FAIL_ATTEMPT, *key)

    def clear(self) -> None:
        """Have the task run again, as a user does in Airflow's UI."""
        body = {
            "dry_run": False,
            "dag_run_id": self.run_id,
            "task_ids": [self.task_id],
            "only_failed": False,
            "reset_dag_runs": True,
        }
        self.stack.post(f"dags/{self.dag_id}/clearTaskInstances", body)

    def tries(self) -> list[dict[str, Any]]:
        """Return all its tries in their order, with their states."""
        tries: list[dict[str, Any]] = self.stack.get(f"{self._own_path}/tries")["task_instances"]
        return sorted(tries, key=lambda one: int(one["try_number"]))

    def log(self, try_number: int = 1) -> list[dict[str, Any]]:
        """Return the events of the log of one try, with their fields."""
        events: list[dict[str, Any]] = []
        path, token = f"{self._path}/logs/{try_number}", None
        while True:
            query = {"map_index": str(self.map_index)} | ({"token": token} if token else {})
            page = self.stack.get(path, **query)
            events += page["content"]
            token = page["continuation_token"]
            if token is None or not page["content"]:
                return events

    def logs(self) -> list[dict[str, Any]]:
        """Return the events of the logs of all tries: one that raced is followed by another."""
        tries = range(1, self.now().try_number + 1)
        return [event for number in tries for event in self.log(number)]

    def lines(self, role: str, replica: int) -> list[str]:
        """Return what the logs have of a replica, without its name before each line.

        A try may show again what a try that raced has shown; such a line is returned once.
        """
        found: list[str] = []
        for number in range(1, self.now().try_number + 1):
            before = set(found)
            own = lines_of(self.log(number), role, replica)
            found += [line for line in own if line not in before]
        return found

    def xcom(self, key: str = "return_value") -> Any:  # noqa: ANN401 - any JSON
        """Return what the task pushed."""
        query = {"map_index": str(self.map_index)}
        return self.stack.get(f"{self._path}/xcomEntries/{key}", **query)["value"]

    def text(self) -> str:
        """Return all that Airflow shows of the task: instance, rendered fields, XComs, log."""
        paths = [self._path, f"{self._path}/xcomEntries", f"dags/{self.dag_id}/details"]
        return "\n".join([*(str(self.stack.get(path)) for path in paths), str(self.logs())])

    def _select(self, query: TextClause) -> list[tuple[Any, ...]]:
        return self.stack.select(
            query,
            dag_id=self.dag_id,
            run_id=self.run_id,
            task_id=self.task_id,
            map_index=self.map_index,
        )

    @property
    def _path(self) -> str:
        return f"dags/{self.dag_id}/dagRuns/{self.run_id}/taskInstances/{self.task_id}"

    @property
    def _own_path(self) -> str:
        return self._path if self.map_index < 0 else f"{self._path}/{self.map_index}"


def lines_of(log: Sequence[Mapping[str, Any]], role: str, replica: int) -> list[str]:
    """Return what the events of a log have of a replica, without its name before each line."""
    events = (
        event["event"]
        for event in log
        if event.get("role") == role and event.get("replica") == replica
    )
    lines = [line for event in events for line in event.split("\n")]
    return [line.removeprefix(f"{role}/{replica} ") for line in lines]


def _told(log: Sequence[Mapping[str, Any]]) -> str:
    """Return a log as text, without the lines of replicas."""
    lines = []
    for event in log:
        if event.get("replica") is None:
            error = f" {event['error_detail']}" if event.get("error_detail") else ""
            lines.append(f"{event.get('timestamp')} {event['event']}{error}")
    return "\n".join(lines)


class Stack:
    """Boots on entry, and is gone with all its processes on exit.

    Args:
        home: the AIRFLOW_HOME, a folder.
        database: URL of an initialised database.
        settings: more environment variables.
    """

    def __init__(
        self,
        home: Path,
        database: str,
        *,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.home = home
        #: Where its UI is.
        self.url = f"http://127.0.0.1:{free_port()}"
        self._env = _environment(home, database, self.url) | dict(settings or {})
        self._http = httpx.Client(base_url=self.url, trust_env=False, timeout=PATIENCE_S)
        # Nothing is held between two questions.
        self._database = create_engine(database, isolation_level="AUTOCOMMIT")
        self._known: set[str] = set()
        # Each reads the log files of the others.
        self.api_server = self._component("api-server", "api-server")
        self.scheduler = self._component("scheduler", "scheduler", "--skip-serve-logs")
        self.dag_processor = self._component("dag-processor", "dag-processor")
        self.triggerers = [self._triggerer(0)]

    @property
    def components(self) -> list[Component]:
        """All of its processes."""
        return [self.api_server, self.scheduler, self.dag_processor, *self.triggerers]

    def __enter__(self) -> Self:
        try:
            for component in self.components:
                component.start()
            until(self._is_healthy, "Airflow")
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

    def assert_runs(self) -> None:
        """Fail with what a process wrote last if it has ended.

        A test would wait for such an Airflow as long as it may, and each one after it.
        """
        for component in self.components:
            component.assert_runs()

    @contextmanager
    def paused(self, component: Component) -> Iterator[None]:
        """Stop a process with SIGSTOP while none of its transactions is open.

        SQLite has one writer. A process that is stopped while it writes keeps all others from
        writing, and the scheduler ends itself then.
        """
        component.pause()
        try:
            while not self._can_write():
                component.resume()
                time.sleep(_RETRY_S)
                component.pause()
            yield
        finally:
            component.resume()

    def _can_write(self) -> bool:
        with self._database.connect() as connection:
            try:
                connection.execute(text("BEGIN IMMEDIATE"))
            except OperationalError:
                return False
            connection.execute(text("ROLLBACK"))
        return True

    def another_api_server(self, name: str, settings: Mapping[str, str]) -> Component:
        """Return another API server on the same database, with settings of its own.

        Users alone ask it: no task does.
        """
        env = self._env | dict(settings)
        words = ("api-server", "--apps", "core")
        return Component(name, words, env, self.home / f"{name}.log")

    def start_triggerer(self) -> Component:
        """Start another triggerer."""
        triggerer = self._triggerer(len(self.triggerers))
        triggerer.start()
        self.triggerers.append(triggerer)
        return triggerer

    def run(self, *words: str) -> None:
        """Run an ``airflow`` command of this Airflow to its end."""
        self.run_python("-m", "airflow", *words)

    def run_python(self, *words: str) -> None:
        """Run Python with the settings of this Airflow to its end."""
        command = [sys.executable, *words]
        done = subprocess.run(
            command, env=os.environ | self._env, capture_output=True, text=True, check=False
        )
        assert not done.returncode, done.stdout + done.stderr

    def trigger(
        self,
        dag_id: str,
        run_id: str,
        conf: Mapping[str, Any] | None = None,
        logical_date: str | None = None,
    ) -> Task:
        """Start a run of a DAG, as soon as its file is read."""
        if dag_id not in self._known:
            until(lambda: self._knows(dag_id), f"DAG {dag_id}")
            self._known.add(dag_id)
        body = {"dag_run_id": run_id, "logical_date": logical_date, "conf": dict(conf or {})}
        self.post(f"dags/{dag_id}/dagRuns", body)
        return Task(self, dag_id, run_id)

    def run_states(self, dag_id: str) -> dict[str, str]:
        """Return the states of all runs of a DAG by their ids."""
        return dict(self.select(_RUN_STATES, dag_id=dag_id))

    def failed_tries(self, run_id: str) -> list[tuple[Any, ...]]:
        """Return the tries that brought a retry, and that Airflow's race does not excuse."""
        return self.select(_FAILED_TRIES, run_id=run_id)

    def select(self, query: TextClause, **values: str | int) -> list[tuple[Any, ...]]:
        """Return what the database answers."""
        with self._database.connect() as connection:
            return [tuple(row) for row in connection.execute(query, values)]

    def get(self, path: str, **params: str) -> Any:  # noqa: ANN401 - any JSON
        """Return what the REST API answers."""
        accept = {"Accept": "application/json"}
        return self._answer(self._http.get(f"/api/v2/{path}", params=params, headers=accept))

    def patch(self, path: str, body: dict[str, Any]) -> None:
        """Change something through the REST API."""
        self._write("PATCH", path, body)

    def post(self, path: str, body: dict[str, Any]) -> Any:  # noqa: ANN401 - any JSON
        """Make something through the REST API."""
        return self._write("POST", path, body)

    def delete(self, path: str) -> None:
        """Delete something through the REST API."""
        self._answer(self._http.delete(f"/api/v2/{path}"))

    def _write(self, method: str, path: str, body: dict[str, Any]) -> Any:  # noqa: ANN401 - any JSON
        """Send a request; retry while another process holds the database.

        SQLite refuses a transaction at once that has read before another one wrote, and Airflow
        answers 500, as it does to a user, who tries again.
        """
        for _ in range(_TRIES - 1):
            response = self._http.request(method, f"/api/v2/{path}", json=body)
            if not (response.is_server_error and "Database error" in response.text):
                return self._answer(response)
            time.sleep(1)
        return self._answer(self._http.request(method, f"/api/v2/{path}", json=body))

    def _component(self, name: str, *words: str) -> Component:
        return Component(name, words, self._env, self.home / f"{name}.log")

    def _triggerer(self, number: int) -> Component:
        return self._component(f"triggerer-{number}", "triggerer", "--skip-serve-logs")

    def _stop(self) -> None:
        self._http.close()
        self._database.dispose()
        for component in self.components:
            component.end()

    def _is_healthy(self) -> bool:
        self.assert_runs()
        try:
            health = self._http.get("/api/v2/monitor/health").raise_for_status().json()
            token = self._http.get("/auth/token").raise_for_status().json()["access_token"]
            # The API of tasks makes its routes at its first request, in 37 s beside other tests.
            # A task gives up after 30 s, and its try fails.
            self._http.get("/execution/health").raise_for_status()
        except httpx.HTTPError:
            return False
        self._http.headers["Authorization"] = f"Bearer {token}"
        return all(health[part]["status"] == "healthy" for part in _PARTS)

    def _knows(self, dag_id: str) -> bool:
        errors = self.get("importErrors")["import_errors"]
        assert not errors, errors
        return self._http.get(f"/api/v2/dags/{dag_id}").is_success

    def _answer(self, response: httpx.Response) -> Any:  # noqa: ANN401 - any JSON
        if not response.is_success:
            # Of what fails in it, it says why only in its log.
            log = self.api_server.text()[-8000:] if response.is_server_error else ""
            raise AssertionError(f"{response.request.url}: {response.text}\n{log}")
        return response.json() if response.content else None


def _environment(home: Path, database: str, url: str) -> dict[str, str]:
    bundles = [
        {
            "name": name,
            "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
            "kwargs": {"path": str(folder)},
        }
        for name, folder in (("tests", DAGS), ("examples", EXAMPLES))
    ]
    return {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": url.rpartition(":")[2],
        "AIRFLOW__API__SECRET_KEY": secrets.token_hex(32),
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(32),
        # All processes need the same one: the triggers of assets are stored encrypted.
        "AIRFLOW__CORE__FERNET_KEY": Fernet.generate_key().decode(),
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        # For tries that raced; `Stack.failed_tries` tells whether there were others.
        "AIRFLOW__CORE__DEFAULT_TASK_RETRIES": "2",
        "AIRFLOW__CORE__DEFAULT_TASK_RETRY_DELAY": "1",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PARALLELISM": "2",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(bundles),
        # Each file is read once: none changes, and each reading takes seconds of a core.
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3600",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database,
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.5",
        # What runs is what a test triggers.
        "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "False",
        # How often a running task asks whether it was ended.
        "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
        "PYTHONPATH": os.pathsep.join([str(_LOCAL_SETTINGS), os.environ.get("PYTHONPATH", "")]),
    }


def free_port() -> int:
    """Return a port that no process listens on, and that the system gives to none.

    A server that is not up yet, or that ends and starts again, loses one that other tests get when
    they ask for any.
    """
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        # Not by `random`, which pytest-randomly seeds alike in all workers.
        port = 10_000 + secrets.randbelow(first - 10_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
