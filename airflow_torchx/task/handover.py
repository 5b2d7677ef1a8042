"""Makes sure that an app has an owner while its task moves from a worker to the triggerer."""

from __future__ import annotations

import time
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Final

import structlog

from airflow_torchx.airflow_compat import after_report, has_supervisor
from airflow_torchx.core.task.shutdown import ExitAction, after_deferral
from airflow_torchx.errors import AirflowTorchXError
from airflow_torchx.runtime.engines import connect, endpoint_of
from airflow_torchx.task.trigger_hold import PICK_UP_S

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.task.context import TaskContext

_log = structlog.get_logger("airflow_torchx.task")

# Times to look at the state of the task, after the report: a refused deferral shows at once.
_LOOKS_S: Final = (0.0, PICK_UP_S / 2, PICK_UP_S)
_STATE_S: Final = 5.0


def watch_handover(
    task: TaskContext,
    engine: Engine,
    stop: Callable[[Engine], None],
    should_leave: Callable[[], bool],
) -> None:
    """Let this process call ``stop`` if a user ends the task before a triggerer has its trigger.

    Airflow then drops the trigger without a call to it. Airflow may also refuse the deferral, as
    a user has ended the task since this process last looked. The engine of ``stop`` is a new
    connection, because the task closes its own.
    """

    def watch() -> None:
        began_s = time.monotonic()
        for look_s in _LOOKS_S:
            _sleep_until(began_s + look_s, should_leave)
            state = task.state(_STATE_S)
            action = after_deferral(state)
            if action is ExitAction.STOP:
                _log.warning(
                    "the task was ended while it deferred (task state: %s)",
                    state or "none, as after a clear",
                )
                with suppress(AirflowTorchXError), _connected(engine) as own:
                    stop(own)
            if action is not ExitAction.HAND_OVER or should_leave():
                return

    if has_supervisor():
        after_report(watch)


def _connected(engine: Engine) -> AbstractContextManager[Engine]:
    endpoint = endpoint_of(engine)
    return nullcontext(engine) if endpoint is None else connect(endpoint)


def _sleep_until(time_s: float, should_leave: Callable[[], bool]) -> None:
    while (left_s := time_s - time.monotonic()) > 0 and not should_leave():
        time.sleep(min(left_s, 0.1))
