"""Tests of prune on a real daemon of the tests' own, because it looks at all containers."""

from __future__ import annotations

import json
import os
import random
import secrets
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from airflow_torchx.core.engine import labels
from airflow_torchx.core.plan.identity import TaskAttempt
from airflow_torchx.core.task.prune import GONE, Policy, TaskKey
from airflow_torchx.docker_engine import DockerEngine
from airflow_torchx.runtime.prune import Pruner
from airflow_torchx.schedulers.docker_scheduler import DockerScheduler
from airflow_torchx.specs import AppDef, Role
from tests.airflow.gate import Gate, Hold, Kind, Side
from tests.airflow.processes import until
from tests.conftest import BUSYBOX
from tests.integration import prune_process
from tests.integration.second_daemon import running_with_gpus

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

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
    """Launches apps, and answers as Airflow does."""

    def __init__(self, engine: DockerEngine) -> None:
        self.states: dict[TaskKey, str | None] = {}
        self._scheduler = DockerScheduler("test", engine)

    def ask(self, tasks: Collection[TaskKey]) -> dict[TaskKey, str | None]:
        """Return the states of tasks."""
        return {task: self.states[task] for task in tasks}

    def launch(
        self,
        name: str,
        kind: tuple[str | None, str, str],
        *,
        replicas: int = 1,
        **options: object,
    ) -> str:
        """Launch an app, and return its id."""
        (state, on_finish, script), app_id, own = kind, f"{name}-x", {}
        if state != "":
            self.states[TaskKey(name, "run", "task", -1)] = state
            attempt = TaskAttempt(
                dag_id=name, run_id="run", task_id="task", map_index=-1, max_tries=1, try_number=1
            )
            app_id, own = attempt.app_id, {**attempt.labels, labels.ON_FINISH: on_finish}
        role = Role("r", BUSYBOX, entrypoint="sh", args=["-c", script], num_replicas=replicas)
        context = self._scheduler.new_context(app_id, labels=own)
        info = self._scheduler.prepare(AppDef(name, [role]), options, context)
        self._scheduler.launch(info)
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
        return apps.launch(f"app{number}", kinds[number % len(kinds)])

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


#: Apps whose process is stopped, not removed, have no owner either; then they have ended.
KEPT: Final = ("failed", "keep_failed", FOREVER)
#: Where a prune is killed: a request before the daemon gets it, or after it has done it.
POINTS: Final = [
    (kind, side) for kind in (Kind.LIST, Kind.RENAME, Kind.STOP, Kind.REMOVE) for side in Side
]


class Scene:
    """Apps with and without an owner, and processes that prune their daemon.

    Args:
        engine: the daemon.
        folder: for the states of tasks, and a gate.
        orphans: number of apps without an owner, half of them of two replicas.
        live: number of apps with one.
    """

    def __init__(self, engine: DockerEngine, folder: Path, orphans: int, live: int) -> None:
        self._engine = engine
        self._folder = folder
        apps = Apps(engine)

        def kind(number: int) -> tuple[str | None, str, str]:
            kinds = (KEPT, *ORPHANS) if number < orphans else LIVE
            return kinds[number % len(kinds)]

        def launch(number: int) -> str:
            replicas = 1 + number % 2
            return apps.launch(f"app{number}", kind(number), replicas=replicas, stop_grace_s=1)

        with ThreadPoolExecutor(8) as pool:
            ids = list(pool.map(launch, range(orphans + live)))
        states = {key.dag_id: state for key, state in apps.states.items()}
        folder.joinpath("states").write_text(json.dumps(states))
        self._kept = {ids[number] for number in range(0, orphans, len(ORPHANS) + 1)}
        self._live = set(ids[orphans:])
        short = {
            ids[number] for number in range(orphans, orphans + live) if kind(number)[2] == ENDS
        }
        until(lambda: {"exited"} == {state for _, state in self._of(short).values()}, "ends")
        self._before = self._of(self._live)

    def _of(self, app_ids: Collection[str]) -> dict[str, tuple[str, str]]:
        return {
            row.id: (row.name, row.state)
            for row in self._engine.rows({})
            if row.labels[labels.APP_ID] in app_ids
        }

    def start(self, url: str = "") -> subprocess.Popen[str]:
        """Start to prune."""
        url = url or str(self._engine.info().url)
        return subprocess.Popen(
            [sys.executable, "-m", prune_process.__name__, url, str(self._folder / "states")],
            stdout=subprocess.PIPE,
            text=True,
        )

    def kill_at(self, kind: Kind, side: Side, nth: int) -> bool:
        """Kill a prune at one of its requests; return whether it came to it."""
        daemon = str(self._engine.info().url).removeprefix("unix://")
        with Gate(self._folder / "gate", daemon) as gate:
            hold = gate.hold(Hold(kind, nth=nth, side=side))
            with self.start(f"unix://{gate.path}") as process:
                until(lambda: hold.has_caught or process.poll() is not None, "a request")
                process.kill()
        return hold.has_caught

    def assert_pruned(self) -> None:
        """Check that live apps are as they were, and that no orphan is left."""
        assert self._before == self._of(self._live)
        rest = [row for row in self._engine.rows({}) if row.id not in self._before]
        assert self._kept == {row.labels[labels.APP_ID] for row in rest}
        assert {"exited"} == {row.state for row in rest}
        assert all(row.name.endswith(".cancelled") for row in rest)


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder whose path is short enough for a socket."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@pytest.fixture(scope="module")
def seed(request: pytest.FixtureRequest) -> tuple[str, int, int]:
    """Return the seed of all kills, their number, and that of orphans: 50 in a campaign."""
    campaign = request.config.getoption("campaign")
    return (campaign, 40, 50) if campaign else (secrets.token_hex(4), 1, 6)


def test_prunes_that_are_killed(
    engine: DockerEngine,
    folder: Path,
    seed: tuple[str, int, int],
    record_property: Callable[[str, object], None],
) -> None:
    """Wherever prunes are killed, they touch no live app, and two later ones share the rest.

    Neither of these fails because of what the other one removes.
    """
    word, kills, orphans = seed
    draw = random.Random(word)  # noqa: S311 - a seed of a test
    scene = Scene(engine, folder, orphans, orphans // 2)

    drawn = [(*draw.choice(POINTS), draw.choice([1, 1, 2, 3])) for _ in range(kills)]
    came = sum(scene.kill_at(*point) for point in drawn)
    processes = [scene.start(), scene.start()]
    done = [json.loads(process.communicate()[0]) for process in processes]

    assert [0, 0] == [process.returncode for process in processes]
    assert [[], []] == [one["failed"] for one in done], (word, drawn)
    scene.assert_pruned()
    record_property("outcome", f"{came} kills of {kills}, {orphans} orphans, seed {word}")


def test_the_command_without_airflow(daemon: SecondDaemon, engine: DockerEngine) -> None:
    """Without Airflow, the command leaves apps of tasks alone, and removes old ended apps."""
    apps = Apps(engine)
    of_task = apps.launch("of-task", ("failed", "delete", ENDS))
    runs = apps.launch("runs", ("", "", FOREVER))
    old = apps.launch("old", ("", "", ENDS))
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
