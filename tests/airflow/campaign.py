"""A campaign of kills: many runs of the gang in dags/chaos.py, each with a case to play.

Each case is played once. What comes of it is its outcome; nothing is played again.
"""

from __future__ import annotations

from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from tests.airflow.cases import MARKS, SHARED, Blow, Case, Outcome
from tests.airflow.chaos_run import Run, Stage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.airflow.gate import Hold

Played: TypeAlias = dict[Case, Future[Any]]

#: Runs at a time, where each can be played by itself.
AT_ONCE: Final = 4


def play(stage: Stage, case: Case) -> Outcome:
    """Play a case that affects no other case."""
    with Run(stage, case) as run:
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
    runs = {case: Run(stage, case) for case in cases}
    reached = {case: pool.submit(_reach, run, case) for case, run in runs.items()}
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
        case: reached[case] if reached[case].exception() else pool.submit(_outcome, run, case)
        for case, run in runs.items()
    }


def play_paused(stage: Stage, cases: Sequence[Case], pool: Executor) -> Played:
    """Have one triggerer stand still until another one has taken over, and go on then."""
    runs = {case: Run(stage, case) for case in cases}
    reached = {case: pool.submit(_reach, run, case) for case, run in runs.items()}
    wait(reached.values())
    there = {case: run for case, run in runs.items() if not reached[case].exception()}
    first, second = *stage.stack.triggerers, stage.stack.start_triggerer()
    first.pause()
    for case, run in there.items():
        # The hold of a round is of the first one.
        run.await_next_round() if case.restarts else run.await_look_of(second)
    first.resume()
    for case, run in there.items():
        if hold := reached[case].result():
            hold.release()
        run.await_end_of_trigger()
        run.finish()
    return {
        case: pool.submit(_outcome, run, case) if case in there else reached[case]
        for case, run in runs.items()
    }


def play_all(stage: Stage, cases: Sequence[Case]) -> Played:
    """Play cases in their order, many at once, and return what came of each.

    First come those that affect no others, then those that are played together, and last the
    pause, after which there is a second triggerer.
    """
    played: Played = {}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for case in cases:
            if case.blow not in {*SHARED, Blow.PAUSE}:
                played[case] = pool.submit(play, stage, case)
        wait(played.values())
        kinds = ((case.blow, case.mode) for case in cases if case.blow in SHARED)
        for kind in dict.fromkeys(kinds):
            together = [case for case in cases if (case.blow, case.mode) == kind]
            played |= play_together(stage, together, pool)
            wait(played.values())
        if paused := [case for case in cases if case.blow is Blow.PAUSE]:
            played |= play_paused(stage, paused, pool)
    return played


def _reach(run: Run, case: Case) -> Hold | None:
    with run:
        return run.reach(case)


def _outcome(run: Run, case: Case) -> Outcome:
    with run:
        return run.outcome(case)
