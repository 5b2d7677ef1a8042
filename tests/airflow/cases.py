"""What a campaign of kills does, where, and what is left to see."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final


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


#: These end a process that all runs share.
SHARED: Final = (Blow.TRIGGERER, Blow.SCHEDULER)
#: These say how the task ends.
MARKS: Final = (Blow.FAIL, Blow.SUCCEED)


@dataclass(frozen=True)
class Case:
    """A blow at a point in a mode."""

    mode: Mode
    point: Point
    blow: Blow

    def __str__(self) -> str:
        return "-".join(part.name.lower() for part in (self.mode, self.point, self.blow))


@dataclass(frozen=True)
class Outcome:
    """What is left to see when all is over.

    Args:
        tries: states of all tries of the task, in their order.
        starts: for each app that started, in that order, how many of its replicas did.
        wrong: what must never be: replicas started twice, two apps alive at once, anything left on
            the daemon or running, a result of another app, lines missing or twice.
    """

    tries: tuple[str, ...]
    starts: tuple[int, ...]
    wrong: tuple[str, ...] = ()
