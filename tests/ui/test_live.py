"""The routes of running apps, on the fake engine; tests/airflow has those of users' rights."""

from __future__ import annotations

import asyncio
import re
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from fastapi.testclient import TestClient

from airflow_torchx.errors import EngineError
from airflow_torchx.testing import Program
from airflow_torchx.ui import auth
from airflow_torchx.ui.plugin import Page
from airflow_torchx.ui.server import create_app
from airflow_torchx.ui.threads import STUCK_S
from tests.ui.live_app import OURS, LiveApps, handle_of, path_of, states

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastapi import FastAPI


def app_of(apps: LiveApps) -> FastAPI:
    """Return the page's server for a user who may read all DAGs."""
    app = create_app(apps.live)
    for check in (auth.may_read_task, auth.may_read_log):
        app.dependency_overrides[check] = lambda: None
    return app


@pytest.fixture
def apps() -> LiveApps:
    """Return a daemon with the app of one task."""
    found = LiveApps()
    found.launch()
    return found


@pytest.fixture
def client(apps: LiveApps) -> Iterator[TestClient]:
    """Return a client whose requests share an event loop, as those of a server do."""
    with TestClient(app_of(apps)) as client:
        yield client


def test_the_state_of_an_app(client: TestClient, apps: LiveApps) -> None:
    """One list shows all replicas; the answer names app and try, and is kept by no browser."""
    answer = client.get(path_of(OURS, "live"))

    assert (200, "no-store") == (answer.status_code, answer.headers["Cache-Control"])
    found = answer.json()
    assert (OURS.app_id, 2, "") == (found["app_id"], found["try"], found["reason"])
    assert ["RUNNING", "RUNNING"] == states(found)
    assert {"try": 2, "epoch": 1} == found["snapshot"]["attempt"]
    assert ["rows"] == apps.engine.calls


def test_only_what_failed_is_inspected(client: TestClient, apps: LiveApps) -> None:
    """A failed replica has the time of its end, for one more request."""
    apps.engine.end("trainer/1", 137, oom_killed=True)

    found = client.get(path_of(OURS, "live")).json()

    assert ["RUNNING", "FAILED"] == states(found)
    assert (1, "oom") == (found["snapshot"]["failure"]["id"], found["snapshot"]["failure"]["kind"])
    assert ["rows", "inspect"] == apps.engine.calls


def test_counters_of_two_readings(client: TestClient, apps: LiveApps) -> None:
    """A browser divides the differences of two readings."""
    apps.clock.advance(10)
    first = client.get(path_of(OURS, "stats")).json()
    apps.clock.advance(10)
    second = client.get(path_of(OURS, "stats")).json()

    assert (OURS.app_id, 2, 2) == (first["app_id"], first["try"], first["running"])
    one, other = first["replicas"][0], second["replicas"][0]
    assert ("trainer", 0, 1 << 20) == (one["role"], one["id"], one["mem"])
    assert (10.0, 10**10) == (other["t"] - one["t"], other["cpu_ns"] - one["cpu_ns"])


def test_the_usage_of_many_replicas_is_cut(client: TestClient, apps: LiveApps) -> None:
    """The answer says how many replicas run, and the usage of how many was asked for."""
    apps.remove_all()
    apps.launch(replicas=65)

    found = client.get(path_of(OURS, "stats")).json()

    assert (65, 64, 64) == (found["running"], found["asked"], len(found["replicas"]))


@pytest.mark.parametrize("route", ["live", "stats"])
def test_containers_that_are_gone(client: TestClient, apps: LiveApps, route: str) -> None:
    """The answer says that the containers are gone, and is not an error."""
    apps.remove_all()

    answer = client.get(path_of(OURS, route))

    assert 200 == answer.status_code
    assert "removed" in answer.json()["reason"]
    assert not answer.json().get("snapshot")
    assert not answer.json().get("replicas")


