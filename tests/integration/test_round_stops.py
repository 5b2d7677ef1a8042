"""Rounds of apps whose replicas are paused, ignore SIGTERM, or have other retry policies."""

from __future__ import annotations

import contextlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, cast

import docker
import pytest

from airflow_torchx.core.engine import labels
from airflow_torchx.core.engine.containers import LogQuery
from airflow_torchx.core.state.describe import every_round, replicas_of
from airflow_torchx.core.state.report import log_name
from airflow_torchx.core.state.rounds import restarts_caused
from airflow_torchx.docker_engine import DockerEngine
from airflow_torchx.docker_engine.connection import open_client
from airflow_torchx.runtime import lifecycle, waiting
from airflow_torchx.runtime.replica_log import ReplicaLog
from airflow_torchx.schedulers.docker_scheduler import DockerScheduler
from airflow_torchx.specs import AppDef, AppState, RetryPolicy, Role
from tests.conftest import BUSYBOX
from tests.integration import second_daemon

if TYPE_CHECKING:
    from airflow_torchx.core.engine.containers import ContainerRow
    from airflow_torchx.core.engine.protocol import Engine
    from tests.integration.second_daemon import SecondDaemon

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

#: Fails in the launch, and succeeds in round 1.
FAILS = '[ "$TORCHX_RESTART" = 1 ]'
#: Succeeds in round 1. In the launch it runs until it is stopped, and saves for two seconds; it
#: writes how often it gets SIGTERM meanwhile.
SAVES = """
n=0
trap 'n=$((n + 1)); echo "TERM $n"' TERM
echo up
[ "$TORCHX_RESTART" = 1 ] && exit 0
while [ "$n" = 0 ]; do sleep 0.1; done
end=$(($(date +%s) + 2))
while [ "$(date +%s)" -lt "$end" ]; do sleep 0.1; done
exit 0
"""
#: The same, but it ends by SIGKILL only.
IGNORES = """
trap '' TERM
echo up
[ "$TORCHX_RESTART" = 1 ] && exit 0
while :; do sleep 1; done
"""


def role(name: str, program: str, retries: int = 0, policy: str = "APPLICATION") -> Role:
    """Return a role of one replica."""
    args = ["-c", program]
    retry_policy = RetryPolicy(policy)
    return Role(
        name,
        BUSYBOX,
        entrypoint="sh",
        args=args,
        max_retries=retries,
        retry_policy=retry_policy,
    )


def launched(engine: Engine, app_id: str, *roles: Role, **options: Any) -> DockerScheduler:  # noqa: ANN401 - run options
    """Launch an app, and return its scheduler."""
    scheduler = DockerScheduler("rounds", engine)
    context = scheduler.new_context(app_id)
    info = scheduler.prepare(AppDef("app", list(roles)), {"stop_grace_s": 20, **options}, context)
    scheduler.schedule(info)
    await_state(engine, app_id, "a", "exited")
    return scheduler


def await_state(engine: Engine, app_id: str, role_name: str, state: str) -> ContainerRow:
    """Wait until the launched replica of a role is in a state, and all others are up."""
    while True:
        rows = {row.labels[labels.ROLE_NAME]: row for row in lifecycle.rows_of(engine, app_id)}
        texts = [b"".join(engine.logs(row.id, LogQuery())) for row in rows.values()]
        if rows[role_name].state == state and sum(b"up" in text for text in texts) >= len(rows) - 1:
            return rows[role_name]
        time.sleep(0.05)


def lines_of(engine: Engine, app_id: str) -> dict[str, list[str]]:
    """Return the log of each replica in each round that ran, by its name."""
    rows = lifecycle.rows_of(engine, app_id)
    return {
        log_name(one): [line.text for line in ReplicaLog(engine, one.container_id)]
        for one in every_round(rows)
    }


def test_several_owners_send_one_sigterm(docker_engine: DockerEngine, app_id: str) -> None:
    """A replica that saves when it is stopped for a round gets SIGTERM once from four owners."""
    names = [f"data{index}" for index in range(4)]
    launched(docker_engine, app_id, role("a", FAILS, 2), *(role(one, SAVES) for one in names))

    def own(_: int) -> AppState:
        with contextlib.closing(DockerEngine.connect()) as engine:
            return waiting.wait(engine, app_id, timeout_s=120).state

    with ThreadPoolExecutor(4) as owners:
        assert [AppState.SUCCEEDED] * 4 == [*owners.map(own, range(4))]

    found = lines_of(docker_engine, app_id)
    assert [["up", "TERM 1"]] * 4 == [found[f"{name}/0"] for name in names]
    assert {"a": 1} == restarts_caused(lifecycle.rows_of(docker_engine, app_id))


