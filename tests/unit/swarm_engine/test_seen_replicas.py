"""Tests of how the replicas of a swarm are kept up to date with few requests."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import pytest

from airflow_torchx.core.engine.labels import APP_ID
from airflow_torchx.core.plan.identity import container_name
from airflow_torchx.schedulers.swarm_scheduler import SwarmScheduler
from airflow_torchx.specs import AppDef, Resource, Role
from airflow_torchx.swarm_engine.events import SwarmEvents
from airflow_torchx.swarm_engine.managers import Managers
from airflow_torchx.swarm_engine.seen_replicas import SeenReplicas
from airflow_torchx.swarm_engine.service_events import changed_service
from airflow_torchx.swarm_engine.services import Services
from airflow_torchx.testing import FakeSwarm
from airflow_torchx.testing.program import Program

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from airflow_torchx.core.engine.containers import ContainerSpec

#: The list of tasks that end, which is short.
ENDED: Final = "the ended"
WHOLE: Final = "all tasks"


class Requests(Services):
    """The services of a fake swarm; records which tasks were listed."""

    def __init__(self, swarm: FakeSwarm) -> None:
        super().__init__(swarm._manager, swarm.clock, swarm.pause)  # noqa: SLF001
        self.lists: list[str] = []

    def tasks(self, wanted: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
        """Return tasks."""
        (label,) = wanted["label"]
        of_app = label.partition("=")[2] or WHOLE
        self.lists.append(ENDED if "desired-state" in wanted else of_app)
        return super().tasks(wanted)


@pytest.fixture
def swarm() -> FakeSwarm:
    """Return a swarm whose programs run until they are ended."""
    return FakeSwarm(images=["image"], programs=Program(runs_for_s=None))


@pytest.fixture
def spec(swarm: FakeSwarm) -> ContainerSpec:
    """Return what a replica is made of."""
    role = Role("worker", "image", entrypoint="true", resource=Resource(cpu=0, gpu=0, memMB=8))
    prepared = SwarmScheduler("test", swarm).prepare(AppDef("app", [role]))
    swarm.create_network(prepared.request.network)
    return prepared.request.containers[0]


def _launch(swarm: FakeSwarm, spec: ContainerSpec, app_id: str) -> str:
    """Launch an app of one replica, and return the id of its service."""
    name = container_name(app_id, "worker", 0)
    made = swarm.create(replace(spec, name=name, labels={**spec.labels, APP_ID: app_id}))
    swarm.start(made)
    return made


def test_an_idle_swarm_costs_one_short_list(swarm: FakeSwarm, spec: ContainerSpec) -> None:
    """While replicas run and nothing changes, a look asks for tasks that end, and for no others."""
    for number in range(34):
        _launch(swarm, spec, f"app-{number}")
    services = Requests(swarm)
    seen = SeenReplicas(services)
    services.lists.clear()

    seen.refresh(frozenset())

    assert [ENDED] == services.lists
    assert {"running"} == {one.state for one in seen.found.values()}
    assert not seen.are_starting


def test_an_end_is_seen_by_a_list_of_its_app(swarm: FakeSwarm, spec: ContainerSpec) -> None:
    """The end of a replica, which no event reports, costs a list of the tasks of its app."""
    ids = [_launch(swarm, spec, f"app-{number}") for number in range(34)]
    services = Requests(swarm)
    seen = SeenReplicas(services)
    services.lists.clear()

    swarm.end(ids[7], 3)
    seen.refresh(frozenset())

    assert [ENDED, "app-7"] == services.lists
    assert 3 == seen.found[ids[7]].exit_code
    assert 33 == sum(one.state == "running" for one in seen.found.values())
    seen.refresh(frozenset())
    assert [ENDED, "app-7", ENDED] == services.lists


def test_a_change_by_a_client_is_seen_by_a_list_of_its_app(
    swarm: FakeSwarm, spec: ContainerSpec
) -> None:
    """Services that are started, renamed or removed are looked at, those of others are not."""
    ids = [_launch(swarm, spec, f"app-{number}") for number in range(64)]
    services = Requests(swarm)
    seen = SeenReplicas(services)
    services.lists.clear()

    new = _launch(swarm, spec, "new")
    swarm.rename(ids[3], "other-name")
    seen.refresh({new, ids[3], "other" * 5})

    assert {ENDED, "new", "app-3"} == set(services.lists)
    assert "new" == seen.found[new].labels[APP_ID]
    swarm.remove(new)
    seen.refresh({new})
    assert new not in seen.found


def test_many_changes_are_seen_by_one_list(swarm: FakeSwarm, spec: ContainerSpec) -> None:
    """If many apps change at once, or events may be missing, all tasks are listed."""
    ids = [_launch(swarm, spec, f"app-{number}") for number in range(34)]
    services = Requests(swarm)
    seen = SeenReplicas(services)
    services.lists.clear()

    for one in ids[:20]:
        swarm.end(one)
    seen.refresh(frozenset())
    seen.refresh(None)

    assert [ENDED, WHOLE, ENDED, WHOLE] == services.lists
    assert 20 == sum(one.state == "exited" for one in seen.found.values())


def test_a_lost_node_is_seen(swarm: FakeSwarm, spec: ContainerSpec) -> None:
    """Replicas of a node that is lost are seen as dead by lists of their apps."""
    ids = {_launch(swarm, spec, f"app-{number}"): number for number in range(3)}
    seen = SeenReplicas(Requests(swarm))
    swarm.lose("box1")

    seen.refresh(frozenset())

    assert {"dead", "running"} == {one.state for one in seen.found.values()}
    assert ids.keys() == seen.found.keys()


def test_events_know_the_node_of_what_runs(swarm: FakeSwarm, spec: ContainerSpec) -> None:
    """While events are read, the container of a replica that runs is known without a request."""
    runs, ends = (_launch(swarm, spec, app_id) for app_id in ("app-1", "app-2"))
    swarm.end(ends)
    events = SwarmEvents(Managers([]), Requests(swarm))

    found = events.running(runs)

    assert found is not None
    assert swarm.placed() == {found.name: "box1", "app-2-worker-0": "box2"}
    assert found.container_id
    assert events.running(ends) is None
    events.close()
    assert events.running(runs) is None


def test_the_service_of_an_event() -> None:
    """An event names the service that changed; one that was created does not run yet."""
    update = b'{"Type": "service", "Action": "update", "Actor": {"ID": "s1"}}'

    assert "s1" == changed_service(update)
    assert "" == changed_service(update.replace(b"update", b"create"))
    assert "" == changed_service(b'{"Type": "node", "Action": "update", "Actor": {"ID": "n1"}}')
    assert "" == changed_service(b"{")
