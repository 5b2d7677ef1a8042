"""A process that prunes a daemon once, as a client with an Airflow does; a test may kill it.

Its arguments are the URL of the daemon, and a file with the states of tasks by DAG, as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_torchx.core.connection.endpoint import Endpoint
from airflow_torchx.docker_engine import DockerEngine
from airflow_torchx.runtime.prune import Pruner, to_json

if TYPE_CHECKING:
    from collections.abc import Collection

    from airflow_torchx.core.task.prune import TaskKey


def main(url: str, states: str) -> None:
    """Prune, and write what was done, as JSON."""

    def ask(tasks: Collection[TaskKey]) -> dict[TaskKey, str | None]:
        known = json.loads(Path(states).read_text())
        return {task: known[task.dag_id] for task in tasks}

    with DockerEngine.connect(Endpoint(url=url)) as engine:
        pruner = Pruner(engine, ask)
        survey = pruner.survey()
        sys.stdout.write(json.dumps(to_json(survey, pruner.remove(survey.found))))


if __name__ == "__main__":
    main(*sys.argv[1:])
