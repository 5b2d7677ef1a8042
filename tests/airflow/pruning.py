"""What prune would remove, or removes, while a campaign of kills goes on."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final, Self

from sqlalchemy import text

from airflow_torchx.core.engine import labels
from airflow_torchx.core.task.prune import GONE, TaskKey
from airflow_torchx.errors import EngineError
from airflow_torchx.runtime.prune import Pruner

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from airflow_torchx.core.engine.containers import ContainerRow
    from airflow_torchx.core.task.prune import Found
    from airflow_torchx.docker_engine import DockerEngine
    from tests.airflow.stack import Stack

_STATES: Final = text(
    "SELECT dag_id, run_id, task_id, map_index, state FROM task_instance"
    " WHERE dag_id LIKE 'chaos_%'"
)
_TICK_S: Final = 1.0


class _OfCampaign:
    """A daemon without the containers of others."""

    def __init__(self, engine: DockerEngine) -> None:
        self._engine = engine

    def rows(self, wanted: Mapping[str, str | None]) -> tuple[ContainerRow, ...]:
        """Return the containers of the campaign."""
        rows = self._engine.rows(dict(wanted) or {labels.DAG_ID: None})
        return tuple(row for row in rows if row.labels.get(labels.DAG_ID, "").startswith("chaos_"))

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - any method
        return getattr(self._engine, name)


class PruneWatch:
    """Asks again and again what prune would remove, and removes it of some runs only.

    Args:
        stack: the Airflow whose database has the states.
        engine: the daemon.
    """

    def __init__(self, stack: Stack, engine: DockerEngine) -> None:
        self._stack = stack
        self._pruner = Pruner(_OfCampaign(engine), self._ask)
        self._found: dict[str, set[str]] = {}
        self._pruned: set[str] = set()
        self._failed: dict[str, list[str]] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        #: How often it has asked.
        self.looks = 0

    def of(self, run_id: str) -> list[str]:
        """Return what prune would have removed of a run at some time."""
        return sorted(self._found.get(run_id, ()))

    def prune(self, run_id: str) -> None:
        """Remove what is found of a run from now on."""
        self._pruned.add(run_id)

    def failed(self, run_id: str) -> list[str]:
        """Return what prune could not remove of a run."""
        return self._failed.get(run_id, [])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(_TICK_S):
            try:
                survey = self._pruner.survey()
                self._note(survey.found)
                self._remove(survey.found)
            except EngineError:
                continue
            self.looks += 1

    def _note(self, found: Iterable[Found]) -> None:
        for one in found:
            if one.task is not None:
                what = f"prune would {one.action} {one.name}: {one.why}"
                self._found.setdefault(one.task.run_id, set()).add(what)

    def _remove(self, found: Iterable[Found]) -> None:
        of_pruned = [one for one in found if one.task and one.task.run_id in self._pruned]
        for one, error in self._pruner.remove(of_pruned).failed:
            if one.task is not None:
                what = f"prune cannot {one.action} {one.name}: {error}"
                self._failed.setdefault(one.task.run_id, []).append(what)

    def _ask(self, tasks: Collection[TaskKey]) -> dict[TaskKey, str | None]:
        states = {TaskKey(*row[:4]): row[4] for row in self._stack.select(_STATES)}
        return {task: states.get(task, GONE) for task in tasks}
