"""Apps that do not fit wait as a whole, and each GPU is in one replica."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from airflow_torchx.core.engine import labels
from airflow_torchx.specs import AppDef, AppState, Resource, Role
from tests.conftest import BUSYBOX
from tests.swarm.hosts import wait_until

if TYPE_CHECKING:
    from airflow_torchx.schedulers.swarm_scheduler import SwarmScheduler
    from airflow_torchx.swarm_engine import SwarmEngine

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]


def _gang(replicas: int, command: str, gpus: int = 1) -> AppDef:
    role = Role(
        "trainer",
        image=BUSYBOX,
        entrypoint="sh",
        args=["-c", command],
        num_replicas=replicas,
        resource=Resource(cpu=0, gpu=gpus, memMB=16),
    )
    return AppDef("gang", roles=[role])


def _launch(scheduler: SwarmScheduler, app_id: str, app: AppDef) -> None:
    context = scheduler.new_context(app_id)
    scheduler.schedule(scheduler.submit_dryrun(app, {"stop_grace_s": 1}, context=context))


def test_two_gangs_take_turns(scheduler: SwarmScheduler, app_id: str) -> None:
    """Each of two apps needs four of the six GPUs; both end, and none of them ever has a part.

    The ids of GPUs in the variables of all replicas of an app differ.
    """
    names = [f"{app_id}-{letter}" for letter in "ab"]

    def run(name: str) -> AppState:
        _launch(scheduler, name, _gang(4, "echo $DOCKER_RESOURCE_GPU; sleep 1"))
        return scheduler.wait(name).state

    for _ in range(3):
        with ThreadPoolExecutor(2) as pool:
            assert [AppState.SUCCEEDED] * 2 == list(pool.map(run, names))
        for name in names:
            gpus = {next(scheduler.log_iter(name, "trainer", index)) for index in range(4)}
            assert len(gpus) == 4
            scheduler.delete(name)


def test_an_app_that_never_fits_starts_nothing(
    scheduler: SwarmScheduler, swarm_engine: SwarmEngine, app_id: str
) -> None:
    """It says what is asked and free, and no replica of it runs; a cancel ends it."""
    _launch(scheduler, app_id, _gang(7, "true"))

    why = swarm_engine.place(app_id)

    assert "7 replicas, one of which asks for 0 CPUs, 16.0 MiB, 1 gpu; 6 of them would fit" in why
    assert {"created"} == {row.state for row in swarm_engine.rows({labels.APP_ID: app_id})}
    scheduler.cancel(app_id)
    seen = scheduler.describe(app_id)
    assert seen is not None
    assert AppState.CANCELLED is seen.state


def test_a_waiting_app_starts_when_there_is_room(scheduler: SwarmScheduler, app_id: str) -> None:
    """Who waits for an app starts it once another one has ended."""
    first, second = f"{app_id}-a", f"{app_id}-b"
    _launch(scheduler, first, _gang(3, "while :; do sleep 0.1; done", gpus=2))
    wait_until(lambda: scheduler.describe(first).state is AppState.RUNNING)  # type: ignore[union-attr]
    _launch(scheduler, second, _gang(1, "true"))

    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(scheduler.wait, second)
        assert AppState.SUBMITTED is scheduler.describe(second).state  # type: ignore[union-attr]
        scheduler.cancel(first)
        assert AppState.SUCCEEDED is ended.result().state