def test_the_log_of_a_container_that_is_gone(client: TestClient, apps: LiveApps) -> None:
    """A log needs a container."""
    apps.remove_all()

    answer = client.get(path_of(OURS, "logs", role="trainer", replica=0))

    assert (404, "the daemon has no container of this replica") == (
        answer.status_code,
        answer.json()["detail"],
    )


@pytest.mark.parametrize("route", ["live", "stats", "logs"])
@pytest.mark.parametrize(
    "field", [{"dag_id": "other"}, {"run_id": "other"}, {"task_id": "other"}, {"map_index": 3}]
)
def test_a_handle_of_another_task_shows_nothing(
    client: TestClient, route: str, field: dict[str, object]
) -> None:
    """Containers are found by all labels of the task in the path, whatever the query names."""
    theirs = replace(OURS, **field)  # type: ignore[arg-type]
    query = {"handle": handle_of(OURS), "role": "trainer", "replica": 0, "dag_id": OURS.dag_id}

    answer = client.get(path_of(theirs, route, **query))

    if route == "logs":
        assert 404 == answer.status_code
    else:
        assert "removed" in answer.json()["reason"]


@pytest.mark.parametrize("run_id", ["a/b", "a//b+c:d", "50 %/ü", "~", "live/x/-1"])
@pytest.mark.parametrize("map_index", [-1, 0, 12])
def test_a_run_id_has_any_characters(run_id: str, map_index: int) -> None:
    """A slash in a run id stays one although a server decodes the path."""
    apps = LiveApps()
    odd = replace(OURS, run_id=run_id, map_index=map_index)
    apps.launch(odd)

    with TestClient(app_of(apps)) as client:
        found = client.get(path_of(odd, "live")).json()

    assert ["RUNNING", "RUNNING"] == states(found)
    origin = found["snapshot"]["origin"]
    assert (run_id, map_index) == (origin["run_id"], origin["map_index"])


def test_a_log_in_parts(client: TestClient, apps: LiveApps) -> None:
    """The second part begins where the first one has ended."""
    apps.program = Program(lines=[f"step {number}" for number in range(6)], line_every_s=1)
    apps.remove_all()
    apps.launch()
    apps.clock.advance(2)
    query = {"role": "trainer", "replica": 1}
    first = client.get(path_of(OURS, "logs", tail=2, **query))
    apps.clock.advance(2)

    second = client.get(path_of(OURS, "logs", since=first.headers["X-TorchX-Since"], **query))

    assert "step 1\nstep 2\n" == first.text
    assert "step 3\nstep 4\n" == second.text
    assert (OURS.app_id, "2") == (
        second.headers["X-TorchX-App-Id"],
        second.headers["X-TorchX-Try"],
    )
    assert "0" == second.headers["X-TorchX-Left-Out"]
    again = client.get(path_of(OURS, "logs", since=second.headers["X-TorchX-Since"], **query))
    assert "" == again.text


def test_a_part_has_a_limit(client: TestClient, apps: LiveApps) -> None:
    """Only the end is read; whether older lines were left out is known."""
    apps.program = Program(lines=[*map(str, range(10))], runs_for_s=None)
    apps.remove_all()
    apps.launch()
    query = {"role": "trainer", "replica": 0, "since": "0-0-0", "tail": 3}

    answer = client.get(path_of(OURS, "logs", **query))

    assert ("7\n8\n9\n", "1") == (answer.text, answer.headers["X-TorchX-Left-Out"])


