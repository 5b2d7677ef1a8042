"""What the page reads of a running app, on a real daemon."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from airflow_torchx.core.plan.identity import TaskAttempt
from airflow_torchx.core.plan.job_plan import LaunchContext, plan
from airflow_torchx.core.plan.options import Opts
from airflow_torchx.core.state.live import TaskApp
from airflow_torchx.runtime import launching
from airflow_torchx.specs import AppDef, Role
from airflow_torchx.ui.reading import look_at, read_log, read_usage
from tests.conftest import BUSYBOX

if TYPE_CHECKING:
    from airflow_torchx.docker_engine import DockerEngine

pytestmark = pytest.mark.docker

#: Writes a line, then waits for a file before it writes the next ones.
_PROGRAM = "echo one; until [ -e /go ]; do sleep 0.05; done; echo two; echo three; sleep 600"


@pytest.fixture
def task_app(docker_engine: DockerEngine, app_id: str, network_name: str) -> TaskApp:
    """Return an app of a task with two running replicas."""
    attempt = TaskAttempt(
        dag_id="d", run_id=f"{app_id}/r:+", task_id="t", map_index=-1, max_tries=0, try_number=1
    )
    role = Role("trainer", BUSYBOX, entrypoint="sh", args=["-c", _PROGRAM], num_replicas=2)
    context = LaunchContext(
        app_id=app_id, handle="", launch_id=app_id, environ={}, labels=attempt.labels
    )
    options = Opts.parse({"network": network_name})
    launching.launch(docker_engine, plan(AppDef("app", [role]), options, context))
    return TaskApp(
        dag_id="d", run_id=attempt.run_id, task_id="t", map_index=-1, app_id=app_id, handle=""
    )


@pytest.mark.timeout(120)
def test_an_app_is_read_by_the_labels_of_its_task(
    docker_engine: DockerEngine, task_app: TaskApp
) -> None:
    """State, usage and the log, in parts, come from the containers of the task alone."""
    app = look_at(docker_engine, task_app, 1.8e9)
    with ThreadPoolExecutor(2) as threads:
        counters = read_usage(docker_engine, app, threads, timeout_s=60)

    assert app.snapshot is not None
    assert {"RUNNING": 2} == app.snapshot["roles"][0]["counts"]
    assert [0, 1] == [one["id"] for one in counters]
    assert all(one["cpu_ns"] > 0 and one["mem"] > 0 for one in counters)
    container = app.container("trainer", 1)
    assert container is not None
    part = read_log(docker_engine, container, tail=10, after=None)
    while not part.lines:
        part = read_log(docker_engine, container, tail=10, after=None)
    assert ["one"] == part.lines
    docker_engine.execute(container, ["touch", "/go"], timeout_s=60, max_bytes=100)
    lines: list[str] = []
    while "three" not in lines:
        part = read_log(docker_engine, container, tail=10, after=part.cursor)
        lines += part.lines
    assert ["two", "three"] == lines
    for other in ({"dag_id": "e"}, {"run_id": "r"}, {"task_id": "u"}, {"map_index": 0}):
        assert look_at(docker_engine, replace(task_app, **other), 1.8e9).snapshot is None
