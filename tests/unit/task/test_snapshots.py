"""Snapshots of an app while a worker waits for it, on the fake engine."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

from airflow_torchx.errors import AirflowRequestError
from airflow_torchx.runtime import attach, launching
from airflow_torchx.task.context import TaskContext
from airflow_torchx.task.snapshots import Snapshots, resumed
from airflow_torchx.testing import FakeEngine, Program
from tests.unit.apps import app, planned


class Task(TaskContext):
    """A task whose values are kept here."""

    def __init__(self) -> None:
        ti = SimpleNamespace(
            dag_id="d", run_id="r", task_id="t", map_index=2, max_tries=1, try_number=2
        )
        context: Any = {"ti": ti}
        super().__init__(context)
        self.stored: dict[str, object] = {}
        self.is_refused = False

    def store(self, key: str, value: object) -> None:
        """Store a value."""
        if self.is_refused:
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
    """A snapshot that cannot be kept does not fail the task."""
    engine = FakeEngine(images=["busybox"], programs=Program())
    launching.launch(engine, planned(app(1)))
    task = Task()
    task.is_refused = True

    last = Snapshots(task, frozenset).finish(attach.look(engine, "app-1"))

    assert "SUCCEEDED" == last["state"]


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
