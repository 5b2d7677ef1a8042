"""A real Airflow with a database of its own, under which apps run on a real Docker Engine.

Airflow reads its configuration when it is imported, so it is set here, before any test imports it.
"""

from __future__ import annotations

import atexit
import os
import shutil
import sqlite3
import sys
import tempfile
import warnings
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from airflow_torchx.core.engine import labels
from tests.ui.browser import browser, screen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_torchx.docker_engine import DockerEngine
    from tests.airflow.gate import Gate
    from tests.airflow.killable import KillableAirflow
    from tests.airflow.one_task import OneTask
    from tests.airflow.remains import Remains
    from tests.airflow.stack import Stack, Task

__all__ = ["browser", "screen"]

HOME: Final = Path(tempfile.mkdtemp(prefix="airflow-torchx-tests-"))
DAGS: Final = HOME / "dags"
EMPTY_DATABASE: Final = HOME / "empty.db"


def _set_up_home() -> None:
    if "airflow" in sys.modules:
        what = "Airflow was imported before tests/airflow/conftest.py could point it to a new home."
        raise RuntimeError(what)
    atexit.register(shutil.rmtree, HOME, ignore_errors=True)
    DAGS.mkdir()
    # Neither the user's Airflow nor anything that is set for it.
    for name in [name for name in os.environ if name.startswith("AIRFLOW__")]:
        del os.environ[name]
    os.environ |= {
        "AIRFLOW_HOME": str(HOME),
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
    }


_set_up_home()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the kills that are not in the selection, unless all are to be played."""
    from tests.airflow.cases import SELECTION, Case
    from tests.airflow.gpu_run import GpuCase

    def is_left_out(item: pytest.Item) -> bool:
        case = item.callspec.params.get("case") if hasattr(item, "callspec") else None
        if isinstance(case, GpuCase):
            return not case.is_selected
        return isinstance(case, Case) and case not in SELECTION

    if not config.getoption("campaign"):
        left_out = [item for item in items if is_left_out(item)]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="session")
def airflow_home() -> Path:
    """Return the home of an Airflow whose database is ready."""
    with warnings.catch_warnings():
        # What Airflow and its own dependencies say of each other is not ours to mend.
        warnings.simplefilter("ignore")
        from airflow.api_fastapi.execution_api import app
        from airflow.utils.db import initdb

        assert app
        initdb()
    # Not a copy of the file: what is new may be in the journal next to it.
    with closing(sqlite3.connect(HOME / "airflow.db")) as database:
        database.execute("VACUUM INTO ?", (str(EMPTY_DATABASE),))
    return HOME


@pytest.fixture
def one_task(
    request: pytest.FixtureRequest, airflow_home: Path, docker_engine: DockerEngine, app_id: str
) -> Iterator[OneTask]:
    """Return a DAG of one task, to be run by `dag.test()` in this process.

    With ``@both_modes`` of tests.airflow.apps, once for each way to wait.
    """
    from tests.airflow.one_task import OneTask

    assert airflow_home == HOME
    deferrable = getattr(request, "param", False)
    with OneTask(DAGS, docker_engine, app_id, deferrable=deferrable) as task:
        yield task


@pytest.fixture(scope="session")
def remains() -> Iterator[Remains]:
    """Return what sees the logs of what the whole Airflow removes."""
    from tests.airflow.remains import Remains
    from tests.conftest import require_docker

    with require_docker() as engine:
        yield Remains(engine)


class _WholeAirflow:
    """Is started when a test first needs it; ``gate`` is before its daemon then."""

    gate: Gate

    def __init__(self, remains: Remains) -> None:
        self._remains = remains
        self._held = ExitStack()
        self._stack: Stack | None = None

    def started(self) -> Stack:
        """Return it, and start it if it does not run."""
        from tests.airflow.gate import Gate, daemon_socket
        from tests.airflow.stack import Stack
        from tests.integration.uv_project import BASE

        if self._stack is None:
            home = Path(tempfile.mkdtemp(prefix="stack-", dir=HOME))
            shutil.copy(EMPTY_DATABASE, home / "airflow.db")
            gate = Gate(home / "gate", daemon_socket(), self._remains.look)
            self.gate = self._held.enter_context(gate)
            settings = {"DOCKER_HOST": f"unix://{gate.path}", "AIRFLOW_TORCHX_BASE_IMAGE": BASE}
            # SQLite knows one writer. Python gives up its turn after 5 s, and Airflow answers 500
            # then; but its API server can wait for itself, and a task gives up after 30 s.
            database = f"sqlite:///{home}/airflow.db?timeout=15"
            self._stack = self._held.enter_context(Stack(home, database, settings=settings))
        return self._stack

    def end(self) -> None:
        """End it; it may be started again."""
        self._stack = None
        self._held.close()


@pytest.fixture(scope="session")
def whole_airflow(airflow_home: Path, remains: Remains) -> Iterator[_WholeAirflow]:
    """Return what starts a whole Airflow, and see it end."""
    assert airflow_home == HOME
    whole = _WholeAirflow(remains)
    yield whole
    whole.end()


@pytest.fixture
def stack(request: pytest.FixtureRequest, whole_airflow: _WholeAirflow) -> Iterator[Stack]:
    """Return a whole Airflow of separate processes on a database file, the same for all tests."""
    started = whole_airflow.started()
    started.assert_runs()
    yield started
    # Idle, it takes a fifth of a core from the tests that need none.
    *_, last = (item for item in request.session.items if _needs("stack", item))
    if request.node is last:
        whole_airflow.end()


@pytest.fixture(scope="session")
def killable_airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KillableAirflow]:
    """Return what starts a whole Airflow to kill, and see it end; tests use `killable`, too."""
    from tests.airflow.cases import CASES
    from tests.airflow.killable import KillableAirflow

    airflow = KillableAirflow(tmp_path_factory.mktemp("killable"), len(CASES))
    yield airflow
    airflow.end()


@pytest.fixture
def killable(
    request: pytest.FixtureRequest, killable_airflow: KillableAirflow
) -> Iterator[KillableAirflow]:
    """Return the Airflow to kill, and end it after the last test of it."""
    yield killable_airflow
    *_, last = (item for item in request.session.items if _needs("killable", item))
    if request.node is last:
        killable_airflow.end()


@pytest.fixture
def gate(stack: Stack, whole_airflow: _WholeAirflow) -> Iterator[Gate]:
    """Return what is between the whole Airflow and its daemon; it lets all pass in the end."""
    assert stack is whole_airflow.started()
    yield whole_airflow.gate
    whole_airflow.gate.release_all()


def _needs(fixture: str, item: pytest.Item) -> bool:
    return isinstance(item, pytest.Function) and fixture in item.fixturenames


@pytest.fixture
def states(docker_engine: DockerEngine, app_id: str) -> Callable[[], list[str]]:
    """Return what tells the states of the containers that the launched DAG run has."""
    return lambda: [row.state for row in docker_engine.rows({labels.RUN_ID: app_id})]


@pytest.fixture
def launch(
    stack: Stack, docker_engine: DockerEngine, app_id: str
) -> Iterator[Callable[[str], Task]]:
    """Return what runs one of the DAGs in dags/ once in the whole Airflow."""
    yield lambda dag_id: stack.trigger(dag_id, app_id)

    assert [] == stack.failed_tries(app_id)
    for row in docker_engine.rows({labels.RUN_ID: app_id}):
        docker_engine.remove(row.id)