def test_a_log_that_grows_fast_is_read_from_its_end(client: TestClient, apps: LiveApps) -> None:
    """A reader gets the newest lines although 32 MB came within a second, and those after them."""
    burst = ["x" * 16_000] * 2_000
    apps.program = Program(
        lines=["old", *burst, "new", "newer"], line_every_s=1e-4, runs_for_s=None
    )
    apps.remove_all()
    apps.launch()
    query = {"role": "trainer", "replica": 0, "tail": 10}
    first = client.get(path_of(OURS, "logs", **query))
    apps.clock.advance(0.20015)

    second = client.get(path_of(OURS, "logs", since=first.headers["X-TorchX-Since"], **query))
    apps.clock.advance(1)
    third = client.get(path_of(OURS, "logs", since=second.headers["X-TorchX-Since"], **query))

    assert "old\n" == first.text
    assert second.text.endswith("x\nnew\n")
    assert "1" == second.headers["X-TorchX-Left-Out"]
    assert "newer\n" == third.text


def test_the_end_of_very_long_lines(client: TestClient, apps: LiveApps) -> None:
    """Fewer lines than wanted are read if they are long, the newest ones among them."""
    apps.program = Program(lines=[*["x" * 16_000] * 2_000, "new"], runs_for_s=None)
    apps.remove_all()
    apps.launch()
    query = {"role": "trainer", "replica": 0, "tail": 5_000, "since": "0-0-0"}

    answer = client.get(path_of(OURS, "logs", **query))

    assert answer.text.endswith("x\nnew\n")
    assert int(answer.headers["X-TorchX-Left-Out"]) > 0


def test_a_log_is_text(client: TestClient, apps: LiveApps) -> None:
    """A browser does not take markup in a log for a page."""
    apps.program = Program(lines=["<img src=x onerror=alert(1)>\x1b[31m"], runs_for_s=None)
    apps.remove_all()
    apps.launch()

    answer = client.get(path_of(OURS, "logs", role="trainer", replica=0))

    assert "<img src=x onerror=alert(1)>\x1b[31m\n" == answer.text
    assert "text/plain; charset=utf-8" == answer.headers["Content-Type"]
    assert "nosniff" == answer.headers["X-Content-Type-Options"]


@pytest.mark.parametrize(
    ("route", "query", "status"),
    [
        ("live", {"handle": "kubernetes://x/y"}, 404),
        ("live", {"handle": ""}, 404),
        ("live", {"handle": "local_docker://elsewhere/app"}, 404),
        ("logs", {"replica": 0, "role": "x", "tail": 5001}, 422),
        ("logs", {"replica": 0, "role": "x", "tail": 0}, 422),
        ("logs", {"replica": -1, "role": "x"}, 422),
        ("logs", {"replica": 0, "role": "x", "since": "yesterday"}, 422),
        ("logs", {"replica": 7, "role": "trainer"}, 404),
        ("logs", {"replica": 0}, 422),
    ],
)
def test_invalid_requests(
    client: TestClient, route: str, query: dict[str, object], status: int
) -> None:
    """A request that names nothing that exists is refused."""
    assert status == client.get(path_of(OURS, route, **query)).status_code


def test_all_dags_are_not_a_dag(client: TestClient) -> None:
    """Airflow lets a reader of any DAG ask for ``~``; no app is of that."""
    assert 404 == client.get(path_of(replace(OURS, dag_id="~"), "live")).status_code


@pytest.mark.parametrize(
    ("session", "conn_id"), [("gpu_host", "gpu_host"), ("torchx", None), ("", None)]
)
def test_the_session_of_a_handle_is_its_connection(
    client: TestClient, apps: LiveApps, session: str, conn_id: str | None
) -> None:
    """The session of a handle without a connection means the default daemon."""
    client.get(path_of(OURS, "live", handle=handle_of(OURS, session)))

    assert [conn_id] == apps.lookups


