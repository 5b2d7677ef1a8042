"""What replicas had written when their containers were removed."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from airflow_torchx.core.engine import labels
from airflow_torchx.runtime.replica_log import ReplicaLog
from tests.airflow.gate import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_torchx.core.engine.protocol import Engine


class Replica(NamedTuple):
    """A replica of an app, and the try of the task that launched it."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    try_number: int
    role: str
    replica: int


class Remains:
    """Reads the logs of containers before they go, from behind a gate.

    Args:
        engine: the daemon, reached past the gate.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lines: dict[Replica, list[str]] = {}

    def look(self, kind: Kind, target: str) -> None:
        """Look at a request."""
        if kind is Kind.REMOVE:
            container = target.partition("?")[0].rpartition("/")[2]
            for row in self._engine.rows({labels.DAG_ID: None}):
                if container in {row.id, row.name}:
                    lines = [line.text for line in ReplicaLog(self._engine, row.id)]
                    self._lines[_replica(row.labels)] = lines

    def of(self, run_id: str) -> dict[Replica, list[str]]:
        """Return the lines of each replica of a DAG run that was removed."""
        return {
            replica: lines for replica, lines in self._lines.items() if replica.run_id == run_id
        }


def _replica(written: Mapping[str, str]) -> Replica:
    return Replica(
        dag_id=written[labels.DAG_ID],
        run_id=written[labels.RUN_ID],
        task_id=written[labels.TASK_ID],
        map_index=int(written[labels.MAP_INDEX]),
        try_number=int(written[labels.TRY_NUMBER]),
        role=written[labels.ROLE_NAME],
        replica=int(written[labels.REPLICA_ID]),
    )
