"""What has no owner on a swarm is removed: by prune, or by the reaper of a killed client."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import pytest

from airflow_torchx.core.engine import labels
from airflow_torchx.core.task.prune import Policy
from airflow_torchx.docker_engine.request import request
from airflow_torchx.runtime.prune import Pruner
from airflow_torchx.specs import AppDef, Resource, Role
from airflow_torchx.swarm_engine import SwarmEngine
from tests.conftest import BUSYBOX
from tests.swarm.hosts import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_torchx.core.engine.containers import EngineInfo
    from airflow_torchx.schedulers.swarm_scheduler import SwarmScheduler
    from tests.swarm.hosts import Hosts

pytestmark = [pytest.mark.docker, pytest.mark.timeout(180)]

#: Launches an app, and stops for good once a request to the manager was answered so many times.
CLIENT: Final = """
import sys
import threading
from airflow_torchx.core.connection.endpoint import Endpoint
from airflow_torchx.core.connection.swarm import Swarm
from airflow_torchx.schedulers.swarm_scheduler import SwarmScheduler
from airflow_torchx.specs import AppDef, Role
from airflow_torchx.swarm_engine import SwarmEngine
from airflow_torchx.swarm_engine.services import Services

verb, nth, app_id, image = sys.argv[1:]
known, turn, count = getattr(Services, verb), threading.Lock(), 0

def counting(*args, **options):
    global count
    with turn:
        found = known(*args, **options)
        count += 1
        if count == int(nth):
            print("held", flush=True)
            threading.Event().wait()
        return found

setattr(Services, verb, counting)
role = Role("sh", image, entrypoint="sleep", args=["600"], num_replicas=3)
with SwarmEngine.connect(Endpoint(swarm=Swarm())) as engine:
    scheduler = SwarmScheduler("test", engine)
    app = AppDef("app", [role])
    context = scheduler.new_context(app_id)
    scheduler.launch(scheduler.prepare(app, {"stop_grace_s": 0}, context))
"""


class LaterSwarm(SwarmEngine):
    """A swarm whose clock is some minutes ahead, for which what was made just now is old."""

    def info(self) -> EngineInfo:
        """Describe it."""
        found = super().info()
        assert found.system_time is not None
        return replace(found, system_time=found.system_time + timedelta(minutes=5))


@pytest.fixture
def foreign(hosts: Hosts) -> Iterator[str]:
    """Return the id of a stopped service of another program, with labels of TorchX."""
    given = {labels.APP_ID: "foreign", labels.ROLE_NAME: "sh", labels.REPLICA_ID: "0"}
    body = {
        "Name": "foreign",
        "Labels": given,
        "Mode": {"Replicated": {"Replicas": 0}},
        "TaskTemplate": {"ContainerSpec": {"Image": BUSYBOX, "Labels": given}},
    }
    with closing(hosts[1].client) as client:
        service = request(client, "POST", "/services/create", json=body).json()["ID"]
        yield service
        client.remove_service(service)


def _role(*args: str, replicas: int = 3, cpu: float = 0) -> AppDef:
    resource = Resource(cpu=cpu, gpu=0, memMB=-1)
    role = Role(
        "sh",
        BUSYBOX,
        entrypoint=args[0],
        args=[*args[1:]],
        num_replicas=replicas,
        resource=resource,
    )
    return AppDef("app", [role])


def _launch(scheduler: SwarmScheduler, app_id: str, app: AppDef) -> str:
    context = scheduler.new_context(app_id)
    return scheduler.schedule(scheduler.prepare(app, {"stop_grace_s": 0}, context))


def _apps(engine: SwarmEngine, app_id: str) -> set[str]:
    rows = engine.rows({labels.APP_ID: None})
    return {row.labels[labels.APP_ID].removeprefix(app_id) for row in rows}


def test_apps_without_an_owner(
    scheduler: SwarmScheduler, swarm_engine: SwarmEngine, app_id: str, foreign: str, hosts: Hosts
) -> None:
    """Apps that have ended and launches that broke off go; others, and other programs', stay.

    A dry run, `Pruner.survey`, changes nothing.
    """
    for name in ("-ended", "-cancelled", "-runs"):  # each takes half of each node
        program = ("true",) if name == "-ended" else ("sleep", "600")
        _launch(scheduler, f"{app_id}{name}", _role(*program, cpu=1))
        if name == "-ended":
            scheduler.wait(f"{app_id}{name}")
        if name == "-cancelled":
            scheduler.cancel(f"{app_id}{name}")
    _launch(scheduler, f"{app_id}-waits", _role("true", cpu=2))
    broken = scheduler.new_context(f"{app_id}-broken")
    for spec in scheduler.submit_dryrun(_role("true"), {}, context=broken).request.containers[1:]:
        swarm_engine.create(spec)
    before = _apps(swarm_engine, app_id)

    with LaterSwarm.connect(hosts.endpoint()) as later:
        pruner = Pruner(later, policy=Policy(older_than_s=600))
        assert ["its launch broke off"] == [
            one.why for one in pruner.survey().found if one.name.startswith(app_id)
        ]
        pruner = Pruner(later, policy=Policy(older_than_s=60))
        found = [one for one in pruner.survey().found if one.name.startswith(app_id)]
        assert before == _apps(swarm_engine, app_id)
        pruned = pruner.remove(found)

    gone = {"-ended", "-cancelled", "-broken", "-waits"}
    assert (len(gone), []) == (len(pruned.done), pruned.failed)
    assert before - gone == _apps(swarm_engine, app_id)
    assert "-runs" in _apps(swarm_engine, app_id)
    with closing(hosts[1].client) as client:
        assert "foreign" == client.inspect_service(foreign)["Spec"]["Name"]


@pytest.mark.parametrize(
    ("verb", "nth"),
    [("create", 1), ("create", 4), ("start", 1)],
    ids=["one-created", "locked", "one-started"],
)
def test_a_client_that_is_killed_while_it_launches(
    verb: str, nth: int, app_id: str, hosts: Hosts
) -> None:
    """SIGKILL between two requests of a launch leaves no service, also not the lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", CLIENT, verb, str(nth), app_id, BUSYBOX],
        env=os.environ | {"DOCKER_HOST": hosts[1].url},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        assert "held\n" == process.stdout.readline()
    finally:
        process.kill()
        process.communicate()

    def services() -> list[str]:
        with closing(hosts[1].client) as client:
            names = [one["Spec"]["Name"] for one in client.services()]
        return [name for name in names if name.startswith((app_id, "airflow-torchx-"))]

    wait_until(lambda: services() == [])
