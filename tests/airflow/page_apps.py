"""The apps that the tests of the page look at, one in each state, all at once."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final, Self

from airflow_torchx.core.engine import labels
from tests.airflow.front import Front
from tests.airflow.processes import until
from tests.airflow.stack import Stack, Task

if TYPE_CHECKING:
    from airflow_torchx.docker_engine import DockerEngine

_MAPPED: Final = 13


class PageApps:
    """Starts the apps and a second API server on entry, and takes them away on exit.

    Args:
        stack: the Airflow that runs them.
        engine: its daemon.
    """

    def __init__(self, stack: Stack, engine: DockerEngine) -> None:
        self._engine = engine
        self.stack = stack
        self.front = Front(stack)
        # As Airflow makes run ids; another run of the tests may have apps on the same daemon.
        moment = f"03:00:{secrets.randbelow(60):02}.{secrets.randbelow(10**6):06}+00:00"
        self._night, self._night_before = (f"manual__2026-11-{day}T{moment}" for day in (30, 29))
        #: One of its replicas runs out of memory.
        self.failed = Task(stack, "train_nightly", self._night_before, "train")
        #: Goes on until a test stops it.
        self.running = Task(stack, "train_nightly", self._night, "train")
        #: Its first try has failed; the second one goes on until a test lets it end.
        self.retried = Task(stack, "finetune_llm", self._night, "finetune")
        self.succeeded, self.deferred = (
            Task(stack, "tune_ranker", self._night, "train", index) for index in (0, _MAPPED - 1)
        )

    def __enter__(self) -> Self:
        self.front.start()
        self._start_mapped()
        self.stack.trigger("train_nightly", self._night_before, {"how": "oom"})
        self.stack.trigger("finetune_llm", self._night, {"how": "retried"})
        self.succeeded.wait_for("deferred")
        self.let_end(self.succeeded)
        # Two tasks run at a time, and one of them until the test of its restart.
        self.stack.trigger("train_nightly", self._night)
        self.failed.wait_for("failed")
        for task in (self.running, self.retried):
            task.wait_for("running")
        self.deferred.wait_for("deferred")
        self.front.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self.front.end()
        for run_id in (self._night, self._night_before):
            for row in self._engine.rows({labels.RUN_ID: run_id}):
                self._engine.remove(row.id)

    def let_end(self, task: Task) -> None:
        """Let the app of a task succeed, and wait until the task has.

        Airflow may fail a try by its race, and the next one has an app of its own.
        """
        origin = {
            labels.DAG_ID: task.dag_id,
            labels.RUN_ID: task.run_id,
            labels.MAP_INDEX: str(task.map_index),
        }

        def is_success() -> bool:
            self.stack.assert_runs()
            for row in self._engine.rows(origin):
                if row.state == "running":
                    self._engine.signal(row.id, "USR1")
            return task.state() == "success"

        until(is_success, f"the success of {task}", tick_s=1)

    def _start_mapped(self) -> None:
        """Start the first and the last instance of a mapped task; all others are skipped."""
        self.stack.trigger("tune_ranker", self._night)
        others = [
            {"task_id": "train", "map_index": index, "new_state": "skipped"}
            for index in range(1, _MAPPED - 1)
        ]
        path = f"dags/tune_ranker/dagRuns/{self._night}/taskInstances"
        self.stack.patch(path, {"actions": [{"action": "update", "entities": others}]})
        self.stack.patch("dags/tune_ranker", {"is_paused": False})
