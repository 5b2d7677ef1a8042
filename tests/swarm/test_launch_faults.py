"""Launches that go wrong on a swarm: what the error says, and that nothing is left."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from airflow_torchx.core.engine import labels
from airflow_torchx.core.state.report import failure_card
from airflow_torchx.docker_engine.request import request
from airflow_torchx.errors import ImagePullError, LaunchError
from airflow_torchx.runtime.engines import diagnose
from airflow_torchx.schedulers.swarm_scheduler import SwarmScheduler
from airflow_torchx.specs import AppDef, AppState, BindMount
from airflow_torchx.swarm_engine import SwarmEngine
from tests.conftest import BUSYBOX
from tests.swarm.hosts import wait_until
from tests.swarm.test_lifecycle import OBEDIENT, _app, _by_replica, _launch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_torchx.docker_engine.request import Client
    from tests.swarm.hosts import Hosts

pytestmark = [
    pytest.mark.docker,
    pytest.mark.timeout(180),
    pytest.mark.usefixtures("pruned"),
]


@pytest.fixture
def manager(hosts: Hosts) -> Iterator[Client]:
    """Return a client of the manager's daemon."""
    with closing(hosts[1].client) as client:
        yield client


def _with(**fields: object) -> AppDef:
    app = _app("echo started")
    return replace(app, roles=[replace(app.roles[0], **fields)])  # type: ignore[arg-type]


def _errors(scheduler: SwarmScheduler, app_id: str) -> list[tuple[AppState, int | None, str]]:
    """Return how each failed replica of an app has ended, once all have."""
    ended = scheduler.wait(app_id)
    assert AppState.FAILED is ended.state
    failed = [one for one in ended.roles_statuses[0].replicas if one.state is AppState.FAILED]
    return [(one.state, one.exit_code, one.error) for one in failed]


def test_a_program_that_does_not_exist(scheduler: SwarmScheduler, app_id: str) -> None:
    """Each replica is FAILED with 127 and the reason of the runtime, as on one daemon."""
    _launch(scheduler, app_id, _with(entrypoint="/no/such"), failure_policy="wait_all")

    failed = _errors(scheduler, app_id)

    assert [(AppState.FAILED, 127)] * 3 == [one[:2] for one in failed]
    assert all("stat /no/such: no such file or directory" in one[2] for one in failed)


def test_a_host_folder_that_a_node_does_not_have(scheduler: SwarmScheduler, app_id: str) -> None:
    """The replica there is FAILED without an exit code, and the error has the path."""
    mount = BindMount("/no/such/folder", "/data")
    _launch(scheduler, app_id, _with(mounts=[mount]), failure_policy="wait_all")

    failed = _errors(scheduler, app_id)
    app = scheduler.describe(app_id)

    assert app is not None
    assert "Create /no/such/folder on the host" in failure_card(app, [])
    assert [(AppState.FAILED, None)] * 3 == [one[:2] for one in failed]
    assert all("bind source path does not exist: /no/such/folder" in one[2] for one in failed)


def test_a_registry_that_is_away(scheduler: SwarmScheduler, app_id: str, hosts: Hosts) -> None:
    """A launch that cannot find out its image creates nothing."""
    with hosts.registry() as registry:
        pass

    with pytest.raises(ImagePullError, match=f"{registry.host}.*connection refused"):
        _launch(scheduler, app_id, _with(image=f"{registry.host}/team/train:1"))

    assert () == scheduler.engine.rows({labels.APP_ID: app_id})


