"""Nodes that are lost, drained and back: the right state, never a second process."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from airflow_torchx.core.engine import labels
from airflow_torchx.specs import AppState
from tests.swarm.fixtures import gpus
from tests.swarm.hosts import wait_until
from tests.swarm.test_lifecycle import OBEDIENT, _app, _await_ready, _by_replica, _launch

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_torchx.docker_engine.request import Client
    from airflow_torchx.schedulers.swarm_scheduler import SwarmScheduler
    from airflow_torchx.specs import DescribeAppResponse
    from tests.swarm.hosts import Hosts

pytestmark = [
    pytest.mark.docker,
    pytest.mark.timeout(240),
    pytest.mark.usefixtures("pruned"),
]


def _log(
    scheduler: SwarmScheduler, app_id: str, index: int, *, is_followed: bool = False
) -> list[str]:
    return [*scheduler.log_iter(app_id, "role0", index, should_tail=is_followed)]


def _ended(
    scheduler: SwarmScheduler, app_id: str, record_property: Callable[..., None]
) -> DescribeAppResponse:
    """Wait for the end of an app, and have the report of a campaign say how long that took."""
    began = time.monotonic()
    ended = scheduler.wait(app_id)
    record_property("outcome", f"{ended.state.name} after {time.monotonic() - began:.1f} s")
    return ended


def test_a_node_is_lost_and_returns(
    scheduler: SwarmScheduler, app_id: str, hosts: Hosts, record_property: Callable[..., None]
) -> None:
    """A replica of a lost node is FAILED with the node's name; its return does not change that.

    Its log is empty until the node is back, and no reader waits for that.
    """
    _launch(scheduler, app_id, _app(OBEDIENT), stop_grace_s=60)
    _await_ready(scheduler, app_id)

    hosts[3].cut()
    try:
        ended = _ended(scheduler, app_id, record_property)
        seen = scheduler.describe(app_id)
        assert seen is not None
        failed = [one for one in seen.roles_statuses[0].replicas if one.state is AppState.FAILED]
        for is_followed in (False, True):
            assert [] == _log(scheduler, app_id, failed[0].id, is_followed=is_followed)
    finally:
        hosts[3].heal()
    assert AppState.FAILED is ended.state
    assert ["node box3 is lost; the replica may still run there until it returns"] == [
        one.error for one in failed
    ]
    assert 2 == list(_by_replica(seen).values()).count((AppState.CANCELLED, 0))

    # The node stops what it still runs, which ends with 0.
    wait_until(lambda: hosts.ready() == 3)
    with closing(hosts[3].client) as client:
        wait_until(lambda: not client.containers(filters={"name": app_id}))
    again = scheduler.describe(app_id)
    assert again is not None
    assert AppState.FAILED is again.state
    assert {one.id for one in failed} == {
        one.id for one in again.roles_statuses[0].replicas if one.state is AppState.FAILED
    }


def _node(client: Client, name: str) -> dict[str, Any]:
    (found,) = [one for one in client.nodes() if one["Description"]["Hostname"] == name]
    return dict(found)


def _only_error(app: DescribeAppResponse) -> str:
    """Return the error of the only replica that has FAILED; the others were cancelled."""
    (role,) = app.roles_statuses
    failed = [one for one in role.replicas if one.state is AppState.FAILED]
    assert 1 == len(failed)
    assert 2 == list(_by_replica(app).values()).count((AppState.CANCELLED, 0))
    return failed[0].error


def test_a_drained_node_fails_its_replicas(
    scheduler: SwarmScheduler, app_id: str, hosts: Hosts
) -> None:
    """A replica that the swarm has stopped is FAILED, although its program ended with 0.

    On a node that is paused, replicas go on.
    """
    _launch(scheduler, app_id, _app(OBEDIENT), stop_grace_s=60)
    _await_ready(scheduler, app_id)

    try:
        hosts.make("box2", "pause")
        _await_ready(scheduler, app_id)
        hosts.make("box2", "drain")
        ended = scheduler.wait(app_id)
    finally:
        hosts.make("box2", "active")

    assert AppState.FAILED is ended.state
    assert "box2" in _only_error(ended)


@pytest.mark.campaign
def test_a_removed_node_fails_its_replicas(
    scheduler: SwarmScheduler, app_id: str, hosts: Hosts
) -> None:
    """The error has the name of a node that the swarm does not list any more."""
    _launch(scheduler, app_id, _app(OBEDIENT), stop_grace_s=60)
    _await_ready(scheduler, app_id)

    with closing(hosts[1].client) as client:
        client.remove_node(_node(client, "box3")["ID"], force=True)
    try:
        ended = scheduler.wait(app_id)
    finally:
        hosts.rejoin(3)

    assert AppState.FAILED is ended.state
    expected = "node box3 was removed from the swarm, or has been away for a day"
    assert expected == _only_error(ended)


@pytest.mark.campaign
def test_the_daemon_of_a_node_is_killed(
    scheduler: SwarmScheduler, app_id: str, hosts: Hosts, record_property: Callable[..., None]
) -> None:
    """Its replica is FAILED, and stays so when the daemon is back; no second one was started."""
    _launch(scheduler, app_id, _app(OBEDIENT), stop_grace_s=60)
    _await_ready(scheduler, app_id)

    hosts[3].kill()
    try:
        ended = _ended(scheduler, app_id, record_property)
    finally:
        hosts[3].start(*gpus(3))
    assert AppState.FAILED is ended.state
    assert "node box3 is lost" in _only_error(ended)

    wait_until(lambda: hosts.ready() == 3)
    with closing(hosts[3].client) as client:
        wait_until(lambda: not client.containers(filters={"label": f"{labels.APP_ID}={app_id}"}))

    def is_back() -> bool:
        again = scheduler.describe(app_id)
        assert again is not None
        assert AppState.FAILED is again.state
        # The manager knows of the end a moment after the node.
        return "node box3 was lost" in _only_error(again)

    wait_until(is_back)
    tasks = scheduler.engine.rows({labels.APP_ID: app_id})
    assert 3 == len(tasks)