def test_twenty_readers_cost_one_sweep() -> None:
    """In 2 s, all readers of an app together cost one list, and one reading of each replica."""
    apps = LiveApps()
    apps.launch(replicas=3)

    async def read() -> list[int]:
        transport = httpx.ASGITransport(app=app_of(apps))
        async with httpx.AsyncClient(transport=transport, base_url="http://page") as client:
            paths = [path_of(OURS, route) for route in ("live", "stats")] * 20
            answers = [*await asyncio.gather(*map(client.get, paths))]
            answers += await asyncio.gather(*map(client.get, paths))
            assert ["rows", *["usage"] * 3] == apps.engine.calls
            apps.clock.advance(2)
            answers += await asyncio.gather(*map(client.get, paths))
            assert ["rows", *["usage"] * 3] * 2 == apps.engine.calls
        return [answer.status_code for answer in answers]

    assert {200} == set(asyncio.run(read()))


def test_a_daemon_that_hangs() -> None:
    """A reader gets 504; meanwhile the server answers others, and the daemon has few calls."""
    hanging, end = threading.Event(), threading.Event()

    def hang(verb: str, _: str) -> None:
        if verb == "rows":
            hanging.set()
            end.wait()

    apps = LiveApps(answer_s=0.5)
    apps.launch()
    apps.before = hang

    async def read() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app=app_of(apps))
        async with httpx.AsyncClient(transport=transport, base_url="http://page") as client:
            log = path_of(OURS, "logs", role="trainer", replica=0)
            paths = [path_of(OURS, "live"), path_of(OURS, "stats"), log] * 10
            asked = [asyncio.create_task(client.get(path)) for path in paths]
            await asyncio.to_thread(hanging.wait)
            # The daemon hangs until the end of the test, however long this takes.
            assert 200 == (await client.get("/static/view.js")).status_code
            return [*await asyncio.gather(*asked)]

    try:
        answers = asyncio.run(read())
    finally:
        end.set()

    assert {(504, "the Docker daemon of this app does not answer in time")} == {
        (answer.status_code, answer.json()["detail"]) for answer in answers
    }
    assert ["rows"] == apps.engine.calls


class _Hang:
    """Holds the first lists that a daemon is asked for, until it is ended."""

    def __init__(self, most: int) -> None:
        self._held = threading.Semaphore(0)
        self._most = iter(range(most))
        self._end = threading.Event()

    def __call__(self, verb: str, _: str) -> None:
        if verb == "rows" and next(self._most, None) is not None:
            self._held.release()
            self._end.wait()

    async def wait(self, number: int) -> None:
        """Wait until this many lists are held."""
        for _ in range(number):
            await asyncio.to_thread(self._held.acquire)

    def end(self) -> None:
        """Let all go on."""
        self._end.set()


def test_threads_that_all_hang_are_said_at_once() -> None:
    """A reader does not wait for threads that hang, and is answered when one is free again."""
    hang, apps = _Hang(4), LiveApps()
    apps.launch()
    apps.before = hang
    others = [replace(OURS, run_id=str(number)) for number in range(4)]

    async def read() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app=app_of(apps))
        async with httpx.AsyncClient(transport=transport, base_url="http://page") as client:
            asked = [asyncio.create_task(client.get(path_of(one, "live"))) for one in others]
            await hang.wait(4)
            apps.clock.advance(STUCK_S + 1)
            refused = await client.get(path_of(OURS, "live"))
            hang.end()
            await asyncio.gather(*asked)
            apps.clock.advance(STUCK_S + 1)
            return [refused, await client.get(path_of(OURS, "live"))]

    try:
        refused, answered = asyncio.run(read())
    finally:
        hang.end()

    assert (503, 200) == (refused.status_code, answered.status_code)
    assert refused.json()["detail"].startswith("all threads that read from the Docker daemon")


def test_a_thread_that_hangs_is_not_waited_for_again() -> None:
    """The app whose question hangs is asked for again, by another thread."""
    hang, apps = _Hang(1), LiveApps()
    apps.launch()
    apps.before = hang

    async def read() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app=app_of(apps))
        async with httpx.AsyncClient(transport=transport, base_url="http://page") as client:
            first = asyncio.create_task(client.get(path_of(OURS, "live")))
            await hang.wait(1)
            apps.clock.advance(STUCK_S + 1)
            second = await client.get(path_of(OURS, "live"))
            hang.end()
            return [await first, second]

    try:
        answers = asyncio.run(read())
    finally:
        hang.end()

    assert [200, 200] == [answer.status_code for answer in answers]
    assert ["rows", "rows"] == apps.engine.calls