def test_a_registry_that_goes_away_before_the_nodes_pull(
    app_id: str, hosts: Hosts, manager: Client
) -> None:
    """A replica whose node cannot pull is FAILED at once, once, and the error says why."""
    elsewhere = hosts.endpoint(constraints=("node.hostname!=box1",))
    with SwarmEngine.connect(elsewhere) as engine:
        scheduler = SwarmScheduler("gpu_cluster", engine)
        with hosts.registry() as registry:
            name = f"{registry.host}/team/{app_id}"
            manager.tag(BUSYBOX, name, "1")
            assert "error" not in manager.push(name, "1")
            assert f"{name}:1@" in str(engine.find_image(f"{name}:1"))
        _launch(scheduler, app_id, _with(image=f"{name}:1"), failure_policy="wait_all")

        failed = _errors(scheduler, app_id)

        assert [(AppState.FAILED, None)] * 3 == [one[:2] for one in failed]
        for _, _, error in failed:
            assert f"No such image: {name}:1@sha256:" in error
            assert "connection refused" in error
        tasks = manager.tasks({"label": f"{labels.APP_ID}={app_id}"})
        assert ["rejected"] * 3 == [task["Status"]["State"] for task in tasks]
        scheduler.delete(app_id)
    manager.remove_image(f"{name}:1")


@pytest.mark.parametrize("index", [0, 2])
def test_a_service_of_another_program_has_the_name(
    index: int, scheduler: SwarmScheduler, app_id: str, manager: Client
) -> None:
    """The launch fails with the name, leaves nothing, and does not touch that service."""
    name = f"{app_id}-role0-{index}"
    template = {"ContainerSpec": {"Image": BUSYBOX, "Command": ["true"]}}
    body = {"Name": name, "Mode": {"Replicated": {"Replicas": 0}}, "TaskTemplate": template}
    service = request(manager, "POST", "/services/create", json=body).json()["ID"]
    before = manager.inspect_service(service)["Version"]
    try:
        with pytest.raises(LaunchError, match=f"service {name} already exists") as raised:
            _launch(scheduler, app_id, _app("true"))

        assert "All replicas of the app were removed." in str(raised.value)
        assert () == scheduler.engine.rows({labels.APP_ID: app_id})
        assert before == manager.inspect_service(service)["Version"]
    finally:
        manager.remove_service(service)


def test_a_bridge_has_the_name_of_the_network(
    scheduler: SwarmScheduler, app_id: str, network_name: str, manager: Client, hosts: Hosts
) -> None:
    """A bridge of the manager's own does not hide the overlay network, which is created."""
    bridge = manager.create_network(network_name)["Id"]
    try:
        report = str(diagnose(hosts.endpoint(), network_name, ()))
        assert f"Network {network_name!r} will be created by the first launch." in report
        _launch(scheduler, app_id, _app("true"), network=network_name)
        assert AppState.SUCCEEDED is scheduler.wait(app_id).state
        scheduler.delete(app_id)
    finally:
        manager.remove_network(bridge)
        (overlay,) = scheduler.engine.networks(network_name)
        wait_until(lambda: not manager.inspect_network(overlay.id).get("Containers"))
        scheduler.engine.remove_network(overlay.id)


def test_a_cancelled_app_keeps_what_it_was(
    scheduler: SwarmScheduler, app_id: str, manager: Client
) -> None:
    """State, exit code and log of a cancelled app stay, also if the swarm keeps no old tasks."""
    swarm = manager.inspect_swarm()
    kept = swarm["Spec"]

    def limit_to(tasks: int) -> None:
        found = manager.inspect_swarm()
        spec = {**found["Spec"], "Orchestration": {"TaskHistoryRetentionLimit": tasks}}
        manager.update_swarm(found["Version"]["Index"], swarm_spec=spec)

    limit_to(0)
    try:
        _launch(scheduler, app_id, _app(OBEDIENT), stop_grace_s=60)
        logs = [scheduler.log_iter(app_id, "role0", index, should_tail=True) for index in range(3)]
        assert ["ready\n"] * 3 == [next(log) for log in logs]

        scheduler.cancel(app_id)
        # Another app gives the swarm a reason to look for tasks that it need not keep.
        _launch(scheduler, f"{app_id}-b", _app("true"))
        scheduler.wait(f"{app_id}-b")

        seen = scheduler.describe(app_id)
        assert seen is not None
        assert {(AppState.CANCELLED, 0)} == set(_by_replica(seen).values())
        for index in range(3):
            assert ["ready\n", "bye\n"] == [*scheduler.log_iter(app_id, "role0", index)]
    finally:
        limit_to(kept["Orchestration"]["TaskHistoryRetentionLimit"])
