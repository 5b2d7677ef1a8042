"""A campaign of kills: many runs of the gang in dags/chaos.py, each with a case to play."""

from __future__ import annotations

from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from itertools import product
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from tests.airflow.cases import MARKS, SHARED, Blow, Case, Mode, Outcome
from tests.airflow.chaos_run import Run, Stage

if TYPE_CHECKING:
    from collections.abc import Sequence

Played: TypeAlias = dict[Case, Future[Any]]

#: Runs at a time, where each can be played by itself.
AT_ONCE: Final = 4


def play(stage: Stage, case: Case) -> Outcome:
    """Play a case that concerns nobody else."""
    run = Run(stage, case.mode, str(case))
    hold = run.reach(case)
    run.strike(case.blow, hold)
    if hold:
        hold.release()
    if case.blow is Blow.CLEAR:
        run.await_end_of_first()
    elif case.blow not in MARKS:
        run.await_second_try()
    if case.blow not in MARKS:
        run.finish()
    return run.outcome(case)


def play_together(stage: Stage, cases: Sequence[Case], pool: Executor) -> Played:
    """Play cases of one blow that hits all runs, at whatever points these are."""
    runs = {case: Run(stage, case.mode, str(case)) for case in cases}
    reached = {case: pool.submit(run.reach, case) for case, run in runs.items()}
    wait(reached.values())
    struck = {Blow.TRIGGERER: stage.stack.triggerers[0], Blow.SCHEDULER: stage.stack.scheduler}
    component = struck[cases[0].blow]
    component.kill()
    for case, run in runs.items():
        hold = None if reached[case].exception() else reached[case].result()
        if hold:
            hold.release()
        run.finish()
    component.start()
    # What did not get there has no outcome.
    return {
        case: reached[case] if reached[case].exception() else pool.submit(run.outcome, case)
        for case, run in runs.items()
    }


def play_paused(stage: Stage, case: Case) -> Outcome:
    """Have one triggerer stand still until another one has taken over, and go on then."""
    run = Run(stage, case.mode, str(case))
    run.reach(case)
    first, second = *stage.stack.triggerers, stage.stack.start_triggerer()
    first.pause()
    run.await_look_of(second)
    first.resume()
    run.await_end_of_trigger()
    run.finish()
    return run.outcome(case)


def play_all(stage: Stage, cases: Sequence[Case]) -> Played:
    """Play cases, many at once, and return what came of each."""
    played: Played = {}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for case in cases:
            if case.blow not in {*SHARED, Blow.PAUSE}:
                played[case] = pool.submit(play, stage, case)
        wait(played.values())
        for blow, mode in product(SHARED, Mode):
            together = [case for case in cases if (case.blow, case.mode) == (blow, mode)]
            if together:
                played |= play_together(stage, together, pool)
                wait(played.values())
        for case in cases:
            if case.blow is Blow.PAUSE:
                played[case] = pool.submit(play_paused, stage, case)
    return played
