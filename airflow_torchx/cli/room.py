"""Waits until a swarm has room for an app, whose launch ends with that."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from airflow_torchx.cli.daemon import typed
from airflow_torchx.core.state.describe import Place, next_step, replicas_of
from airflow_torchx.errors import LaunchInterruptedError
from airflow_torchx.runtime import lifecycle, placing, reaper, waiting
from airflow_torchx.runtime.launching import NOTHING_LEFT
from airflow_torchx.runtime.outage import OutageTolerance

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.core.plan.job_plan import JobPlan
    from airflow_torchx.specs import DescribeAppResponse

_PAUSE_S: Final = 0.5


def await_room(engine: Engine, plan: JobPlan, should_stop: Callable[[], bool]) -> bool:
    """Wait until all replicas of an app run on nodes of a swarm, or one has failed.

    An app on one daemon runs already. If this process is killed, a helper process removes the app.

    Returns:
        Whether a node had room for it; False if it has waited for longer than it may.

    Raises:
        LaunchInterruptedError: ``should_stop`` returned True; the app was removed.
        AppNotFoundError: another client removed it.
        EngineUnreachableError: no manager has answered for more than a minute.
    """
    if not placing.has_nodes(engine):
        return True
    with reaper.undoing_launch(engine, plan.app_id, plan.launch_id):
        try:
            return _wait(engine, plan.app_id, should_stop)
        except KeyboardInterrupt as error:
            left = f"Remove what is left: `airflow-torchx delete {typed(engine, plan.app_id)}`."
            error.add_note(left)
            raise


def _wait(engine: Engine, app_id: str, should_stop: Callable[[], bool]) -> bool:
    tolerance = OutageTolerance()
    while True:
        seen: list[DescribeAppResponse] = []
        with tolerance:
            waiting.poll_once(engine, app_id, should_stop=should_stop, on_look=seen.append)
            if not any(isinstance(next_step(app), Place) for app in seen):
                return any(one.node for app in seen for one in replicas_of(app))
        if should_stop():
            lifecycle.delete(engine, app_id)
            what = f"interrupted while app {app_id!r} waited for room on the swarm."
            raise LaunchInterruptedError(what, fix=NOTHING_LEFT)
        time.sleep(_PAUSE_S)
