"""Restarts of apps on a real daemon, by one process, by several, and by some that are killed."""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import secrets
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import docker
import pytest

from airflow_torchx.core.engine import labels
from airflow_torchx.core.state.describe import every_round, replicas_of
from airflow_torchx.core.state.report import log_name
from airflow_torchx.core.state.rounds import restarts_caused
from airflow_torchx.errors import AppNotFoundError
from airflow_torchx.runtime import lifecycle
from airflow_torchx.runtime.replica_log import ReplicaLog
from airflow_torchx.schedulers.docker_scheduler import DockerScheduler
from airflow_torchx.specs import AppDef, AppState, Resource, RetryPolicy, Role
from tests.airflow.processes import PATIENCE_S
from tests.conftest import BUSYBOX
from tests.integration import round_owners
from tests.integration.round_owners import Scene

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.docker_engine import DockerEngine
    from airflow_torchx.specs import DescribeAppResponse

pytestmark = [pytest.mark.docker, pytest.mark.timeout(3600)]

#: Writes three lines. Replica 1 fails in the first rounds; then all succeed. That stops replica 0,
#: which may be slower: process 1 ignores SIGTERM until it has a handler, so it writes all lines.
PROGRAM = """
for line in 1 2 3; do echo "round $TORCHX_RESTART line $line"; done
trap 'exit 143' TERM
if [ "$TORCHX_RESTART" -lt {fails} ]; then
  [ "$TORCHX_REPLICA_IDX" = 1 ] && exit {code}
  sleep 600 & wait $!
fi
"""
#: Runs until it is stopped.
SERVER = "echo up; trap 'exit 143' TERM; sleep 600 & wait $!"


@pytest.fixture
def scheduler(docker_engine: DockerEngine) -> DockerScheduler:
    """Return a scheduler on the daemon."""
    return DockerScheduler("rounds", docker_engine)


def trainer(fails: int, retries: int, policy: str = "APPLICATION", code: int = 3) -> Role:
    """Return a role of two replicas that fails in some rounds."""
    return Role(
        "trainer",
        BUSYBOX,
        entrypoint="sh",
        args=["-c", PROGRAM.format(fails=fails, code=code)],
        num_replicas=2,
        max_retries=retries,
        retry_policy=RetryPolicy(policy),
    )


def server() -> Role:
    """Return a role that does not end."""
    return Role("server", BUSYBOX, entrypoint="sh", args=["-c", SERVER])


def submitted(scheduler: DockerScheduler, app_id: str, *roles: Role, **options: Any) -> str:  # noqa: ANN401 - run options
    """Launch an app of which the trainers are essential, and return its id."""
    context = scheduler.new_context(app_id)
    names = [role.name for role in roles]
    cfg = {"stop_grace_s": 5, **({"essential_roles": ["trainer"]} if "server" in names else {})}
    info = scheduler.prepare(AppDef("app", list(roles)), {**cfg, **options}, context)
    return scheduler.schedule(info)


def lines_of(engine: Engine, app_id: str) -> dict[str, list[str]]:
    """Return the log of each replica in each round that ran, by its name."""
    rows = lifecycle.rows_of(engine, app_id)
    return {
        log_name(one): [line.text for line in ReplicaLog(engine, one.container_id)]
        for one in every_round(rows)
    }


def trained(rounds: int) -> dict[str, list[str]]:
    """Return the logs of trainers that ran in so many rounds."""
    return {
        f"trainer/{replica}{f' r{number}' if number else ''}": [
            f"round {number} line {line}" for line in (1, 2, 3)
        ]
        for number in range(rounds)
        for replica in range(2)
    }


def assert_one_round_at_a_time(engine: Engine, app_id: str) -> None:
    """Fail if a round of a role started before the one before it had ended."""
    spans: dict[str, dict[int, list[tuple[Any, Any]]]] = {}
    for one in every_round(lifecycle.rows_of(engine, app_id)):
        detail = engine.inspect(one.container_id)
        assert detail is not None
        rounds = spans.setdefault(one.role, {})
        rounds.setdefault(one.round, []).append((detail.started_at, detail.finished_at))
    for role, rounds in spans.items():
        numbers = sorted(rounds)
        for before, after in itertools.pairwise(numbers):
            ended = max(end for _, end in rounds[before])
            began = min(start for start, _ in rounds[after])
            assert ended <= began, (role, before, after)


