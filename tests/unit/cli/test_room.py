"""Tests the command line on a swarm in memory."""

from __future__ import annotations

import pytest

from airflow_torchx.cli.daemon import typed
from airflow_torchx.cli.finding import find
from airflow_torchx.cli.room import await_room
from airflow_torchx.core.engine import labels
from airflow_torchx.errors import AppNotFoundError, LaunchInterruptedError
from airflow_torchx.testing import FakeEngine, FakeNode
from tests.unit.test_fake_swarm import gang, launch, made


def test_an_interrupt_while_an_app_waits_for_room() -> None:
    """It removes the app, of which no replica has started, and no other one."""
    engine, scheduler = made([FakeNode("box1", cpus=2)])
    launch(scheduler, "fits", gang(1, cpu=2))
    info = scheduler.prepare(gang(1, cpu=2), {}, scheduler.new_context("waits"))
    scheduler.launch(info)
    assert engine.rows({labels.APP_ID: "waits"})

    with pytest.raises(LaunchInterruptedError, match="'waits' waited for room on the swarm"):
        await_room(engine, info.request, lambda: True)

    assert {"fits"} == {row.labels[labels.APP_ID] for row in engine.rows({labels.APP_ID: None})}


def test_an_app_that_has_room_is_launched() -> None:
    """Nothing interrupts its launch any more once it runs; on one daemon, it runs at once."""
    engine, scheduler = made()
    info = scheduler.prepare(gang(), {}, scheduler.new_context("app"))
    scheduler.launch(info)
    engine.sleep(1)

    assert await_room(engine, info.request, lambda: False)
    assert await_room(FakeEngine(), info.request, lambda: True)

    assert {"running"} == {row.state for row in engine.rows({labels.APP_ID: "app"})}


def test_an_app_that_is_not_there() -> None:
    """The error names the swarm, and the command that lists its apps."""
    engine, scheduler = made()
    launch(scheduler, "trainer-x1", gang())

    assert "trainer-x1" == find(engine, "docker_swarm://torchx/trainer")
    assert "docker_swarm://torchx/trainer-x1" == typed(engine, "trainer-x1")
    with pytest.raises(AppNotFoundError, match="no app 'other' on this swarm") as raised:
        find(engine, "docker_swarm://gpu_cluster/other")
    assert "`airflow-torchx list -s docker_swarm` lists all apps" in str(raised.value)
    assert "set DOCKER_HOST to a manager of its swarm" in str(raised.value)


def test_an_app_that_never_gets_room() -> None:
    """It is not said to be launched."""
    engine, scheduler = made([FakeNode("box1", cpus=2)])
    launch(scheduler, "fits", gang(1, cpu=2))
    context = scheduler.new_context("waits")
    info = scheduler.prepare(gang(1, cpu=2), {"pending_timeout_s": 5}, context)
    scheduler.launch(info)
    engine.sleep(6)

    assert not await_room(engine, info.request, lambda: False)
