"""Apps that do not fit wait as a whole, and each GPU is in one replica."""

from __future__ import annotations

import base64
import pickle
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from airflow_torchx.core.engine import labels
from airflow_torchx.docker_engine import DockerEngine
from airflow_torchx.errors import InvalidAppError
from airflow_torchx.specs import AppDef, AppState, Resource, Role
from airflow_torchx.swarm_engine.managers import Managers
from airflow_torchx.swarm_engine.placing import BUSY, Placing
from airflow_torchx.swarm_engine.services import Services
from tests.conftest import BUSYBOX
from tests.swarm.hosts import wait_until

if TYPE_CHECKING:
    from airflow_torchx.schedulers.swarm_scheduler import SwarmScheduler
    from airflow_torchx.swarm_engine import SwarmEngine
    from tests.swarm.hosts import Hosts

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

ENDLESS = "while :; do sleep 0.1; done"


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


def _launch(scheduler: SwarmScheduler, app_id: str, app: AppDef, **options: object) -> None:
    context = scheduler.new_context(app_id)
    given = {"stop_grace_s": 1, **options}
    scheduler.schedule(scheduler.submit_dryrun(app, given, context=context))


@pytest.mark.timeout(1800)
def test_two_gangs_take_turns(
    scheduler: SwarmScheduler, app_id: str, request: pytest.FixtureRequest
) -> None:
    """Each of two apps needs four of the six GPUs; both end, so none keeps the other one waiting.

    The ids of GPUs in the variables of all replicas of an app differ. In a campaign it is 50
    rounds; on a model of a swarm, with clients that are killed, it always is.
    """
    names = [f"{app_id}-{letter}" for letter in "ab"]

    def run(name: str) -> AppState:
        _launch(scheduler, name, _gang(4, "echo $DOCKER_RESOURCE_GPU"))
        return scheduler.wait(name).state

    for _ in range(50 if request.config.getoption("campaign") else 3):
        with ThreadPoolExecutor(2) as pool:
            assert [AppState.SUCCEEDED] * 2 == list(pool.map(run, names))
        for name in names:
            gpus = {next(scheduler.log_iter(name, "trainer", index)) for index in range(4)}
            assert len(gpus) == 4
            scheduler.delete(name)


def test_an_app_that_never_fits_is_refused(
    scheduler: SwarmScheduler, swarm_engine: SwarmEngine, app_id: str
) -> None:
    """It is refused before anything is created, with what is asked and what each node has."""
    with pytest.raises(InvalidAppError) as error:
        _launch(scheduler, app_id, _gang(7, "true"))

    assert "7 replicas with 0 CPUs, 16.0 MiB, 1 gpu each; 6 of 7 would fit" in str(error.value)
    assert "The nodes have box1: " in str(error.value)
    assert () == swarm_engine.rows({labels.APP_ID: app_id})


def test_a_waiting_app_is_cancelled(
    scheduler: SwarmScheduler, swarm_engine: SwarmEngine, app_id: str
) -> None:
    """Nothing of an app that waits runs, and it says why; a cancel ends the wait."""
    first, second = f"{app_id}-a", f"{app_id}-b"
    _launch(scheduler, first, _gang(3, ENDLESS, gpus=2))
    _launch(scheduler, second, _gang(2, "true"), pending_timeout_s=3600)

    why = swarm_engine.place(second)

    assert "asked are 2 replicas with 0 CPUs, 16.0 MiB, 1 gpu each; 0 of 2 would fit" in why
    seen = scheduler.describe(second)
    assert seen is not None
    assert (AppState.PENDING, why) == (seen.state, seen.msg)
    scheduler.cancel(second)
    assert AppState.CANCELLED is scheduler.describe(second).state  # type: ignore[union-attr]