def restarts(engine: Engine, app_id: str) -> dict[str, int]:
    """Return how many restarts the labels count."""
    return restarts_caused(lifecycle.rows_of(engine, app_id))


def test_an_app_is_restarted_as_one(
    scheduler: DockerScheduler, docker_engine: DockerEngine, app_id: str
) -> None:
    """Each round has new containers of all roles, with the old host names."""
    submitted(scheduler, app_id, trainer(fails=2, retries=3), server())

    ended = scheduler.wait(app_id, timeout_s=120)

    assert AppState.SUCCEEDED is ended.state
    servers = {"server/0": ["up"], "server/0 r1": ["up"], "server/0 r2": ["up"]}
    assert trained(3) | servers == lines_of(docker_engine, app_id)
    assert {"trainer": 2} == restarts(docker_engine, app_id)
    assert {2} == {replica.round for replica in replicas_of(ended)}
    assert not any(replica.hostname.endswith("-r2") for replica in replicas_of(ended))
    assert_one_round_at_a_time(docker_engine, app_id)


def test_a_role_is_restarted_alone(
    scheduler: DockerScheduler, docker_engine: DockerEngine, app_id: str
) -> None:
    """The other role runs on in its first container."""
    submitted(scheduler, app_id, trainer(fails=1, retries=2, policy="ROLE"), server())

    ended = scheduler.wait(app_id, timeout_s=120)

    assert AppState.SUCCEEDED is ended.state
    assert trained(2) | {"server/0": ["up"]} == lines_of(docker_engine, app_id)


def test_the_budget_is_exact(
    scheduler: DockerScheduler, docker_engine: DockerEngine, app_id: str
) -> None:
    """After its last restart, a failure fails the app."""
    submitted(scheduler, app_id, trainer(fails=9, retries=1))

    ended = scheduler.wait(app_id, timeout_s=120)

    assert AppState.FAILED is ended.state
    assert trained(2) == lines_of(docker_engine, app_id)
    assert {"trainer": 1} == restarts(docker_engine, app_id)


def test_an_excluded_exit_code(
    scheduler: DockerScheduler, docker_engine: DockerEngine, app_id: str
) -> None:
    """An exit code that a task excludes does not restart."""
    context = scheduler.new_context(app_id, final_exit_codes=[85])
    app = AppDef("app", [trainer(fails=9, retries=2, code=85)])
    scheduler.schedule(scheduler.prepare(app, {"stop_grace_s": 5}, context))

    assert AppState.FAILED is scheduler.wait(app_id, timeout_s=60).state
    assert trained(1) == lines_of(docker_engine, app_id)


def test_out_of_memory(
    scheduler: DockerScheduler, docker_engine: DockerEngine, app_id: str
) -> None:
    """A replica that exceeded its memory is not restarted."""
    # See `tests.contract.script` for why it exceeds it until it is stopped.
    program = "trap 'exit 137' TERM; while :; do tail /dev/zero; done"
    role = Role(
        "trainer",
        BUSYBOX,
        entrypoint="sh",
        args=["-c", program],
        max_retries=2,
        resource=Resource(cpu=-1, gpu=0, memMB=8),
    )
    submitted(scheduler, app_id, role)
    container = docker_engine.rows({labels.APP_ID: app_id})[0].id
    about = {"container": container, "event": "oom"}
    with contextlib.closing(docker.from_env()) as client:
        assert any(client.events(since=0, until=int(time.time() + PATIENCE_S), filters=about))
    docker_engine.stop(container, 10)

    ended = scheduler.wait(app_id, timeout_s=60)

    assert AppState.FAILED is ended.state
    assert replicas_of(ended)[0].oom_killed
    assert 1 == len(docker_engine.rows({labels.APP_ID: app_id}))


