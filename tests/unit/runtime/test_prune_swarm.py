"""Tests of what has no owner on a swarm in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from airflow_torchx.core.task.prune import Policy
from airflow_torchx.runtime.prune import Pruner
from airflow_torchx.testing import FakeNode
from tests.unit.test_fake_swarm import gang, launch, made

if TYPE_CHECKING:
    from airflow_torchx.testing import FakeSwarm

HOUR_S: Final = 3600.0


def found(engine: FakeSwarm, older_than_s: float = 24 * HOUR_S) -> dict[str, str]:
    """Return what has no owner, and why."""
    survey = Pruner(engine, policy=Policy(older_than_s=older_than_s)).survey()
    return {one.name: one.why for one in survey.found}


def test_an_app_that_waits_for_room() -> None:
    """It may have a client for which it waits, so it is left as long as one that has ended."""
    engine, scheduler = made([FakeNode("box1", cpus=2)])
    launch(scheduler, "fits", gang(1, cpu=1))
    launch(scheduler, "waits", gang(1, cpu=2))

    engine.sleep(2 * HOUR_S)
    survey = Pruner(engine).survey()

    assert () == survey.found
    stays = "and stays until 1 d after its launch (--older-than)"
    assert {f"it waits for room, outside Airflow, {stays}", "it runs, outside Airflow"} == {
        *survey.left
    }
    engine.sleep(23 * HOUR_S)
    assert {"waits": "it waits for room, outside Airflow"} == found(engine)


def test_a_launch_that_broke_off() -> None:
    """Without a service for each replica, an app does not wait: its client was killed."""
    engine, scheduler = made()
    context = scheduler.new_context("broken")
    engine.create_network("torchx-swarm")
    for spec in scheduler.submit_dryrun(gang(), {}, context=context).request.containers[:2]:
        engine.create(spec)

    assert {} == found(engine)
    engine.sleep(61)
    assert {"broken": "its launch broke off"} == found(engine)
    pruner = Pruner(engine)
    pruner.remove(pruner.survey().found)
    assert () == engine.rows({})


def test_what_it_has_written_is_unknown() -> None:
    """A manager does not know the sizes of containers on other nodes, so none is shown."""
    engine, scheduler = made()
    launch(scheduler, "ended", gang())
    scheduler.cancel("ended")
    engine.sleep(1)

    (one,) = Pruner(engine, policy=Policy(older_than_s=0)).survey().found

    assert ("ended", None) == (one.name, one.size_bytes)
