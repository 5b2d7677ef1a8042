"""A small server that plays the routes of Airflow's API which the page asks, on recorded snapshots.

It is another implementation of what the page needs from Airflow. tests/airflow/test_page.py shows
the same page in a real one.
"""

from __future__ import annotations

import json
import re
import threading
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import parse_qs, quote, unquote, urlsplit

import airflow_torchx
from airflow_torchx.core.state.failure_key import failure_xcoms

if TYPE_CHECKING:
    import httpx

STATIC: Final = Path(airflow_torchx.__file__).parent / "ui" / "static"
SNAPSHOTS: Final = Path(__file__).with_name("snapshots")
RUN: Final = "manual__2026-11-24T03:00:00+00:00"
_INSTANCE: Final = re.compile(
    r"/api/v2/dags/([^/]+)/dagRuns/([^/]+)/taskInstances/([^/]+)(?:/(\d+))?(/dry_run|/tries)?"
)
_BELOW: Final = re.compile(
    r"/api/v2/dags/([^/]+)/dagRuns/([^/]+)/taskInstances/([^/]+)/(xcomEntries|state-store|logs)(.*)"
)
_KEYS: Final = re.compile(r"/api/v2/dags/([^/]+)/dagRuns/~/taskInstances/~/xcomEntries")
_TYPES: Final = {".js": "text/javascript", ".svg": "image/svg+xml"}
_PAGE: Final = """\
<!doctype html><html lang="en" style="color-scheme: {scheme}"><head><meta charset="utf-8">
<title>TorchX</title><base href="{base}">
<style>body {{ margin: 0; background: light-dark(#fff, #111) }}</style>
<link rel="icon" href="data:,"><script type="module" src="{base}static/view.js"></script></head>
<body><main><h1 style="position:absolute;clip-path:inset(50%)">TorchX</h1>
<torchx-view {attributes}></torchx-view></main></body></html>
"""


@dataclass
class _Forwarded:
    """An answer of the page's own server."""

    headers: dict[str, str]
    data: bytes


def recorded(name: str) -> dict[str, Any]:
    """Return a recorded snapshot, which the caller may change."""
    snapshot: dict[str, Any] = json.loads((SNAPSHOTS / f"{name}.json").read_text())
    return snapshot


