"""One run of the gang in dags/chaos.py, which a case kills at some point.

Airflow 3.3.2 has a race of its own, see `Task.raced`, by which it fails a try. The outcome of a run
names such tries.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any, Final, Self

import httpx

from airflow_torchx.core.connection.endpoint import Endpoint
from airflow_torchx.core.engine import labels
from airflow_torchx.docker_engine import DockerEngine
from airflow_torchx.docker_engine.connection import open_client, resolve
from tests.airflow.cases import MARKS, RESTARTING, Blow, Case, Mode, Outcome, Point
from tests.airflow.gate import Gate, Hold, Kind, Side, daemon_socket
from tests.airflow.processes import is_alive, kill, parent_of, until
from tests.airflow.pruning import PruneWatch
from tests.airflow.stack import Task, lines_of
from tests.airflow.witness import Witness, twins

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import TracebackType

    from tests.airflow.processes import Component
    from tests.airflow.stack import Stack
    from tests.airflow.witness import Life

REPLICAS: Final = 3
#: How often an app that restarts may do so: the roles' `max_retries`.
RESTARTS: Final = 1
#: Of each replica.
LINES: Final = 60
# Of a replica, after a restart with the number of its round before it.
_LINE: Final = re.compile(r"(r\d+ )?line \d+")
# What should be gone is looked for this long before it counts as left.
_PATIENCE_S: Final = 60.0
# Between two questions to the API server, of each of many runs.
_ASKING_S: Final = 1.0


class Stage:
    """A whole Airflow, gates to its daemon, a witness of its containers, and what prune finds.

    Args:
        stack: runs, and has a connection for each gate, named like its socket.
        gates: sockets to make; each run takes one.
        folder: for what the runs write.
    """

    def __init__(self, stack: Stack, gates: Sequence[Path], folder: Path) -> None:
        self.stack = stack
        self.folder = folder
        endpoint = resolve(Endpoint(), os.environ)
        self._docker: Any = open_client(endpoint)
        self._engine = DockerEngine(self._docker, endpoint)
        self.gates = [Gate(path, daemon_socket()) for path in gates]
        self.witness = Witness()
        self.prune_watch = PruneWatch(stack, self._engine)
        self._open = ExitStack()

    def __enter__(self) -> Self:
        self._open.enter_context(self._engine)
        self._open.enter_context(self.witness)
        self._open.enter_context(self.prune_watch)
        for gate in self.gates:
            self._open.enter_context(gate)
        return self

    def __exit__(self, *_: object) -> None:
        with self._open:
            for row in self._engine.rows({labels.DAG_ID: None}):
                if row.labels[labels.DAG_ID].startswith(tuple(mode.value for mode in Mode)):
                    self._engine.remove(row.id)

    def names(self, run_id: str) -> list[str]:
        """Return the names of a run's containers, whatever state they are in."""
        return [row.name for row in self._engine.rows({labels.RUN_ID: run_id})]

    def wake(self, name: str) -> None:
        """Have a replica look whether it may end."""
        from docker.errors import APIError

        # It may have ended, or not have been started.
        with suppress(APIError):
            self._docker.kill(name, signal="USR1")

    def is_triggerer(self, pid: int) -> bool:
        """Tell whether a process belongs to a triggerer."""
        return any(triggerer.owns(pid) for triggerer in self.stack.triggerers)

    def is_worker(self, pid: int) -> bool:
        """Tell whether a process is a task."""
        return not self.is_triggerer(pid)