def test_an_app_that_waits_for_too_long_fails(scheduler: SwarmScheduler, app_id: str) -> None:
    """It fails with the reason, and nothing of it runs."""
    first, second = f"{app_id}-a", f"{app_id}-b"
    _launch(scheduler, first, _gang(3, ENDLESS, gpus=2))
    _launch(scheduler, second, _gang(1, "true"), pending_timeout_s=0)

    ended = scheduler.wait(second)

    assert AppState.FAILED is ended.state
    (replica,) = ended.roles_statuses[0].replicas
    assert replica.error.startswith("no room within 0 s (pending_timeout_s")
    assert "asked are 1 replica with 0 CPUs, 16.0 MiB, 1 gpu; 0 of 1 would fit" in replica.error


def test_each_replica_has_a_node_and_gpus(scheduler: SwarmScheduler, app_id: str) -> None:
    """The description names both, and the options of placement choose the nodes."""

    def launched(letter: str, replicas: int, **options: object) -> dict[str, list[str]]:
        name = f"{app_id}-{letter}"
        _launch(scheduler, name, _gang(replicas, ENDLESS), **options)
        seen = scheduler.describe(name)
        assert seen is not None
        found: dict[str, list[str]] = {}
        for one in seen.roles_statuses[0].replicas:
            found.setdefault(one.node, []).extend(one.gpus)
        scheduler.delete(name)
        return {node: sorted(gpus) for node, gpus in sorted(found.items())}

    every = {f"box{number}": [f"GPU-{number}a", f"GPU-{number}b"] for number in (1, 2, 3)}
    assert every == launched("all", 6)
    assert 1 == len(launched("packed", 2, placement="pack"))
    assert [1, 1, 1] == [len(one) for one in launched("spread", 3, placement="spread").values()]
    assert {"box2": every["box2"]} == launched("on", 2, constraints=["node.hostname==box2"])
    assert [1, 1] == [len(one) for one in launched("few", 2, max_replicas_per_node=1).values()]


def test_a_waiting_app_starts_when_there_is_room(scheduler: SwarmScheduler, app_id: str) -> None:
    """Who waits for an app starts it once another one has ended."""
    first, second = f"{app_id}-a", f"{app_id}-b"
    _launch(scheduler, first, _gang(3, ENDLESS, gpus=2))
    wait_until(lambda: scheduler.describe(first).state is AppState.RUNNING)  # type: ignore[union-attr]
    _launch(scheduler, second, _gang(1, "true"))

    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(scheduler.wait, second)
        assert AppState.PENDING is scheduler.describe(second).state  # type: ignore[union-attr]
        scheduler.cancel(first)
        assert AppState.SUCCEEDED is ended.result().state


#: Starts two replicas of an app, then kills itself, with the lock in its hands.
_KILLED = """
import base64, os, pickle, signal, sys
from airflow_torchx.swarm_engine import SwarmEngine
from airflow_torchx.swarm_engine.services import Services

start, started = Services.start, []
def start_or_die(self, ref, node_id=""):
    if len(started) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    started.append(ref)
    start(self, ref, node_id)

Services.start = start_or_die
endpoint = pickle.loads(base64.b64decode(sys.argv[1]))
SwarmEngine.connect(endpoint).place(sys.argv[2])
"""


def test_a_client_is_killed_while_it_starts_an_app(
    scheduler: SwarmScheduler, swarm_engine: SwarmEngine, hosts: Hosts, app_id: str
) -> None:
    """Two of four replicas were started, and the lock is left; the next client goes on."""
    first, second = f"{app_id}-a", f"{app_id}-b"
    _launch(scheduler, first, _gang(3, ENDLESS, gpus=2))
    _launch(scheduler, second, _gang(4, ENDLESS))
    scheduler.cancel(first)
    endpoint = base64.b64encode(pickle.dumps(hosts.endpoint())).decode()

    killed = subprocess.run([sys.executable, "-c", _KILLED, endpoint, second], check=False)

    assert -signal.SIGKILL == killed.returncode
    assert BUSY == swarm_engine.place(second)
    managers = Managers([lambda: DockerEngine.connect(hosts.endpoint())])
    placing = Placing(Services(managers), lock_s=1)
    wait_until(lambda: placing.place(second) == "")
    wait_until(lambda: scheduler.describe(second).state is AppState.RUNNING)  # type: ignore[union-attr]
    managers.close()
    assert () == swarm_engine.rows({labels.SWARM_LOCK: None})
