"""A swarm as an engine: its managers, its events, and what the daemon of a node answers."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from airflow_torchx.core.connection.endpoint import Endpoint
from airflow_torchx.core.connection.swarm import Swarm
from airflow_torchx.core.engine import labels
from airflow_torchx.core.engine.containers import LogQuery
from airflow_torchx.core.engine.usage import Execution
from airflow_torchx.errors import EngineNotFoundError, EngineUnreachableError
from airflow_torchx.specs import AppDef, AppState, Resource, Role
from airflow_torchx.swarm_engine import SwarmEngine
from tests.conftest import BUSYBOX
from tests.swarm.hosts import wait_until
from tests.swarm.test_lifecycle import OBEDIENT, _app, _by_replica, _launch

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_torchx.core.engine.containers import ContainerEvent
    from airflow_torchx.schedulers.swarm_scheduler import SwarmScheduler
    from tests.swarm.hosts import Hosts

pytestmark = [pytest.mark.docker, pytest.mark.timeout(180)]


def test_the_next_manager_is_asked(hosts: Hosts, tmp_path: Path) -> None:
    """A manager that is down and a node that is none are passed over."""
    managers = (hosts[2].url, hosts[1].url)
    endpoint = Endpoint(url=f"unix://{tmp_path}/none", swarm=Swarm(managers=managers))

    with SwarmEngine.connect(endpoint) as engine:
        assert hosts[1].url == engine.info().url


def test_a_node_that_is_no_manager(hosts: Hosts) -> None:
    """The error says what to give instead."""
    with pytest.raises(EngineUnreachableError, match="Give the URL of a manager"):
        SwarmEngine.connect(hosts.endpoint(2))


def test_what_the_daemon_of_a_node_answers(
    scheduler: SwarmScheduler, swarm_engine: SwarmEngine, app_id: str
) -> None:
    """Files, commands and usage of a replica come from its node; before the start it has none."""
    _launch(scheduler, app_id, _app(f"echo found > /tmp/result; {OBEDIENT}"))
    wait_until(lambda: scheduler.describe(app_id).state is AppState.RUNNING)  # type: ignore[union-attr]

    for row in swarm_engine.rows({labels.APP_ID: app_id}):
        log = swarm_engine.logs(row.id, LogQuery(follow=True))
        assert next(iter(log)).endswith(b"ready\n")
        log.close()
        assert b"found\n" == swarm_engine.read_file(row.id, "/tmp/result", 100)  # noqa: S108
        ran = swarm_engine.execute(row.id, ["echo", "ran"], timeout_s=60, max_bytes=100)
        assert Execution(output=b"ran\n", exit_code=0) == ran
        usage = swarm_engine.usage(row.id)
        assert usage is not None
        assert 32 << 20 == usage.memory_limit_bytes

    spec = scheduler.submit_dryrun(_app("true"), context=scheduler.new_context(f"{app_id}-b"))
    unstarted = swarm_engine.create(spec.request.containers[0])
    with pytest.raises(EngineNotFoundError, match="has not been started"):
        swarm_engine.read_file(unstarted, "/tmp/result", 100)  # noqa: S108


def test_events(scheduler: SwarmScheduler, swarm_engine: SwarmEngine, app_id: str) -> None:
    """Each change of a replica is an event; the last ones have the exit codes."""
    events: list[ContainerEvent] = []
    stream = swarm_engine.events()

    def read() -> None:
        events.extend(one for one in stream if one.app_id == app_id)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        _launch(scheduler, app_id, _app("sleep 2; exit 3"), failure_policy="wait_all")
        scheduler.wait(app_id)
        wait_until(lambda: [one.exit_code for one in events if one.action == "die"] == [3] * 3)
        scheduler.delete(app_id)
        wait_until(lambda: [one.action for one in events].count("destroy") == 3)
    finally:
        stream.close()
        reader.join()
    assert {"start", "die", "destroy"} <= {one.action for one in events}


def test_a_failed_app_is_restarted(scheduler: SwarmScheduler, app_id: str) -> None:
    """A round of new services has the host names of the first one, and its own variables."""
    command = (
        '[ "$TORCHX_RESTART" = 1 ] && echo "again on $(hostname)" && exit 0; '
        "case $(hostname) in *-1) exit 3;; esac; sleep 60"
    )
    role = Role(
        "trainer",
        image=BUSYBOX,
        entrypoint="sh",
        args=["-c", command],
        num_replicas=3,
        max_retries=1,
        resource=Resource(cpu=0.1, gpu=0, memMB=16),
    )

    _launch(scheduler, app_id, AppDef("rounds", roles=[role]))
    ended = scheduler.wait(app_id)

    assert (AppState.SUCCEEDED, 1) == (ended.state, ended.num_restarts)
    assert {(AppState.SUCCEEDED, 0)} == set(_by_replica(ended).values())
    for index in range(3):
        assert [f"again on {app_id}-trainer-{index}\n"] == [
            *scheduler.log_iter(app_id, "trainer", index)
        ]
