"""A process that finishes with the containers of one launch if this process is killed.

Airflow kills a task's process five seconds after SIGTERM. The grace period of an app may be longer,
and so may a busy daemon take to stop and remove the containers. SIGKILL gives no second at all.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet

from airflow_torchx.core.connection.endpoint import Endpoint
from airflow_torchx.core.connection.pem import Pem
from airflow_torchx.core.connection.swarm import Swarm
from airflow_torchx.core.engine import labels
from airflow_torchx.core.plan.identity import TaskAttempt
from airflow_torchx.core.task.reconcile import observed_apps
from airflow_torchx.errors import AirflowTorchXError
from airflow_torchx.runtime import engines, lifecycle
from airflow_torchx.runtime.gpus import task_places

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_torchx.core.engine.protocol import Engine

# The daemon may still execute the last request of the killed process after the first round.
_PAUSES_S: Final = (0.0, 2.0, 8.0)

#: Waits for the end of the other process, and only then becomes `_main`. It takes 11 ms of a core,
#: where the imports of `_main` take 270 ms. A line that was cut off is ignored.
WAIT: Final = """
import os, sys
lines = sys.stdin.buffer.read().splitlines(True)
if len(lines) > 1:
    order = lines[-1] if lines[-1].endswith(b"\\n") else lines[-2]
    if order != lines[0]:
        reading, writing = os.pipe()
        if os.fork() == 0:
            # A pipe takes 64 KiB at once, and certificates may be longer.
            os.close(reading)
            with open(writing, "wb") as pipe:
                pipe.write(lines[0] + order)
            os._exit(0)
        os.close(writing)
        os.dup2(reading, 0)
        # -P: a file of the working directory must not replace a module.
        os.execv(sys.executable, [sys.executable, "-P", "-m", sys.argv[1], *sys.argv[2:]])
"""


#: What this process writes to its reapers.
_PIPES: Final[WeakSet[Any]] = WeakSet()


def _close_pipes() -> None:
    for pipe in list(_PIPES):
        pipe.close()


# A reaper waits until each process that has its pipe has ended, and a forked child may live on.
os.register_at_fork(after_in_child=_close_pipes)


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """What a reaper does if this process ends.

    Args:
        grace_s: seconds between SIGTERM and SIGKILL. Replicas that this process has begun to stop
            keep what is left of their time.
        keep: stop the containers, but do not remove them.
        spares_complete: leave a launch alone whose replicas have all started.
        waiting: the task that leaves the queue for GPUs; None to leave the places of a task.
    """

    grace_s: float = 0.0
    keep: bool = False
    spares_complete: bool = False
    waiting: TaskAttempt | None = None


class Reaper:
    """Stops and removes the containers of one launch if this process ends before `dismiss`.

    It logs nothing. It cannot help in a container that ends with the process that made it. It opens
    a connection of its own, and leaves containers of other launches alone. It does nothing before
    its first order; a new order replaces the last one.
    """

    def __init__(self, endpoint: Endpoint, app_id: str, launch_id: str) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - ourselves
            # Isolated and without site-packages, which would take most of the start.
            [sys.executable, "-I", "-S", "-c", WAIT, __name__, app_id, launch_id],
            stdin=subprocess.PIPE,
            # Without a buffer, whose lock another thread may hold at a fork.
            bufsize=0,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # A signal to the process group of the task must not end the reaper.
            start_new_session=True,
        )
        _PIPES.add(self._process.stdin)
        self._send(endpoint_fields(endpoint))

    def order(self, order: Order) -> None:
        """Replace the order."""
        self._send(asdict(order))

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None  # noqa: S101 - for the types
        # A reaper that failed to start changes nothing.
        with suppress(OSError):
            rest = json.dumps(message).encode() + b"\n"
            while rest:
                rest = rest[self._process.stdin.write(rest) :]

    def dismiss(self) -> None:
        """End the reaper without a change to the app."""
        self._process.kill()
        self._process.communicate()


@contextmanager
def undoing_launch(engine: Engine, app_id: str, launch_id: str) -> Iterator[None]:
    """Let another process undo a launch if this one is killed before the app is complete.

    An engine in memory gets none, nor does a frozen program, which has no Python to start.
    """
    reaper = None
    # Without a second process, a launch works, too.
    with suppress(OSError):
        endpoint = engines.endpoint_of(engine)
        if endpoint is not None and not getattr(sys, "frozen", False):
            reaper = Reaper(endpoint, app_id, launch_id)
            reaper.order(Order(spares_complete=True))
    try:
        yield
    finally:
        if reaper is not None:
            reaper.dismiss()


def endpoint_fields(endpoint: Endpoint) -> dict[str, Any]:
    """Return an endpoint as JSON data, with its certificates and its key."""
    return asdict(endpoint)


def endpoint_of(fields: dict[str, Any]) -> Endpoint:
    """Return the endpoint of `endpoint_fields`."""
    given: dict[str, Any] = {
        key: Pem(**value) if isinstance(value, dict) and key != "swarm" else value
        for key, value in fields.items()
    }
    if swarm := given.get("swarm"):
        tuples: dict[str, Any] = {
            key: tuple(one) if isinstance(one, list) else one for key, one in swarm.items()
        }
        given["swarm"] = Swarm(**tuples)
    return Endpoint(**given)


def repeat(
    engine: Engine,
    app_id: str,
    launch_id: str,
    order: Order,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Carry out an order several times, until the launch was spared once.

    A complete launch may have been adopted, and look incomplete later, while it is restarted.
    """
    for pause_s in _PAUSES_S:
        sleep(pause_s)
        with suppress(AirflowTorchXError):
            if carry_out(engine, app_id, launch_id, order):
                return


def carry_out(engine: Engine, app_id: str, launch_id: str, order: Order) -> bool:
    """Carry out an order once, and return whether the launch was spared. Idempotent."""
    spared = False
    if order.spares_complete:
        found = observed_apps(lifecycle.rows_of_launch(engine, app_id, launch_id))
        spared = any(not one.is_incomplete for one in found)
    if not spared:
        lifecycle.stop_launch(engine, app_id, launch_id, grace_s=order.grace_s, keep=order.keep)
        if order.waiting is None and not order.keep:
            _discard_markers(engine, app_id, launch_id)
    if order.waiting is not None:
        task_places.leave_queue(engine, order.waiting)
    for row in engine.rows({labels.SWARM_LOCK: app_id}):
        engine.discard(row.id)
    return spared


def _discard_markers(engine: Engine, app_id: str, launch_id: str) -> None:
    """Remove what a launch outside Airflow has in the queue for GPUs."""
    wanted = {labels.GPU_APP: app_id, labels.LAUNCH_ID: launch_id}
    for row in engine.rows(wanted):
        if labels.DAG_ID not in row.labels:
            engine.discard(row.id)


def _main(app_id: str, launch_id: str) -> None:
    endpoint, order = (json.loads(sys.stdin.readline()) for _ in range(2))
    waiting = order.pop("waiting")
    given = Order(**order, waiting=waiting and TaskAttempt(**waiting))
    with engines.connect(endpoint_of(endpoint)) as engine:
        repeat(engine, app_id, launch_id, given)


if __name__ == "__main__":
    _main(*sys.argv[1:])