@dataclass
class PlayedTask:
    """A task instance as Airflow's API shows it, with its XCom, its state store and its logs."""

    dag_id: str = "train_nightly"
    run_id: str = RUN
    task_id: str = "gang"
    map_index: int = -1
    state: str = "running"
    try_number: int = 1
    operator: str = "TorchXDockerOperator"
    snapshot: dict[str, Any] | None = None
    store: dict[str, Any] = field(default_factory=dict)
    tries: list[str] = field(default_factory=list)
    log: list[dict[str, Any]] = field(default_factory=list)
    start_date: str = "2026-11-23T17:00:00Z"

    def as_json(self, **changes: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON
        """Return the task instance."""
        return {
            "dag_id": self.dag_id,
            "dag_run_id": self.run_id,
            "task_id": self.task_id,
            "map_index": self.map_index,
            "state": self.state,
            "try_number": self.try_number,
            "operator": self.operator.removeprefix("@"),
            "operator_name": self.operator,
            "task_display_name": self.task_id,
            "dag_display_name": self.dag_id,
            "rendered_map_index": None,
            "run_after": "2026-11-23T16:59:59.123456Z",
            "start_date": self.start_date,
            "end_date": None if self.state in {"running", "deferred"} else "2026-11-23T17:10:20Z",
        } | changes

    @property
    def attributes(self) -> dict[str, str]:
        """Return the attributes of the page's element."""
        return {
            "dag-id": self.dag_id,
            "run-id": self.run_id,
            "task-id": self.task_id,
            "map-index": str(self.map_index),
        }


class PlayedAirflow:
    """Serves the page and the API below ``root``, and remembers each request of the API."""

    def __init__(self, root: str = "/") -> None:
        self.root = root
        self.tasks: list[PlayedTask] = []
        self.requests: list[str] = []
        #: The server's clock, a few seconds after the recorded snapshots.
        self.now_s = 1795454103.0
        #: The next status of each API route, by a part of its path.
        self.refusals: dict[str, int] = {}
        #: Answers what is below ``/torchx``; without it, the API server does not read from Docker.
        self.docker: httpx.Client | None = None
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def add(self, name: str, **fields: Any) -> PlayedTask:  # noqa: ANN401 - any field
        """Add a task with a recorded snapshot."""
        snapshot = recorded(name) | {"origin": None}
        task = PlayedTask(snapshot=snapshot, **fields)
        self.tasks.append(task)
        return task

    def page(self, task: PlayedTask | None = None, *, scheme: str = "light") -> str:
        """Return the address of the page of a task, or of the list."""
        where = (
            "&".join(f"{k}={quote(v, safe='')}" for k, v in task.attributes.items()) if task else ""
        )
        return f"{self.url}{self.root}{'app' if task else 'list'}/{scheme}?{where}"

    def answer(self, method: str, target: str, body: Any) -> tuple[int, Any]:  # noqa: ANN401
        """Return status and JSON, or bytes and their type as a text."""
        parts = urlsplit(target)
        path = "/" + parts.path.removeprefix(self.root)
        query = {k: v[-1] for k, v in parse_qs(parts.query).items()}
        if path.startswith("/static/"):
            return self._static(path)
        if path.startswith(("/app/", "/list/")):
            return self._html(path, query)
        self.requests.append(f"{method} {path}")
        for part, status in self.refusals.items():
            if part in f"{method} {path}":
                return status, {"detail": "refused"}
        if path.startswith("/torchx/"):
            return self._docker(target)
        return self._api(method, path, query, body)

    def _docker(self, target: str) -> tuple[int, Any]:
        below = "/" + target.removeprefix(f"{self.root}torchx/")
        if self.docker is not None:
            answer = self.docker.get(below)
            return answer.status_code, _Forwarded(dict(answer.headers), answer.content)
        return (200, {"docker_access": False}) if below == "/features" else (404, {})

    def _static(self, path: str) -> tuple[int, Any]:
        file = STATIC / path.rpartition("/")[2]
        return (200, file) if file.is_file() else (404, {})

    def _html(self, path: str, query: dict[str, str]) -> tuple[int, str]:
        scheme = path.rpartition("/")[2]
        names = ("dag-id", "run-id", "task-id", "map-index")
        attributes = " ".join(f'{k}="{v}"' for k, v in query.items() if k in names)
        return 200, _PAGE.format(base=self.root, scheme=scheme, attributes=attributes)

    def _api(self, method: str, path: str, query: dict[str, str], body: Any) -> tuple[int, Any]:  # noqa: ANN401
        if path == "/api/v2/dags/~/dagRuns/~/taskInstances":
            return self._list(query)
        if found := _KEYS.fullmatch(path):
            return self._keys(unquote(found[1]), query)
        if found := _BELOW.fullmatch(path):
            *ids, kind, rest = found.groups()
            task = self._find(ids, query.get("map_index", "-1"))
            return self._below(task, kind, unquote(rest)) if task else (404, {})
        if found := _INSTANCE.fullmatch(path):
            *ids, index, suffix = found.groups()
            task = self._find(ids, index or "-1")
            if task is None:
                return 404, {}
            if method == "PATCH" and suffix is None:
                task.state = body["new_state"]
            tries = [task.as_json(try_number=n, state=s) for n, s in enumerate(task.tries, 1)]
            return 200, {"task_instances": tries} if suffix == "/tries" else task.as_json()
        return 404, {}

    def _find(self, ids: list[str], map_index: str) -> PlayedTask | None:
        key = (*map(unquote, ids), int(map_index))
        found = (t for t in self.tasks if key == (t.dag_id, t.run_id, t.task_id, t.map_index))
        return next(found, None)

    def _list(self, query: dict[str, str]) -> tuple[int, Any]:
        rows = [
            task.as_json()
            for task in self.tasks
            if query.get("state", task.state) == task.state
            and query.get("dag_id_pattern", "") in task.dag_id
            and query.get("task_display_name_pattern", "") in task.task_id
            and query.get("run_id_pattern", "") in task.run_id
            and query.get("start_date_gte", "") <= task.start_date
        ]
        return 200, {"task_instances": _page(rows, query), "total_entries": len(rows)}

    def _keys(self, dag_id: str, query: dict[str, str]) -> tuple[int, Any]:
        """Return the keys of many tasks' XComs."""
        rows = [
            {
                "key": key,
                "dag_id": task.dag_id,
                "run_id": task.run_id,
                "task_id": task.task_id,
                "map_index": task.map_index,
            }
            for task in self.tasks
            if task.snapshot and dag_id in {"~", task.dag_id}
            for key in failure_xcoms(task.snapshot)
            if key.startswith(query["xcom_key_prefix_pattern"])
        ]
        return 200, {"xcom_entries": _page(rows, query), "total_entries": len(rows)}

    def _below(self, task: PlayedTask, kind: str, rest: str) -> tuple[int, Any]:
        if kind == "state-store":
            entries = [{"key": key, "value": value} for key, value in task.store.items()]
            return 200, {"task_state_store": entries, "total_entries": len(entries)}
        if kind == "logs":
            return 200, "\n".join(map(json.dumps, task.log)) + "\n"
        if rest:
            return (200, {"value": deepcopy(task.snapshot)}) if task.snapshot else (404, {})
        return 200, {"xcom_entries": [{"key": "torchx_app"}] if task.snapshot else []}


def _page(rows: list[Any], query: dict[str, str]) -> list[Any]:
    first = int(query.get("offset", "0"))
    return rows[first : first + min(100, int(query["limit"]))]


def _encoded(content: Any) -> tuple[str, dict[str, str], bytes]:  # noqa: ANN401 - of a route
    """Return the type, more headers and the bytes of an answer."""
    if isinstance(content, _Forwarded):
        headers = {k: v for k, v in content.headers.items() if k.startswith("x-")}
        return content.headers["content-type"].partition(";")[0], headers, content.data
    if isinstance(content, Path):
        return _TYPES[content.suffix], {}, content.read_bytes()
    if isinstance(content, str):
        kind = "text/html" if content.startswith("<") else "application/x-ndjson"
        return kind, {}, content.encode()
    return "application/json", {}, json.dumps(content).encode()


def _handler(played: PlayedAirflow) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(None)

        def do_PATCH(self) -> None:
            self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def _answer(self, body: Any) -> None:  # noqa: ANN401 - any JSON
            status, content = played.answer(self.command, self.path, body)
            kind, headers, data = _encoded(content)
            self.send_response_only(status)
            self.send_header("Date", formatdate(played.now_s, usegmt=True))
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            # A page that is left drops what it has asked for.
            with suppress(ConnectionError):
                self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    return Handler
