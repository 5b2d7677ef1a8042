"""Whatever is killed, and wherever: the app runs once for each attempt, and nothing is left."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

import pytest

from tests.airflow.campaign import Played, play_all
from tests.airflow.cases import (
    CASES,
    LAUNCHED,
    LAUNCHING,
    MARKS,
    RESTARTING,
    Blow,
    Case,
    Outcome,
    Point,
)
from tests.airflow.chaos_run import REPLICAS, RESTARTS, Stage
from tests.conftest import require_docker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.airflow.killable import KillableAirflow

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1800), pytest.mark.xdist_group("kills")]


#: Where no restart is due.
ELSEWHERE: Final = tuple(point for point in Point if point not in RESTARTING)
#: All rounds that an app has, of which each one fails.
ROUNDS: Final = (REPLICAS,) * (1 + RESTARTS)


def of(*blows: Blow, at: Sequence[Point] = ELSEWHERE) -> pytest.MarkDecorator:
    """Return what has a test see the valid cases of these blows at these points."""
    cases = [case for case in CASES if case.blow in blows and case.point in at]
    return pytest.mark.parametrize("case", cases, ids=str)


@pytest.fixture(scope="module")
def played(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    killable_airflow: KillableAirflow,
) -> Played:
    """Play the cases of all tests that are to run, in the order of the tests or of a seed."""
    cases: list[Case] = [
        item.callspec.params["case"]  # type: ignore[misc]
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.module is request.module
    ]
    if seed := request.config.getoption("campaign"):
        random.Random(seed).shuffle(cases)  # noqa: S311 - an order, no secret
    require_docker().close()
    stack = killable_airflow.started()
    sockets = killable_airflow.sockets[: len(cases)]
    with Stage(stack, sockets, tmp_path_factory.mktemp("chaos")) as stage:
        played = play_all(stage, cases)
        assert stage.prune_watch.looks
        return played


@pytest.fixture
def seen(
    case: Case,
    played: Played,
    killable: KillableAirflow,
    record_property: Callable[[str, object], None],
) -> Outcome:
    """Return how the case of a test came out."""
    assert killable
    outcome: Outcome = played[case].result()
    record_property("outcome", str(outcome))
    return outcome


def check(seen: Outcome, tries: tuple[str, ...], starts: tuple[int, ...]) -> None:
    """Assert that a case came out with these tries and starts, and nothing is wrong."""
    assert Outcome(tries, starts) == seen.without_race(tries), seen.record


@of(Blow.TASK, at=LAUNCHING)
def test_task_killed_while_it_launches(case: Case, seen: Outcome) -> None:
    """The retry removes a launch that was killed half-way, and launches the whole app."""
    half = (1,) if case.point is Point.HALF_STARTED else ()

    check(seen, ("failed", "success"), (*half, REPLICAS))


@of(Blow.TASK, at=LAUNCHED)
def test_task_killed_after_its_launch(seen: Outcome) -> None:
    """The retry goes on with what runs, has ended or was collected; nothing runs twice."""
    check(seen, ("failed", "success"), (REPLICAS,))


@of(Blow.SUPERVISOR)
def test_supervisor_killed(case: Case, seen: Outcome) -> None:
    """The orphaned process leaves, and the retry ends up with one whole app."""
    before = seen.starts[:-1] if case.point in LAUNCHING else ()

    check(seen, ("failed", "success"), (*before, REPLICAS))


@of(Blow.TRIGGERER)
def test_triggerer_killed(seen: Outcome) -> None:
    """The task goes on as if nothing had been; the next triggerer sees an end that none saw."""
    check(seen, ("success",), (REPLICAS,))


@of(Blow.PAUSE)
def test_triggerer_paused(seen: Outcome) -> None:
    """An app whose trigger has moved on is left alone by the triggerer that comes back for it."""
    check(seen, ("success",), (REPLICAS,))


@of(Blow.SCHEDULER)
def test_scheduler_killed(seen: Outcome) -> None:
    """There is one whole app in the end, whatever the next scheduler takes for lost."""
    check(seen, (*seen.tries[:-1], "success"), (*seen.starts[:-1], REPLICAS))


@of(*MARKS, at=(Point.ALL_CREATED,))
def test_marked_while_it_launches(case: Case, seen: Outcome) -> None:
    """A launch whose task a user marks is stopped and removed, whatever was started by then."""
    check(seen, (case.blow.value,), seen.starts)


@of(*MARKS, at=LAUNCHED)
def test_marked(case: Case, seen: Outcome) -> None:
    """An app whose task a user marks is stopped and removed."""
    check(seen, (case.blow.value,), (REPLICAS,))


@of(Blow.FAIL, at=(Point.SUCCEEDED,))
def test_marked_failed_when_it_has_succeeded(seen: Outcome) -> None:
    """A mark changes nothing but the state of a task that has succeeded."""
    check(seen, ("failed",), (REPLICAS,))


@of(Blow.CLEAR)
def test_cleared(case: Case, seen: Outcome) -> None:
    """An app whose task a user clears has ended before the next one starts."""
    before = seen.starts[:-1] if case.point is Point.ALL_CREATED else (REPLICAS,)

    check(seen, (*seen.tries[:-1], "success"), (*before, REPLICAS))


@of(Blow.TASK, at=RESTARTING)
def test_task_killed_while_it_restarts(seen: Outcome) -> None:
    """The retry finishes the round, which counts once; the app fails after its last round."""
    check(seen, ("failed", "failed", "success"), (*ROUNDS, REPLICAS))


@of(Blow.TRIGGERER, Blow.PAUSE, at=RESTARTING)
def test_triggerer_killed_or_paused_while_it_restarts(seen: Outcome) -> None:
    """The next triggerer finishes the round, and the task sees the failure of the last round."""
    check(seen, ("failed", "success"), (*ROUNDS, REPLICAS))


@of(Blow.SUPERVISOR, Blow.SCHEDULER, at=RESTARTING)
def test_supervisor_or_scheduler_killed_while_it_restarts(seen: Outcome) -> None:
    """The app has all its rounds, of which the orphaned process may make the next one."""
    assert "failed" in seen.tries
    check(seen, (*seen.tries[:-1], "success"), (*ROUNDS, REPLICAS))


@of(*MARKS, at=RESTARTING)
def test_marked_during_a_restart(case: Case, seen: Outcome) -> None:
    """Both rounds of an app whose task a user marks are removed."""
    check(seen, (case.blow.value,), (REPLICAS, *seen.starts[1:]))


@of(Blow.CLEAR, at=RESTARTING)
def test_cleared_during_a_restart(seen: Outcome) -> None:
    """An app whose task a user clears restarts at most as often as it may, and then ends."""
    assert len(seen.starts) <= len(ROUNDS) + 1
    check(seen, (*seen.tries[:-1], "success"), (REPLICAS, *seen.starts[1:-1], REPLICAS))
