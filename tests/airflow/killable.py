"""A whole Airflow whose processes are killed: it notices within seconds."""

from __future__ import annotations

import json
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.airflow.postgres import postgres
from tests.airflow.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Sequence

SETTINGS: Final = {
    "AIRFLOW__CORE__PARALLELISM": "24",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_POOL_SIZE": "30",
    "AIRFLOW__SCHEDULER__JOB_HEARTBEAT_SEC": "1",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "5",
    # A scheduler that was busy for 10 s took itself for dead, and reset the tasks that it ran.
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "40",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
    # A worker sends one every 2 s. Where other tests kept the API server busy, 20 s were too short.
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "40",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
    # Every second, 20 tasks would keep the API server busy.
    "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "2",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "6",
}


class KillableAirflow:
    """An Airflow on a PostgreSQL of its own, which starts when a test first needs it.

    Args:
        home: a folder for it.
        gates: number of sockets that it has a connection for, named like the socket.
    """

    def __init__(self, home: Path, gates: int) -> None:
        self._home = home
        self._gates = gates
        self._held = ExitStack()
        self._stack: Stack | None = None
        #: The sockets, which a test makes.
        self.sockets: Sequence[Path] = ()

    def started(self) -> Stack:
        """Return it, and start it if it does not run."""
        if self._stack is None:
            # The path of a socket must be short.
            folder = self._held.enter_context(tempfile.TemporaryDirectory(prefix="torchx-gates-"))
            self.sockets = [Path(folder) / f"gate_{number}" for number in range(self._gates)]
            connections = {
                f"AIRFLOW_CONN_{path.name.upper()}": json.dumps(
                    {
                        "conn_type": "torchx_docker",
                        "host": f"unix://{path}",
                        # Longer than anything is held.
                        "extra": {"request_timeout_s": 600},
                    }
                )
                for path in self.sockets
            }
            database = self._held.enter_context(postgres())
            stack = Stack(self._home, database, settings=SETTINGS | connections)
            stack.run("db", "migrate")
            self._stack = self._held.enter_context(stack)
        return self._stack

    def end(self) -> None:
        """End it; it may be started again."""
        self._stack = None
        self._held.close()
