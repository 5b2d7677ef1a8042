"""Snapshots of an app while a worker waits for it, on the fake engine."""

from __future__ import annotations

import json
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_torchx.errors import AirflowRequestError
from airflow_torchx.runtime import attach, launching
from airflow_torchx.task.context import TaskContext
from airflow_torchx.task.snapshots import PAUSE_S, Snapshots, resumed
from airflow_torchx.testing import FakeEngine, ManualClock, Program
from tests.unit.apps import app, planned

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_torchx.specs import DescribeAppResponse

LONG = Program(runs_for_s=None)


class Task(TaskContext):
    """A task whose values are kept here."""

    def __init__(self) -> None:
        ti = SimpleNamespace(
            dag_id="d", run_id="r", task_id="t", map_index=2, max_tries=1, try_number=2
        )
        context: Any = {"ti": ti}
        super().__init__(context)
        self.stored: dict[str, object] = {}
        #: The snapshots that were pushed, and when.
        self.written: list[Any] = []
        #: Other XComs, by key.
        self.others: dict[str, object] = {}
        self.is_refused = False
        self.is_store_down = False
        #: Holds the pushes of the thread that writes while the app runs.
        self.is_free = threading.Event()
        self.is_free.set()
        self.is_pushing = threading.Event()

    def push(self, key: str, value: object) -> None:
        """Push an XCom."""
        if key != "torchx_app":
            self.others[key] = value
            return
        if threading.current_thread().name == "torchx-snapshots":
            self.is_pushing.set()
            self.is_free.wait(60)
        self.written.append(value)
        if self.is_refused:
            raise AirflowRequestError("refused", fix="Wait.")

    def store(self, key: str, value: object) -> None:
        """Store a value."""
        if self.is_store_down:
            raise AirflowRequestError("refused", fix="Wait.")
        self.stored[key] = value


def test_the_last_snapshot_of_a_try() -> None:
    """It has the last lines, without secrets, and stays beside those of other tries."""
    engine = FakeEngine(
        images=["busybox"], programs=Program(exit_code=3, lines=["password hunter2"])
    )
    launching.launch(engine, planned(app(1)))
    task = Task()
    snapshots = Snapshots(task, lambda: frozenset({"hunter2"}))
    snapshots.handle = "h"
    seen = attach.look(engine, "app-1", inspect_all=True)

    last = snapshots.finish(seen, ["password hunter2"])

    assert {"torchx_app:2": last} == task.stored
    assert [last] == task.written
    assert {"torchx_failure:trainer/0,exit,exit=3": "app-1"} == task.others
    assert ("FAILED", "h", {"try": 2, "epoch": 1}) == (
        last["state"],
        last["handle"],
        last["attempt"],
    )
    assert {"dag_id": "d", "run_id": "r", "task_id": "t", "map_index": 2} == last["origin"]
    assert 3 == last["failure"]["exit"]
    assert "hunter2" not in json.dumps(last)
    assert ["password ***"] == last["failure"]["lines"]


def test_a_store_that_is_down() -> None:
    """A snapshot that cannot be kept is pushed, and does not fail the task."""
    engine = FakeEngine(images=["busybox"], programs=Program())
    launching.launch(engine, planned(app(1)))
    task = Task()
    task.is_store_down = True

    last = Snapshots(task, frozenset).finish(attach.look(engine, "app-1"))

    assert ("SUCCEEDED", [last], {}) == (last["state"], task.written, task.others)


def test_a_resumed_task_goes_on() -> None:
    """The numbers and transitions of a trigger go on in the worker."""
    engine = FakeEngine(images=["busybox"], programs=Program(runs_for_s=None))
    launching.launch(engine, planned(app(1)))
    seen = attach.look(engine, "app-1")
    first = Snapshots(Task(), frozenset)
    first.handle = "h"
    made = first.make(seen)
    event = {"snapshot": first.to_json(), "usage": {}}

    again = resumed(Task(), frozenset, event, "h").make(seen)

    assert again["seq"] > made["seq"]
    assert made["roles"][0]["replicas"][0]["t"] == again["roles"][0]["replicas"][0]["t"]
    assert {"owner", "seq", "t"} == first.to_json().keys()


def until(holds: Callable[[], object]) -> None:
    """Wait until something holds."""
    waited = threading.Event()
    while not holds():
        waited.wait(0.01)


class Watched:
    """An app on a fake daemon, and the snapshots of its task."""

    def __init__(
        self, secrets: Callable[[], frozenset[str]] = frozenset, replicas: int = 1
    ) -> None:
        self.engine = FakeEngine(images=["busybox"], programs=LONG)
        launching.launch(self.engine, planned(app(replicas)))
        self.task = Task()
        self.clock = ManualClock()
        #: The pauses between snapshots, each of which ends when it may.
        self.pauses: list[float] = []
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.snapshots = Snapshots(self.task, secrets, clock=self.clock, pause=self._pause)

    def _pause(self, closing: threading.Event, seconds: float) -> bool:
        self.pauses.append(seconds)
        self.may_go_on.wait()
        return closing.is_set()

    def seen(self) -> DescribeAppResponse:
        """Return the app as it is now."""
        return attach.look(self.engine, "app-1")

    def written(self, count: int) -> list[Any]:
        """Return the snapshots that were pushed, once there are so many."""
        until(lambda: len(self.task.written) >= count)
        return self.task.written

    def states(self) -> list[str]:
        """Return the transitions of the replica in the next snapshot."""
        (replica,) = self.snapshots.make(self.seen())["roles"][0]["replicas"]
        return [name for _, name in replica["t"]]


