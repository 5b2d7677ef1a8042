"""The cases of the campaign of kills: what is done, where, and what is left to see.

Every valid case is in `CASES`. The campaign plays all of them; `make test` plays `SELECTION`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from enum import Enum
from fractions import Fraction
from itertools import chain, combinations
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


class Mode(Enum):
    """A mode of the operator: the DAG that uses it."""

    SYNC = "chaos_sync"
    DEFERRABLE = "chaos_deferrable"


class Point(Enum):
    """A place on the way from launch to result."""

    NOTHING = "nothing exists"
    FIRST_CREATED = "one container exists, and its answer is lost"
    HALF_CREATED = "two of three containers exist"
    ALL_CREATED = "all containers exist, none was started"
    HALF_STARTED = "one of three replicas was started"
    ALL_STARTED = "all run, not yet watched or deferred"
    WATCHED = "all run, watched by the task or by a trigger"
    STOPPING = "one has failed, the others are about to be stopped for a restart"
    HALF_REPLACED = "one of three containers of the next round exists"
    REPLACED = "all containers of the next round exist, none was started"
    HALF_RESTARTED = "one of three replicas of the next round was started"
    ENDED = "all have ended, unseen"
    COLLECTING = "the result is about to be read"
    COLLECTED = "the containers are about to be removed"
    REMOVED = "the containers are removed, the task has not returned"
    SUCCEEDED = "the task has succeeded"


class Blow(Enum):
    """What is done there: a process is ended by SIGKILL or stands still, or a user acts."""

    TASK = "task"
    SUPERVISOR = "supervisor"
    TRIGGERER = "triggerer"
    SCHEDULER = "scheduler"
    PAUSE = "pause"
    FAIL = "failed"
    SUCCEED = "success"
    CLEAR = "clear"


#: The points by phase. A kill meets the same code anywhere in a phase, at another request.
PHASES: Final = {
    "launching": (
        Point.NOTHING,
        Point.FIRST_CREATED,
        Point.HALF_CREATED,
        Point.ALL_CREATED,
        Point.HALF_STARTED,
    ),
    "running": (Point.ALL_STARTED, Point.WATCHED, Point.ENDED),
    "restarting": (
        Point.STOPPING,
        Point.HALF_REPLACED,
        Point.REPLACED,
        Point.HALF_RESTARTED,
    ),
    "collecting": (Point.COLLECTING, Point.COLLECTED, Point.REMOVED),
    "over": (Point.SUCCEEDED,),
}
LAUNCHING: Final = PHASES["launching"]
LAUNCHED: Final = PHASES["running"] + PHASES["collecting"]
#: Between two rounds of an app.
RESTARTING: Final = PHASES["restarting"]
#: These end a process that all runs share.
SHARED: Final = (Blow.TRIGGERER, Blow.SCHEDULER)
#: These say how the task ends.
MARKS: Final = (Blow.FAIL, Blow.SUCCEED)
#: Where a user acts.
_ACTED: Final = (
    Point.ALL_CREATED,
    *PHASES["running"],
    *RESTARTING,
    Point.COLLECTING,
    Point.SUCCEEDED,
)


@dataclass(frozen=True)
class Case:
    """A blow at a point in a mode.

    Args:
        mode: of the operator.
        point: where the blow hits.
        blow: what is done.
        prunes: whether prune removes what it finds of this run meanwhile.
    """

    mode: Mode
    point: Point
    blow: Blow
    prunes: bool = False

    def __str__(self) -> str:
        parts = [part.name.lower() for part in (self.mode, self.point, self.blow)]
        return "-".join([*parts, "prune"] if self.prunes else parts)

    @property
    def restarts(self) -> bool:
        """Tell whether the app is one that restarts."""
        return self.point in RESTARTING

    @property
    def is_valid(self) -> bool:
        """Tell whether the case can be played, and shows what it is to show."""
        # Beside a mark, prune may remove what the task leaves; so one mark is played without it.
        may_prune = self.restarts and self.blow is not Blow.SUCCEED
        return self._can_hit and (may_prune or not self.prunes)

    @property
    def _can_hit(self) -> bool:
        """Tell whether something exists at this point that the blow can hit."""
        deferrable = self.mode is Mode.DEFERRABLE
        match self.blow:
            case Blow.TASK | Blow.SUPERVISOR:
                # A deferred task has no process.
                watched_by_trigger = deferrable and self.point in {Point.WATCHED, *RESTARTING}
                return self.point is not Point.SUCCEEDED and not watched_by_trigger
            case Blow.TRIGGERER:
                return deferrable and self.point is not Point.SUCCEEDED
            case Blow.SCHEDULER:
                return self.point is not Point.SUCCEEDED
            case Blow.PAUSE:
                return deferrable and self.point in {Point.WATCHED, *RESTARTING}
            case Blow.SUCCEED:
                return self.point in _ACTED and self.point is not Point.SUCCEEDED
            case Blow.FAIL | Blow.CLEAR:
                return self.point in _ACTED


def pairs(case: Case) -> frozenset[tuple[str, str]]:
    """Return the pairs of values that a case covers.

    The axes are the mode, the phase of the point, the blow, and whether prune runs beside it; the
    point itself is paired with nothing but its phase, as a kill meets the same code anywhere in a
    phase.
    """
    phase = next(name for name, points in PHASES.items() if case.point in points)
    prune = "prune" if case.prunes else "no prune"
    return frozenset(
        {
            (case.mode.name, phase),
            (case.mode.name, case.blow.name),
            (phase, case.blow.name),
            (phase, case.point.name),
            (case.mode.name, prune),
            (phase, prune),
            (case.blow.name, prune),
        }
    )


def covering(cases: Sequence[Case]) -> Iterator[Case]:
    """Yield some of the cases, the same ones each time, that cover all pairs of all of them.

    Each is the first of those that cover most of what is not covered yet, where a pair counts for
    more if fewer cases cover it.
    """
    frequency = Counter(pair for case in cases for pair in pairs(case))
    # Not floats: their sum depends on the order of a set, which differs from process to process.
    weights = {pair: Fraction(1, count) for pair, count in frequency.items()}
    missing = pairs_of(cases)
    while missing:
        gains = [sum(weights[pair] for pair in missing & pairs(case)) for case in cases]
        best = cases[gains.index(max(gains))]
        missing -= pairs(best)
        yield best


def pairs_of(cases: Iterable[Case]) -> set[tuple[str, str]]:
    """Return the pairs that cases cover together."""
    return {pair for case in cases for pair in pairs(case)}


#: Every valid case, in a fixed order.
CASES: Final = tuple(
    case
    for blow in Blow
    for mode in Mode
    for point in Point
    for prunes in (False, True)
    if (case := Case(mode, point, blow, prunes)).is_valid
)
#: What `make test` plays.
SELECTION: Final = tuple(covering(CASES))


@dataclass(frozen=True)
class Outcome:
    """What is left to see when all is over.

    Args:
        tries: states of all tries of the task, in their order.
        starts: for each round of each app that started, in that order, how many of its replicas
            did.
        wrong: what must never be: replicas started twice in a round, two apps or two rounds alive
            at once, more rounds than the app may have, anything left on the daemon or running, a
            result of another app, lines missing or twice.
        raced: the numbers of the tries that Airflow failed by a race of its own.
        record: the logs of the run, for the message of a failed test.
    """

    tries: tuple[str, ...]
    starts: tuple[int, ...]
    wrong: tuple[str, ...] = ()
    raced: tuple[int, ...] = field(default=(), compare=False)
    record: str = field(default="", compare=False, repr=False)

    def without_race(self, tries: tuple[str, ...]) -> Outcome:
        """Return this outcome with these tries, if it has them besides some that raced.

        The next try of a try that raced must adopt its app, so the race changes no other part of an
        outcome.
        """
        some = (combinations(self.raced, count) for count in range(len(self.raced) + 1))
        numbered = list(enumerate(self.tries, 1))
        for left_out in chain.from_iterable(some):
            if tries == tuple(state for number, state in numbered if number not in left_out):
                return replace(self, tries=tries)
        return self
