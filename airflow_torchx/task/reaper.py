"""A process that finishes stopping an app if the task's process ends before that.

Airflow kills a task's process five seconds after SIGTERM. The grace period of an app may be longer,
and so may a busy daemon take to stop and remove the containers.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from typing import Final

from airflow_torchx.core.connection.endpoint import Endpoint
from airflow_torchx.core.plan.identity import TaskAttempt
from airflow_torchx.docker_engine import DockerEngine
from airflow_torchx.errors import AirflowTorchXError
from airflow_torchx.runtime import lifecycle
from airflow_torchx.task import reattach

# The daemon may still execute the last request of the killed process after the first round.
_PAUSES_S: Final = (0.0, 2.0, 8.0)


class Reaper:
    """Stops and removes an app if this process ends before it calls `dismiss`.

    It waits for replicas that this process has begun to stop, up to ``grace_s`` seconds. It logs
    nothing. It cannot help in a container that ends with the process that made it. It opens
    a connection of its own, and leaves containers of other launches alone. With ``keep`` it stops
    the containers, but does not remove them. ``waiting`` is the task that leaves the queue for
    GPUs; None if its app was launched.
    """

    def __init__(
        self,
        engine: DockerEngine,
        app_id: str,
        launch_id: str,
        *,
        grace_s: float,
        keep: bool,
        waiting: TaskAttempt | None = None,
    ) -> None:
        args = [app_id, launch_id, str(grace_s), "keep" if keep else "remove"]
        self._process = subprocess.Popen(  # noqa: S603 - ourselves
            [sys.executable, "-m", __name__, *args],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # A signal to the process group of the task must not end the reaper.
            start_new_session=True,
        )
        assert self._process.stdin is not None  # noqa: S101 - for the types
        # A reaper that failed to start changes nothing.
        with suppress(OSError):
            for sent in (asdict(engine.endpoint), waiting and asdict(waiting)):
                self._process.stdin.write(json.dumps(sent).encode() + b"\n")
            self._process.stdin.flush()

    def dismiss(self) -> None:
        """End the reaper without stopping the app."""
        self._process.kill()
        self._process.communicate()


def _main(app_id: str, launch_id: str, grace_s: str, action: str) -> None:
    with DockerEngine.connect(Endpoint(**json.loads(sys.stdin.readline()))) as engine:
        stored = json.loads(sys.stdin.readline())
        waiting = stored and TaskAttempt(**stored)
        # Blocks until the task's process ends, which closes the other end of the pipe.
        sys.stdin.read()
        for pause_s in _PAUSES_S:
            time.sleep(pause_s)
            with suppress(AirflowTorchXError):
                lifecycle.stop_launch(
                    engine, app_id, launch_id, grace_s=float(grace_s), keep=action == "keep"
                )
            if waiting:
                with suppress(AirflowTorchXError):
                    reattach.leave_queue(engine, waiting)


if __name__ == "__main__":
    _main(*sys.argv[1:])
