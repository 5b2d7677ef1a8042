"""A process that removes an app when the one that was at it is killed.

Airflow kills a task five seconds after it asked it to end, and a busy daemon may take longer to
remove its containers.
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
from airflow_torchx.docker_engine import DockerEngine
from airflow_torchx.errors import AirflowTorchXError
from airflow_torchx.runtime import lifecycle

# What the killed process had asked for last, a daemon may do after the first look.
_PAUSES_S: Final = (0.0, 2.0, 8.0)


class Reaper:
    """Stands by until it is dismissed; if its maker ends before, it stops and removes the app.

    It says nothing, and it is of no use in a container that ends with its first process.

    Args:
        engine: reaches the daemon; it is not used, but how it does so.
        app_id: the app.
        launch_id: the word on the containers of the launch.
        keep: leave the stopped containers.
    """

    def __init__(self, engine: DockerEngine, app_id: str, launch_id: str, *, keep: bool) -> None:
        words = [app_id, launch_id, "keep" if keep else "remove"]
        self._process = subprocess.Popen(  # noqa: S603 - ourselves
            [sys.executable, "-m", __name__, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # Whoever ends a whole group ends the work, and not what cleans up after it.
            start_new_session=True,
        )
        assert self._process.stdin is not None  # noqa: S101 - for the types
        # One that has not come up is no help, and no harm.
        with suppress(OSError):
            self._process.stdin.write(json.dumps(asdict(engine.endpoint)).encode() + b"\n")
            self._process.stdin.flush()

    def dismiss(self) -> None:
        """End it: there is nothing left to do."""
        self._process.kill()
        self._process.communicate()


def _main(app_id: str, launch_id: str, what: str) -> None:
    with DockerEngine.connect(Endpoint(**json.loads(sys.stdin.readline()))) as engine:
        # Until the other end is closed, by the death of whoever holds it.
        sys.stdin.read()
        for pause_s in _PAUSES_S:
            time.sleep(pause_s)
            with suppress(AirflowTorchXError):
                lifecycle.stop_launch(engine, app_id, launch_id, grace_s=0, keep=what == "keep")


if __name__ == "__main__":
    _main(*sys.argv[1:])
