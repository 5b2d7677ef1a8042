"""The selection of kills that `make test` plays, and what Airflow's race changes in an outcome."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.airflow.cases import (
    CASES,
    SELECTION,
    Blow,
    Case,
    Mode,
    Outcome,
    Point,
    covering,
    pairs_of,
)

ROOT: Final = Path(__file__).parents[2]


def test_the_campaign_has_every_valid_case() -> None:
    """The campaign has 198 cases, none of them twice."""
    assert 198 == len(CASES) == len(set(CASES))


def test_the_selection_covers_every_pair() -> None:
    """About 30 cases cover each pair of mode, phase, blow and prune, and each point."""
    assert pairs_of(CASES) == pairs_of(SELECTION)
    assert set(Point) == {case.point for case in SELECTION}
    assert len(SELECTION) == len(set(SELECTION)) <= 32


def test_the_selection_is_the_same_in_every_process() -> None:
    """The selection depends on the cases and their order, and not on the hashes of a process."""
    code = "from tests.airflow.cases import SELECTION; print(*SELECTION)"

    # With these seeds, sums of floats have selected three different sets of cases.
    for seed in (0, 43, 56):
        printed = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={"PYTHONHASHSEED": str(seed)},
            check=True,
            capture_output=True,
            text=True,
        )
        assert " ".join(map(str, SELECTION)) == printed.stdout.strip()


def test_a_smaller_axis_has_a_smaller_selection() -> None:
    """One case covers all pairs where there is one case, and none where there is none."""
    case = Case(Mode.SYNC, Point.WATCHED, Blow.TASK)

    assert [case] == list(covering([case]))
    assert [] == list(covering([]))


@pytest.mark.parametrize(
    ("tries", "raced", "expected"),
    [
        ("failed success", (1,), "success"),
        ("failed failed success", (2,), "failed success"),
        ("failed failed failed success", (1, 3), "failed success"),
        ("failed failed", (1,), "failed"),
    ],
)
def test_a_try_that_raced_may_be_left_out(
    tries: str, raced: tuple[int, ...], expected: str
) -> None:
    """An outcome has the expected tries if only those that Airflow failed by its race are more."""
    seen = Outcome(tuple(tries.split()), (3,), raced=raced)

    assert Outcome(tuple(expected.split()), (3,)) == seen.without_race(tuple(expected.split()))


def test_a_try_that_raced_may_be_the_one_that_was_killed() -> None:
    """A try counts as expected, though it raced, if all tries are the expected ones."""
    seen = Outcome(("failed", "success"), (3,), raced=(1,))

    assert seen == seen.without_race(("failed", "success"))


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (Outcome(("failed", "success"), (3,)), Outcome(("success",), (3,))),
        (Outcome(("failed", "success"), (3,), raced=(2,)), Outcome(("success",), (3,))),
        (Outcome(("failed", "success"), (3, 3), raced=(1,)), Outcome(("success",), (3,))),
        (Outcome(("failed", "success"), (3,), ("left",), raced=(1,)), Outcome(("success",), (3,))),
    ],
)
def test_nothing_else_is_excused(seen: Outcome, expected: Outcome) -> None:
    """A deviation without the race, a second app, or a remainder stays a deviation."""
    assert expected != seen.without_race(expected.tries)
