"""Tests of prune on a real daemon of the tests' own, because it looks at all containers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import pytest

from airflow_torchx.core.engine import labels
from airflow_torchx.core.plan.identity import TaskAttempt
from airflow_torchx.core.task.prune import GONE, Policy, TaskKey
from airflow_torchx.docker_engine import DockerEngine
from airflow_torchx.runtime.prune import Pruner
from airflow_torchx.schedulers.docker_scheduler import DockerScheduler
from airflow_torchx.specs import AppDef, Role
from tests.airflow.processes import until
from tests.conftest import BUSYBOX
from tests.integration.second_daemon import running_with_gpus

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from tests.integration.second_daemon import SecondDaemon

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]

FOREVER: Final[str] = "trap 'exit 143' TERM; sleep 600 & wait"
ENDS: Final[str] = "true"
#: State of the task, `on_finish`, and what the replica runs; a state of "" is outside Airflow.
ORPHANS: Final = (
    ("success", "delete", FOREVER),
    ("failed", "delete", FOREVER),
    ("skipped", "delete", ENDS),
    ("upstream_failed", "delete", ENDS),
    ("removed", "keep_failed", ENDS),
)
LIVE: Final = (
    ("running", "delete", FOREVER),
    ("deferred", "delete", ENDS),
    ("up_for_retry", "keep_failed", FOREVER),
    ("queued", "delete", ENDS),
    (None, "delete", FOREVER),
    ("success", "keep", FOREVER),
    ("success", "detached", FOREVER),
    ("failed", "keep", ENDS),
    (GONE, "delete", FOREVER),
    ("", "", ENDS),
)
COUNT: Final = 50


@pytest.fixture(scope="module")
def daemon() -> Iterator[SecondDaemon]:
    """Run a daemon that has no containers of other tests."""
    with running_with_gpus(()) as second:
        yield second


@pytest.fixture
def engine(daemon: SecondDaemon) -> Iterator[DockerEngine]:
    """Connect to the daemon; remove all its containers at the end."""
    with DockerEngine.connect(daemon.endpoint) as connected:
        yield connected
        for row in connected.rows({}):
            connected.remove(row.id)


class Apps:
    """Launches apps of one replica, and answers as Airflow does."""

    def __init__(self, engine: DockerEngine) -> None:
        self.states: dict[TaskKey, str | None] = {}
        self._scheduler = DockerScheduler("test", engine)

    def ask(self, tasks: Collection[TaskKey]) -> dict[TaskKey, str | None]:
        """Return the states of tasks."""
        return {task: self.states[task] for task in tasks}

    def launch(self, name: str, state: str | None, on_finish: str, script: str) -> str:
        """Launch an app, and return its id."""
        app_id, own = f"{name}-x", {}
        if state != "":
            self.states[TaskKey(name, "run", "task", -1)] = state
            attempt = TaskAttempt(
                dag_id=name, run_id="run", task_id="task", map_index=-1, max_tries=1, try_number=1
            )
            app_id, own = attempt.app_id, {**attempt.labels, labels.ON_FINISH: on_finish}
        role = Role("r", BUSYBOX, entrypoint="sh", args=["-c", script])
        context = self._scheduler.new_context(app_id, labels=own)
        self._scheduler.launch(self._scheduler.prepare(AppDef(name, [role]), context=context))
        return app_id


def states(engine: DockerEngine) -> dict[str, tuple[str, str]]:
    """Return name and state of all containers by id."""
    return {row.id: (row.name, row.state) for row in engine.rows({})}


def test_fifty_orphans_beside_fifty_live_apps(engine: DockerEngine) -> None:
    """Prune removes every app without an owner, and leaves every other container as it was.

    Five apps get an owner while prune is at work, as a user clears their tasks.
    """
    apps = Apps(engine)

    def launch(number: int) -> str:
        kinds = ORPHANS if number < COUNT else LIVE
        return apps.launch(f"app{number}", *kinds[number % len(kinds)])

    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(launch, range(2 * COUNT)))
    ended = sum(kind[2] == ENDS for kind in (*ORPHANS * 10, *LIVE * 5))
    until(
        lambda: ended == sum(state == "exited" for _, state in states(engine).values()),
        "the end of short apps",
    )
    pruner = Pruner(engine, apps.ask, Policy())
    survey = pruner.survey()
    cleared = set(ids[:5])
    for number in range(5):
        apps.states[TaskKey(f"app{number}", "run", "task", -1)] = None
    live = {*ids[COUNT:], *cleared}
    before = {
        row.id: (row.name, row.state)
        for row in engine.rows({})
        if row.labels[labels.APP_ID] in live
    }

    pruned = pruner.remove(survey.found)

    assert set(ids[:COUNT]) == {one.name for one in survey.found}
    assert cleared == {one.name for one in pruned.spared}
    assert [] == pruned.failed
    assert COUNT - 5 == len(pruned.done)
    assert before == states(engine)
    assert COUNT + 5 == len(before)


def test_the_command_without_airflow(daemon: SecondDaemon, engine: DockerEngine) -> None:
    """Without Airflow, the command leaves apps of tasks alone, and removes old ended apps."""
    apps = Apps(engine)
    of_task = apps.launch("of-task", "failed", "delete", ENDS)
    runs = apps.launch("runs", "", "", FOREVER)
    old = apps.launch("old", "", "", ENDS)
    until(
        lambda: [row for row in engine.rows({labels.APP_ID: old}) if row.state == "exited"], "end"
    )

    answer = subprocess.run(
        [sys.executable, "-m", "airflow_torchx.cli", "prune", "--older-than", "0s", "--json"],
        env=os.environ | {"DOCKER_HOST": str(daemon.endpoint.url)},
        capture_output=True,
        text=True,
        check=True,
    )

    assert [old] == [one["name"] for one in json.loads(answer.stdout)["removed"]]
    assert {of_task, runs} == {row.labels[labels.APP_ID] for row in engine.rows({})}
