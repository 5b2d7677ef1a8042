"""Whatever is killed, and wherever: the app runs once for each attempt, and nothing is left."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.airflow.campaign import play_all
from tests.airflow.cases import MARKS, Blow, Case, Mode, Outcome, Point
from tests.airflow.chaos_run import REPLICAS, Stage
from tests.airflow.postgres import postgres
from tests.airflow.stack import Stack
from tests.conftest import require_docker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Seen = Callable[[Case], Outcome]

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1800), pytest.mark.xdist_group("kills")]

LAUNCHING: Final = (
    Point.NOTHING,
    Point.FIRST_CREATED,
    Point.HALF_CREATED,
    Point.ALL_CREATED,
    Point.HALF_STARTED,
)
LAUNCHED: Final = (
    Point.ALL_STARTED,
    Point.WATCHED,
    Point.ENDED,
    Point.COLLECTING,
    Point.COLLECTED,
    Point.REMOVED,
)
ACTED: Final = (Point.ALL_CREATED, Point.ALL_STARTED, Point.WATCHED, Point.SUCCEEDED)
#: Where a task has a process in this mode.
HELD: Final = [
    (mode, point)
    for mode in Mode
    for point in (*LAUNCHING, *LAUNCHED)
    if (mode, point) != (Mode.DEFERRABLE, Point.WATCHED)
]


def at(blows: Sequence[Blow], places: Sequence[tuple[Mode, Point]]) -> pytest.MarkDecorator:
    """Return what has a test see these blows at these places."""
    cases = [Case(mode, point, blow) for blow in blows for mode, point in places]
    return pytest.mark.parametrize("case", cases, ids=str)


SETTINGS: Final = {
    "AIRFLOW__CORE__PARALLELISM": "24",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_POOL_SIZE": "30",
    "AIRFLOW__SCHEDULER__JOB_HEARTBEAT_SEC": "1",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "5",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "10",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
    # Every second, 20 tasks would keep the API server busy.
    "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "2",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "6",
}


@pytest.fixture(scope="module")
def seen(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """Play the cases of all tests that are to run, and return what tells how one came out."""
    cases: list[Case] = [
        item.callspec.params["case"]  # type: ignore[misc]
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.module is request.module
    ]
    require_docker().close()
    home = tmp_path_factory.mktemp("chaos")
    # The path of a socket must be short.
    with tempfile.TemporaryDirectory(prefix="torchx-gates-") as gates, postgres() as database:
        sockets = [Path(gates) / f"gate_{number}" for number in range(len(cases))]
        connections = {
            f"AIRFLOW_CONN_{path.name.upper()}": json.dumps(
                {
                    "conn_type": "torchx_docker",
                    "host": f"unix://{path}",
                    # Longer than anything is held.
                    "extra": {"request_timeout_s": 600},
                }
            )
            for path in sockets
        }
        stack = Stack(home, database, settings=SETTINGS | connections)
        stack.run("db", "migrate")
        with stack, Stage(stack, sockets, home) as stage:
            played = play_all(stage, cases)
    return lambda case: played[case].result()


@at([Blow.TASK], [(mode, point) for mode, point in HELD if point in LAUNCHING])
def test_task_killed_while_it_launches(case: Case, seen: Seen) -> None:
    """What was launched by half is removed, and the retry launches all of it."""
    half = (1,) if case.point is Point.HALF_STARTED else ()

    assert Outcome(("failed", "success"), (*half, REPLICAS)) == seen(case)


@at([Blow.TASK], [(mode, point) for mode, point in HELD if point in LAUNCHED])
def test_task_killed_after_its_launch(case: Case, seen: Seen) -> None:
    """The retry goes on with what runs, has ended or was collected; nothing runs twice."""
    assert Outcome(("failed", "success"), (REPLICAS,)) == seen(case)


@at([Blow.SUPERVISOR], HELD)
def test_supervisor_killed(case: Case, seen: Seen) -> None:
    """The orphaned process leaves; the retry ends up with one whole app."""
    outcome = seen(case)

    assert () == outcome.wrong
    assert ("failed", "success") == outcome.tries
    assert REPLICAS == outcome.starts[-1]
    assert case.point in LAUNCHING or (REPLICAS,) == outcome.starts


@at([Blow.TRIGGERER], [(Mode.DEFERRABLE, point) for point in (*LAUNCHING, *LAUNCHED)])
def test_triggerer_killed(case: Case, seen: Seen) -> None:
    """The task goes on as if nothing had been; an end that no triggerer saw is seen by the next."""
    assert Outcome(("success",), (REPLICAS,)) == seen(case)


@at([Blow.PAUSE], [(Mode.DEFERRABLE, Point.WATCHED)])
def test_triggerer_paused(case: Case, seen: Seen) -> None:
    """An app whose trigger has moved on is left alone by the triggerer that comes back for it."""
    assert Outcome(("success",), (REPLICAS,)) == seen(case)


@at([Blow.SCHEDULER], [(mode, point) for mode in Mode for point in (*LAUNCHING, *LAUNCHED)])
def test_scheduler_killed(case: Case, seen: Seen) -> None:
    """Whatever the next scheduler takes for lost, there is one whole app in the end."""
    outcome = seen(case)

    assert () == outcome.wrong
    assert "success" == outcome.tries[-1]
    assert REPLICAS == outcome.starts[-1]


@at(MARKS, [(mode, point) for mode in Mode for point in ACTED if point is not Point.SUCCEEDED])
def test_marked(case: Case, seen: Seen) -> None:
    """An app whose task a user marks is stopped and removed."""
    outcome = seen(case)

    assert () == outcome.wrong
    assert (case.blow.value,) == outcome.tries
    assert case.point is Point.ALL_CREATED or (REPLICAS,) == outcome.starts


@at([Blow.FAIL], [(mode, Point.SUCCEEDED) for mode in Mode])
def test_marked_failed_when_it_has_succeeded(case: Case, seen: Seen) -> None:
    """Nothing happens any more."""
    assert Outcome(("failed",), (REPLICAS,)) == seen(case)


@at([Blow.CLEAR], [(mode, point) for mode in Mode for point in ACTED])
def test_cleared(case: Case, seen: Seen) -> None:
    """An app whose task a user clears has ended before the next one starts."""
    outcome = seen(case)

    assert () == outcome.wrong
    assert "success" == outcome.tries[-1]
    assert REPLICAS == outcome.starts[-1]
    assert case.point is Point.ALL_CREATED or (REPLICAS, REPLICAS) == outcome.starts