@pytest.mark.parametrize("program", [IGNORES, SAVES], ids=["ignores", "saves"])
def test_a_replica_that_is_paused(docker_engine: DockerEngine, app_id: str, program: str) -> None:
    """It is stopped for a round like one that runs."""
    scheduler = launched(
        docker_engine, app_id, role("a", FAILS, 2), role("b", program), stop_grace_s=3
    )
    (paused,) = [row for row in lifecycle.rows_of(docker_engine, app_id) if "-b-" in row.name]
    with contextlib.closing(docker.from_env()) as client:
        client.api.pause(paused.id)

    assert AppState.SUCCEEDED is scheduler.wait(app_id, timeout_s=60).state
    assert {"a": 1} == restarts_caused(lifecycle.rows_of(docker_engine, app_id))


def test_a_replica_that_ignores_sigterm(docker_engine: DockerEngine, app_id: str) -> None:
    """It is killed after the grace period, and the round is made."""
    scheduler = launched(
        docker_engine, app_id, role("a", FAILS, 2), role("b", IGNORES), stop_grace_s=1
    )

    ended = scheduler.wait(app_id, timeout_s=60)

    assert AppState.SUCCEEDED is ended.state
    assert {1} == {replica.round for replica in replicas_of(ended)}


def test_all_retry_policies_in_one_app(docker_engine: DockerEngine, app_id: str) -> None:
    """A role of REPLICA is restarted by Docker, one of ROLE alone, and all by APPLICATION."""
    by_app = (
        '[ "$TORCHX_RESTART" = 2 ] || { echo up; until [ -e /go ]; do sleep 0.1; done; exit 1; }'
    )
    by_docker = "echo up; [ -e /tmp/again ] || { touch /tmp/again; exit 1; }"
    scheduler = launched(
        docker_engine,
        app_id,
        role("a", '[ "$TORCHX_RESTART" -ge 1 ]', 1, "ROLE"),
        role("app", by_app, 1),
        role("docker", by_docker, 1, "REPLICA"),
        stop_grace_s=1,
    )
    waiting.poll_once(docker_engine, app_id)
    assert {"a": 1} == restarts_caused(lifecycle.rows_of(docker_engine, app_id))
    (blocked,) = [row for row in lifecycle.rows_of(docker_engine, app_id) if "-app-" in row.name]
    docker_engine.execute(blocked.id, ("touch", "/go"), timeout_s=60, max_bytes=100)

    ended = scheduler.wait(app_id, timeout_s=120)

    assert AppState.SUCCEEDED is ended.state
    rows = lifecycle.rows_of(docker_engine, app_id)
    assert {"app": 1, "a": 1} == restarts_caused(rows)
    names = ["a/0", "app/0", "docker/0", "a/0 r1", "a/0 r2", "app/0 r2", "docker/0 r2"]
    assert names == [log_name(one) for one in every_round(rows)]


class Outage:
    """An engine whose daemon is killed, and started again, before the first call of a verb."""

    def __init__(self, engine: DockerEngine, daemon: SecondDaemon, verb: str) -> None:
        self._engine = engine
        self._daemon = daemon
        self._verb = verb
        self._lock = threading.Lock()
        self.stack = contextlib.ExitStack()

    def __getattr__(self, verb: str) -> Any:  # noqa: ANN401 - any call of an engine
        call = getattr(self._engine, verb)

        def requested(*args: Any, **options: Any) -> Any:  # noqa: ANN401 - its arguments
            with self._lock:
                if verb == self._verb:
                    self._verb = ""
                    self.stack.enter_context(self._daemon.killed())
            return call(*args, **options)

        return requested


@pytest.mark.parametrize("verb", ["stop", "clone", "start"])
def test_a_daemon_that_is_killed_in_a_round(app_id: str, verb: str) -> None:
    """The owner finishes the round on the daemon that is started next, and counts it once."""
    with (
        second_daemon.running_with_gpus(()) as daemon,
        DockerEngine.connect(daemon.endpoint) as engine,
    ):
        # It holds the namespaces of the daemon while that is killed.
        client: Any = open_client(daemon.endpoint)
        with contextlib.closing(client):
            host = client.create_host_config(network_mode="none")
            client.start(client.create_container(BUSYBOX, ["sleep", "600"], host_config=host))
        others = [role(name, IGNORES) for name in ("b", "c")]
        launched(engine, app_id, role("a", FAILS, 3), *others, stop_grace_s=1)
        outage = Outage(engine, daemon, verb)
        with outage.stack:
            ended = waiting.wait(cast("DockerEngine", outage), app_id, timeout_s=120)
            rows = lifecycle.rows_of(engine, app_id)

    assert AppState.SUCCEEDED is ended.state
    assert {"a": 1} == restarts_caused(rows)
    assert 6 == len([row for row in rows if row.state == "exited"])