@pytest.mark.usefixtures("supervisor")
@pytest.mark.parametrize("is_refused", [False, True])
def test_a_transition_is_written(*, is_refused: bool) -> None:
    """A replica that has changed has a snapshot written, also after one that was refused."""
    watched = Watched()
    watched.task.is_refused = is_refused

    watched.snapshots.look(watched.seen())
    watched.snapshots.look(watched.seen())
    assert "RUNNING" == watched.written(1)[0]["state"]
    watched.clock.advance(2)
    watched.engine.end("app-1-trainer-0")
    watched.snapshots.look(watched.seen())

    assert ["RUNNING", "SUCCEEDED"] == [one["state"] for one in watched.written(2)]
    watched.snapshots.close()


@pytest.mark.usefixtures("supervisor")
def test_an_app_that_keeps_its_state() -> None:
    """A snapshot is written 15 seconds after the last one, for what its replicas use."""
    watched, before = Watched(), set(threading.enumerate())
    watched.snapshots.make(watched.seen())

    watched.clock.advance(14.9)
    watched.snapshots.look(watched.seen())
    assert before >= set(threading.enumerate())
    watched.clock.advance(0.1)
    watched.snapshots.look(watched.seen())

    assert "RUNNING" == watched.written(1)[0]["state"]
    watched.snapshots.close()


@pytest.mark.usefixtures("supervisor")
def test_many_transitions_are_one_snapshot() -> None:
    """Transitions after a snapshot wait for the next one, two seconds later, and are in it."""
    watched = Watched(replicas=5)
    watched.snapshots.look(watched.seen())
    watched.written(1)
    watched.may_go_on.clear()

    for index in range(5):
        watched.engine.end(f"app-1-trainer-{index}")
        watched.snapshots.look(watched.seen())
    watched.may_go_on.set()

    (_, second) = watched.written(2)
    assert {"SUCCEEDED": 5} == second["roles"][0]["counts"]
    assert PAUSE_S == watched.pauses[1]
    watched.snapshots.close()


@pytest.mark.usefixtures("supervisor")
def test_closed_snapshots_write_no_more() -> None:
    """The thread ends with the wait, and a later change starts none."""
    watched, before = Watched(), set(threading.enumerate())
    watched.snapshots.look(watched.seen())
    watched.written(1)
    (writer,) = set(threading.enumerate()) - before

    watched.snapshots.close()
    writer.join(60)
    watched.engine.end("app-1-trainer-0")
    watched.snapshots.look(watched.seen())

    assert before >= set(threading.enumerate())
    assert 1 == len(watched.task.written)


@pytest.mark.usefixtures("supervisor")
def test_a_push_that_hangs_until_after_the_end() -> None:
    """The XCom stays the last snapshot, although an older one is written after it."""
    watched, before = Watched(), set(threading.enumerate())
    watched.task.is_free.clear()
    watched.snapshots.look(watched.seen())
    assert watched.task.is_pushing.wait(60)
    (writer,) = set(threading.enumerate()) - before
    watched.engine.end("app-1-trainer-0")

    last = watched.snapshots.finish(watched.seen())
    watched.task.is_free.set()
    writer.join(60)

    assert ["SUCCEEDED", "RUNNING", "SUCCEEDED"] == [one["state"] for one in watched.task.written]
    assert last == watched.task.written[-1]


@pytest.mark.usefixtures("supervisor")
def test_an_app_that_outlives_its_task() -> None:
    """An app that is being stopped is CANCELLED, also in the list, should Airflow kill the task."""
    watched = Watched(replicas=2)
    watched.engine.end("app-1-trainer-1")
    watched.snapshots.look(watched.seen())
    watched.written(1)

    watched.snapshots.stopping(watched.seen)

    *_, last = watched.written(2)
    states = [one["state"] for one in last["roles"][0]["replicas"]]
    assert ("CANCELLED", ["CANCELLED", "SUCCEEDED"]) == (last["state"], states)
    assert {"torchx_app:2": last} == watched.task.stored
    until(lambda: watched.task.others)
    assert {"torchx_failure:,cancel": "app-1"} == watched.task.others


@pytest.mark.usefixtures("supervisor")
def test_an_app_that_ends_before_its_task_is_killed() -> None:
    """The end replaces what was written when the stop began, whichever was first."""
    watched, before = Watched(), set(threading.enumerate())
    is_ended = threading.Event()

    def look() -> DescribeAppResponse:
        seen = watched.seen()
        is_ended.wait(60)
        return seen

    watched.snapshots.stopping(look)
    (writer,) = set(threading.enumerate()) - before
    watched.engine.end("app-1-trainer-0")
    last = watched.snapshots.finish(watched.seen())
    is_ended.set()
    writer.join(60)

    assert ("SUCCEEDED", [last], {}) == (last["state"], watched.task.written, watched.task.others)


def test_without_a_supervisor() -> None:
    """Under ``dag.test()``, no thread writes; the transitions are kept for the last snapshot."""
    watched, before = Watched(), set(threading.enumerate())

    watched.snapshots.look(watched.seen())

    assert before >= set(threading.enumerate())
    assert "RUNNING" == watched.states()[-1]


@pytest.mark.usefixtures("supervisor")
def test_a_change_while_a_snapshot_is_made() -> None:
    """The thread that writes does not add a state again that has changed meanwhile."""

    def secrets() -> frozenset[str]:
        if threading.current_thread().name == "torchx-snapshots":
            watched.engine.end("app-1-trainer-0")
            watched.snapshots.look(watched.seen())
        return frozenset()

    watched = Watched(secrets)

    watched.snapshots.look(watched.seen())
    watched.written(1)
    watched.snapshots.close()

    assert ["SUBMITTED", "RUNNING", "SUCCEEDED"] == watched.states()