def ended_without_owner(scheduler: DockerScheduler, app_id: str) -> DescribeAppResponse:
    """Return an app of which all replicas have ended, and whose restart is due."""
    role = Role("trainer", BUSYBOX, entrypoint="sh", args=["-c", "exit 3"], max_retries=3)
    submitted(scheduler, app_id, role)
    while any(row.state != "exited" for row in scheduler.engine.rows({labels.APP_ID: app_id})):
        time.sleep(0.05)
    found = scheduler.describe(app_id)
    assert found is not None
    return found


def test_a_cancel_between_two_rounds(scheduler: DockerScheduler, app_id: str) -> None:
    """An app is PENDING between two rounds; a cancel ends it for every later owner."""
    assert AppState.PENDING is ended_without_owner(scheduler, app_id).state

    scheduler.cancel(app_id)

    assert AppState.CANCELLED is scheduler.wait(app_id, timeout_s=60).state
    assert 1 == len(lifecycle.rows_of(scheduler.engine, app_id))


def test_a_delete_while_a_round_is_made(scheduler: DockerScheduler, app_id: str) -> None:
    """A delete leaves nothing, although the owner makes a round at the same time."""
    ended_without_owner(scheduler, app_id)

    def wait() -> None:
        with contextlib.suppress(AppNotFoundError):
            scheduler.wait(app_id, timeout_s=60)

    owner = threading.Thread(target=wait)
    owner.start()
    while len(scheduler.engine.rows({labels.APP_ID: app_id})) < 2 and owner.is_alive():
        pass
    scheduler.delete(app_id)
    owner.join()

    assert () == scheduler.engine.rows({labels.APP_ID: app_id})


@pytest.fixture(scope="module")
def seed(request: pytest.FixtureRequest) -> tuple[str, int]:
    """Return the seed of all kills, and how many apps there are: 100 in a campaign."""
    campaign = request.config.getoption("campaign")
    return campaign or secrets.token_hex(4), 100 if campaign else 4


def test_owners_that_are_killed(
    scheduler: DockerScheduler,
    app_id: str,
    seed: tuple[str, int],
    record_property: Callable[[str, object], None],
) -> None:
    """Whenever owners are killed, each round runs once, alone, and no restart is lost or added."""
    word, count = seed
    kills = sum(
        play_one(scheduler, f"{app_id}-{number}", f"{word} {number}") for number in range(count)
    )
    record_property("outcome", f"{count} apps, up to {kills} kills of owners, seed {word}")


def play_one(scheduler: DockerScheduler, app_id: str, word: str) -> int:
    """Launch an app whose owners are killed, check how it ends, and return the number of kills."""
    draw = random.Random(word)  # noqa: S311 - a seed of a test
    fails, retries = draw.randint(1, 2), draw.randint(1, 2)
    role = trainer(fails, retries, draw.choice(["APPLICATION", "ROLE"]))
    scene = Scene(app_id, word, draw.randint(1, 4), draw.choice([1, 1, 2]))
    submitted(scheduler, app_id, role, server())
    command = [sys.executable, "-m", round_owners.__name__, json.dumps(asdict(scene))]
    played = subprocess.run(command, check=False, stderr=subprocess.PIPE, text=True)
    assert 0 == played.returncode, (scene, played.stderr)

    engine, ended = scheduler.engine, scheduler.describe(app_id)
    assert ended is not None
    assert (AppState.SUCCEEDED if fails <= retries else AppState.FAILED) is ended.state, scene
    rounds, found = min(fails, retries) + 1, lines_of(engine, app_id)
    own = {name: lines for name, lines in found.items() if name.startswith("trainer")}
    assert trained(rounds) == own, scene
    assert all(["up"] == lines for name, lines in found.items() if name not in own), scene
    assert {"trainer": rounds - 1} == restarts(engine, app_id), scene
    assert_one_round_at_a_time(engine, app_id)
    scheduler.delete(app_id)
    return scene.kills
