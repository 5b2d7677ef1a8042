"""Nodes that are lost, drained and back: the right state, never a second process."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from airflow_torchx.specs import AppState
from tests.swarm.hosts import wait_until
from tests.swarm.test_lifecycle import OBEDIENT, _app, _by_replica, _launch

if TYPE_CHECKING:
    from airflow_torchx.schedulers.swarm_scheduler import SwarmScheduler
    from tests.swarm.hosts import Hosts

pytestmark = [pytest.mark.docker, pytest.mark.timeout(240)]


def _running(scheduler: SwarmScheduler, app_id: str) -> None:
    wait_until(lambda: scheduler.describe(app_id).state is AppState.RUNNING)  # type: ignore[union-attr]


def _log(
    scheduler: SwarmScheduler, app_id: str, index: int, *, is_followed: bool = False
) -> list[str]:
    return [*scheduler.log_iter(app_id, "role0", index, should_tail=is_followed)]


def test_a_node_is_lost_and_returns(scheduler: SwarmScheduler, app_id: str, hosts: Hosts) -> None:
    """A replica of a lost node is FAILED with the node's name; its return does not change that.

    Its log can be read again when the node is back. Until then it is empty, and no reader waits.
    """
    _launch(scheduler, app_id, _app(OBEDIENT))
    _running(scheduler, app_id)

    hosts[3].cut()
    try:
        ended = scheduler.wait(app_id)
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
    assert ["ready\n", "bye\n"] == _log(scheduler, app_id, failed[0].id)


def test_a_drained_node_fails_its_replicas(
    scheduler: SwarmScheduler, app_id: str, hosts: Hosts
) -> None:
    """A replica that the swarm has stopped is FAILED, although its program ended with 0."""
    _launch(scheduler, app_id, _app(OBEDIENT))
    _running(scheduler, app_id)

    with closing(hosts[1].client) as client:
        node = next(n for n in client.nodes() if n["Description"]["Hostname"] == "box2")
        spec = node["Spec"]
        client.update_node(node["ID"], node["Version"]["Index"], spec | {"Availability": "drain"})
        try:
            ended = scheduler.wait(app_id)
        finally:
            node = client.inspect_node(node["ID"])
            client.update_node(node["ID"], node["Version"]["Index"], spec)

    assert AppState.FAILED is ended.state
    errors = [one.error for one in ended.roles_statuses[0].replicas if one.state is AppState.FAILED]
    assert len(errors) == 1
    assert "box2" in errors[0]