def test_a_daemon_that_is_down(client: TestClient, apps: LiveApps) -> None:
    """The answer is an error that does not name the daemon; the next look may succeed."""
    apps.engine.down = True
    first = client.get(path_of(OURS, "live"))
    apps.engine.down = False
    apps.clock.advance(2)

    second = client.get(path_of(OURS, "live"))

    assert (504, 200) == (first.status_code, second.status_code)
    assert "secret-host" not in first.text


def test_an_error_of_the_daemon_stays_in_the_log(
    client: TestClient, apps: LiveApps, caplog: pytest.LogCaptureFixture
) -> None:
    """Readers of a DAG learn nothing of the daemon."""
    apps.engine.fail_next("rows", EngineError("secret-host is full"))

    answer = client.get(path_of(OURS, "live"))

    assert 502 == answer.status_code
    assert "secret-host" not in answer.text
    assert "secret-host is full" in caplog.text


def test_a_reading_that_fails_costs_one_replica(client: TestClient, apps: LiveApps) -> None:
    """The other replicas still have their counters."""
    apps.engine.fail_next("usage", EngineError("no"), on="trainer/0")

    found = client.get(path_of(OURS, "stats")).json()

    assert [1] == [one["id"] for one in found["replicas"]]


def test_without_the_setting_no_route_has_data() -> None:
    """The page asks one route without data, and hides what needs Docker."""
    client = TestClient(create_app())

    assert {"docker_access": False} == client.get("/features").json()
    for route in ("live", "stats", "logs"):
        assert 404 == client.get(path_of(OURS, route, role="trainer", replica=0)).status_code


def test_with_the_setting_the_page_learns_of_it(client: TestClient) -> None:
    """The same route says so."""
    assert {"docker_access": True} == client.get("/features").json()


def test_each_route_with_data_asks_for_a_right() -> None:
    """Of all routes, two are open and have no data; all only read, so they need no CSRF token."""
    app = create_app(LiveApps().live)
    rights = {}
    for route in _all_routes(app):
        assert getattr(route, "methods", None) in ({"GET"}, {"GET", "HEAD"}, None)
        dependant = getattr(route, "dependant", None)
        calls = [one.call for one in dependant.dependencies] if dependant else []
        rights[route.path.rpartition("/")[2]] = calls[:1]

    assert {
        "static": [],
        "features": [],
        "live": [auth.may_read_task],
        "stats": [auth.may_read_task],
        "logs": [auth.may_read_log],
    } == rights


def test_the_dag_is_one_part_of_the_path() -> None:
    """So no other DAG than the one that Airflow checks can be read."""
    app = create_app(LiveApps().live)
    paths = [route.path for route in _all_routes(app) if "/api/" in route.path]

    assert 3 == len(paths)
    assert all(re.match(r"/api/v1/\{dag_id\}/\{run_id:path\}/\{task_id\}/", path) for path in paths)


def _all_routes(app: FastAPI) -> list[Any]:
    return [*app.routes]


@pytest.mark.parametrize(
    ("value", "is_on"), [("True", True), ("False", False), (None, False), ("maybe", False)]
)
def test_the_setting(monkeypatch: pytest.MonkeyPatch, value: str | None, *, is_on: bool) -> None:
    """Docker is read only if the setting is true; a value that is neither is logged."""
    if value is not None:
        monkeypatch.setenv("AIRFLOW__TORCHX__UI_DOCKER_ACCESS", value)

    client = TestClient(Page())

    assert {"docker_access": is_on} == client.get("/features").json()
    assert (401 if is_on else 404) == client.get(path_of(OURS, "live")).status_code