class Run:
    """One DAG run, behind a gate of its own.

    Args:
        stage: where it plays.
        case: what it is triggered for.
    """

    def __init__(self, stage: Stage, case: Case) -> None:
        self.name = name = str(case)
        self._mode = case.mode
        self._dag_id = f"{case.mode.value}{'_restarts' * case.restarts}"
        self._stage = stage
        self._folder = stage.folder / name
        self._gate = stage.gates.pop()
        self._orphans: list[int] = []
        self._killed: int | None = None
        self.task = Task(stage.stack, self._dag_id, name)
        if case.prunes:
            stage.prune_watch.prune(name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        # What has failed may be what shows the logs.
        with suppress(AssertionError, httpx.HTTPError):
            if exc:
                exc.add_note(self.task.record())

    def reach(self, case: Case) -> Hold | None:
        """Trigger the run, bring it to a point, and return what holds it there, if anything."""
        point = case.point
        self._folder.mkdir()
        self._folder.chmod(0o777)  # a container's user may be another one
        hold = self._early(point)
        looked = self._gate.hold(Hold(Kind.LIST, of=self._stage.is_triggerer))
        conf = {"folder": str(self._folder), "gate": self._gate.path.name}
        self._stage.stack.trigger(self._dag_id, self.name, conf)
        before = 0
        if hold is None:
            self._await_watched(looked)
            hold, before = self._late(case)
        looked.release()
        if hold:
            hold.wait()
            # Those before it are on their way, and must be where they go.
            passed = before + hold.nth - 1
            until(lambda: self._gate.answered(hold.kind) >= passed, f"{self.name}: {hold}")
        elif point is Point.SUCCEEDED:
            # The run too: a clear in between is lost on Airflow.
            until(self._has_succeeded, f"{self.name}: success")
        return hold

    def strike(self, blow: Blow, hold: Hold | None) -> None:
        """Do to this run what a blow does that does not hit all runs."""
        pid = hold.wait() if hold else self.task.now().pid
        assert pid is not None
        if blow is Blow.TASK:
            self._killed = pid
            kill(pid)
        elif blow is Blow.SUPERVISOR:
            self._orphans.append(pid)
            kill(parent_of(pid))
        elif blow is Blow.CLEAR:
            self.task.clear()
        else:
            self.task.mark(blow.value)

    def finish(self) -> None:
        """Let the app end, and any later one of this run."""
        (self._folder / "finish").touch()
        for name in self._stage.names(self.name):
            self._stage.wake(name)

    def await_second_try(self) -> None:
        """Wait until the task tries again, and has gone as far as it goes by itself."""

        def goes_on() -> bool:
            now = self.task.now()
            return now.try_number > 1 and now.state in {"running", "deferred", "success", "failed"}

        until(goes_on, f"{self.name}: second try")

    def await_end_of_first(self) -> None:
        """Wait until the first app does not run any more."""
        first = {life.app_id for life in self._lives()[:1]}
        until(
            lambda: not any(life.app_id in first for life in self._alive()),
            f"{self.name}: the end of the first app",
        )

    def await_next_round(self) -> None:
        """Wait until all replicas have started again."""
        until(lambda: len(self._starts()) >= 2 * REPLICAS, f"{self.name}: all starts of a round")

    def await_look_of(self, triggerer: Component) -> None:
        """Wait until a triggerer looks at the app."""
        hold = self._gate.hold(Hold(Kind.LIST, of=triggerer.owns))
        hold.wait()
        hold.release()

    def await_end_of_trigger(self) -> None:
        """Wait until a triggerer is through with ending the trigger."""
        until(
            lambda: any(event["event"] == "trigger completed" for event in self.task.log()),
            f"{self.name}: the end of the first trigger",
            tick_s=_ASKING_S,
        )

    def outcome(self, case: Case) -> Outcome:
        """Return what is left to see when all is over."""
        state = case.blow.value if case.blow in MARKS else "success"
        until(lambda: self._has_come_to(state, case), f"{self.name}: {state}")
        tries = self.task.tries()
        started = Counter(self._starts())
        rounds = Counter((app_id, number) for app_id, _, number in map(str.split, self._starts()))
        wrong = [f"{line}: {count} starts" for line, count in started.items() if count > 1]
        wrong += [f"{one} and {other} at once" for one, other in twins(self._lives())]
        wrong += self._left()
        newest = self._stage.witness.rounds(self.name)
        wrong += [
            f"{one} has round {n}" for one, n in newest.items() if n > case.restarts * RESTARTS
        ]
        wrong += self._stage.prune_watch.failed(self.name)
        if case.blow not in MARKS:
            # Until its end, the task owns all its apps. A user who marks it may end it before.
            wrong += self._stage.prune_watch.of(self.name)
        has_returned = case.blow not in MARKS or case.point is Point.SUCCEEDED
        wrong += self._wrong_lines([one["try_number"] for one in tries], are_all=has_returned)
        if has_returned:
            wrong += self._wrong_result([app_id for app_id, _ in rounds])
        states = tuple(str(one["state"]) for one in tries)
        raced, record = self.task.raced(self._killed), self.task.record()
        return Outcome(states, tuple(rounds.values()), tuple(wrong), raced, record)

    def _early(self, point: Point) -> Hold | None:
        """Return what holds a request that comes before the app is watched."""
        early = {
            Point.NOTHING: Hold(Kind.LIST),
            Point.FIRST_CREATED: Hold(Kind.CREATE, side=Side.AFTER),
            Point.HALF_CREATED: Hold(Kind.CREATE, nth=REPLICAS),
            Point.ALL_CREATED: Hold(Kind.START),
            Point.HALF_STARTED: Hold(Kind.START, nth=2),
            Point.ALL_STARTED: Hold(Kind.LIST, after={Kind.START: REPLICAS}),
        }
        return self._gate.hold(early[point]) if point in early else None

    def _late(self, case: Case) -> tuple[Hold | None, int]:
        """Let the app end, or a replica fail, and return what holds a request that comes then.

        The number is that of the requests of its kind that were answered before.
        """
        point, stage = case.point, self._stage
        deferred = self._mode is Mode.DEFERRABLE and case.blow in {*MARKS, Blow.CLEAR}
        is_seen_by_trigger = case.blow is Blow.TRIGGERER or deferred
        looks = stage.is_triggerer if is_seen_by_trigger else stage.is_worker
        late = {
            Point.STOPPING: Hold(Kind.STOP),
            Point.HALF_REPLACED: Hold(Kind.CREATE, nth=2),
            Point.REPLACED: Hold(Kind.START),
            Point.HALF_RESTARTED: Hold(Kind.START, nth=2),
            Point.ENDED: Hold(Kind.LIST, of=looks),
            Point.COLLECTING: Hold(Kind.ARCHIVE),
            Point.COLLECTED: Hold(Kind.REMOVE),
            Point.REMOVED: Hold(Kind.REMOVE, nth=REPLICAS, side=Side.AFTER),
        }
        hold = self._gate.hold(late[point]) if point in late else None
        before = self._gate.answered(hold.kind) if hold else 0
        if point is not Point.WATCHED:
            self.finish()
        if point not in {Point.WATCHED, *RESTARTING}:
            until(lambda: not self._alive(), f"{self.name}: the app's end")
        return hold, before

    def _await_watched(self, looked: Hold) -> None:
        until(lambda: len(self._starts()) == REPLICAS, f"{self.name}: all starts")
        if self._mode is Mode.DEFERRABLE:
            looked.wait()
        else:
            until(lambda: self._gate.answered(Kind.LOGS) >= REPLICAS, f"{self.name}: all logs")

    def _has_come_to(self, state: str, case: Case) -> bool:
        now = self.task.now()
        return now.state == state and now.try_number >= (2 if case.blow is Blow.CLEAR else 1)

    def _has_succeeded(self) -> bool:
        return self._stage.stack.run_states(self._dag_id)[self.name] == "success"

    def _starts(self) -> list[str]:
        """Return what replicas have noted when they started: app, replica and round."""
        file = self._folder / "starts"
        return file.read_text().splitlines() if file.exists() else []

    def _lives(self) -> list[Life]:
        return self._stage.witness.lives(self.name)

    def _alive(self) -> list[Life]:
        return [life for life in self._lives() if life.ended is None]

    def _left(self) -> list[str]:
        """Return what does not go away: containers, those that run, and processes."""
        with suppress(AssertionError):
            until(lambda: not self._remains(), "an empty daemon", patience_s=_PATIENCE_S)
        return self._remains()

    def _remains(self) -> list[str]:
        names = [f"{name} is left" for name in self._stage.names(self.name)]
        alive = [f"{life.app_id} {life.replica} r{life.round} runs" for life in self._alive()]
        orphans = [f"orphan {pid} lives" for pid in self._orphans if is_alive(pid)]
        return names + alive + orphans

    def _wrong_result(self, apps: list[str]) -> list[str]:
        result = self.task.xcom()
        return [] if result == apps[-1] else [f"the result is of {result}, not of {apps[-1]}"]

    def _wrong_lines(self, tries: list[int], *, are_all: bool) -> list[str]:
        """Return what is wrong with the logs: no try shows a line twice, all show every line."""
        wrong = []
        logs = {number: self.task.log(number) for number in tries}
        for replica in range(REPLICAS):
            seen: set[str] = set()
            for number, log in logs.items():
                lines = lines_of(log, "worker", replica)
                counts = Counter(line for line in lines if _LINE.fullmatch(line))
                seen |= {line for line in counts if line.startswith("line ")}
                if len(counts) < counts.total():
                    wrong.append(f"replica {replica}, try {number}: lines twice")
            if are_all and len(seen) < LINES:
                wrong.append(f"replica {replica}: {LINES - len(seen)} lines are in no log")
        return wrong
