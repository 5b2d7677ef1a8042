"""Placing apps, and their rounds, on a swarm in memory; and its options on one daemon."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airflow_torchx.core.engine import labels
from airflow_torchx.core.state.report import replica_table
from airflow_torchx.errors import InvalidAppError, LaunchInterruptedError
from airflow_torchx.runtime import waiting
from airflow_torchx.runtime.replica_log import ReplicaLog
from airflow_torchx.schedulers.docker_scheduler import DockerScheduler
from airflow_torchx.specs import AppDef, AppState, Resource, RetryPolicy, Role
from airflow_torchx.testing import FakeEngine, FakeNode, FakeSwarm, Program
from tests.unit.test_fake_swarm import FOREVER, gang, launch, made, seen, states

if TYPE_CHECKING:
    from airflow_torchx.core.engine.containers import ContainerSpec
    from airflow_torchx.schedulers.swarm_scheduler import SwarmScheduler

FAILS = Program(lines=["bad"], exit_code=1)


def _restarted(replicas: int, policy: RetryPolicy, *more: Role) -> AppDef:
    role = Role(
        "trainer",
        "busybox",
        entrypoint="sh",
        num_replicas=replicas,
        resource=Resource(cpu=1, gpu=0, memMB=64),
        max_retries=2,
        retry_policy=policy,
    )
    return AppDef("gang", roles=[role, *more])


def _first_fails(spec: ContainerSpec) -> Program:
    """Let replica 0 of the first role of a launch fail; all others run on."""
    is_first = spec.role == "trainer" and spec.replica == 0 and labels.ROUND not in spec.labels
    return FAILS if is_first and spec.labels[labels.APP_ID] == "app" else FOREVER


def _waiting_round(policy: RetryPolicy, **options: object) -> tuple[FakeSwarm, SwarmScheduler]:
    """Return a swarm with an app whose restart waits, as another app has got its room."""
    engine, scheduler = made([FakeNode("box1", cpus=2), FakeNode("box2", cpus=1)], _first_fails)
    launch(scheduler, "app", _restarted(3, policy), **options)
    # The owner of the app is killed once the replicas of the failed round have ended.
    waiting.poll_once(engine, "app", should_stop=lambda: True)
    launch(scheduler, "other", gang(1))
    for _ in range(3):
        waiting.poll_once(engine, "app")
    return engine, scheduler


@pytest.mark.parametrize("policy", [RetryPolicy.APPLICATION, RetryPolicy.ROLE])
def test_a_round_starts_as_a_whole(policy: RetryPolicy) -> None:
    """A restart of an app or a role waits, as PENDING, until all its replicas have room."""
    engine, scheduler = _waiting_round(policy)

    waits = seen(scheduler, "app")

    assert [AppState.PENDING] * 3 == states(waits)
    assert AppState.PENDING is waits.state
    assert waits.msg.startswith("asked are 3 replicas with 1 CPU, 64.0 MiB each; 2 of 3 would fit")
    scheduler.cancel("other")
    waiting.poll_once(engine, "app")
    assert [AppState.RUNNING] * 3 == states(seen(scheduler, "app"))
    assert 1 == seen(scheduler, "app").num_restarts


def test_a_round_that_waits_is_cancelled() -> None:
    """A restart that waits for room does not start after a cancel."""
    engine, scheduler = _waiting_round(RetryPolicy.APPLICATION)

    scheduler.cancel("app")
    scheduler.cancel("other")

    ended = waiting.poll_once(engine, "app")
    assert ended is not None
    assert AppState.CANCELLED is ended.state
    assert [AppState.CANCELLED] * 3 == states(ended)


def test_a_round_that_waits_for_too_long_fails() -> None:
    """The limit holds for a restart, too, from the time at which it is created."""
    engine, _ = _waiting_round(RetryPolicy.APPLICATION, pending_timeout_s=0)

    ended = waiting.poll_once(engine, "app")

    assert ended is not None
    assert AppState.FAILED is ended.state
    errors = {one.error for one in ended.roles_statuses[0].replicas}
    assert {True} == {one.startswith("no room within 0 s (pending_timeout_s") for one in errors}


def test_the_process_that_waits_for_an_app_starts_it_once_it_fits() -> None:
    """A launch of which nothing runs is placed at each look of its owner, like a restart."""
    engine, scheduler = made([FakeNode("box1", cpus=2)])
    launch(scheduler, "first", gang(1, cpu=2))
    launch(scheduler, "second", gang(2))
    scheduler.cancel("first")

    waiting.poll_once(engine, "second")

    assert [AppState.RUNNING] * 2 == states(seen(scheduler, "second"))


@pytest.mark.timeout(30)
@pytest.mark.parametrize("limit_s", [0, None])
def test_the_log_of_an_app_that_ended_while_it_waited_ends(limit_s: float | None) -> None:
    """None of its replicas has run, or will: a follower of its log does not wait for them."""
    engine, scheduler = made([FakeNode("box1", cpus=1)])
    launch(scheduler, "first", gang(1))
    launch(scheduler, "second", gang(1), pending_timeout_s=limit_s)
    scheduler.cancel("second")
    (row,) = engine.rows({labels.APP_ID: "second"})

    assert [] == list(ReplicaLog(engine, row.id, follow=True))


def test_the_limit_of_a_wait_for_gpus_holds_on_a_swarm() -> None:
    """A DAG that limits it on one daemon limits it there, too, but not for an app without GPUs."""
    _, scheduler = made([FakeNode("box1", cpus=1, gpus=1)])
    launch(scheduler, "first", gang(1, gpu=1))
    launch(scheduler, "gpus", gang(1, gpu=1), gpu_wait_timeout_s=0)
    launch(scheduler, "longer", gang(1, gpu=1), gpu_wait_timeout_s=0, pending_timeout_s=60)
    launch(scheduler, "cpus", gang(1), gpu_wait_timeout_s=0)

    found = [seen(scheduler, name).state for name in ("first", "gpus", "longer", "cpus")]

    running, failed, pending = AppState.RUNNING, AppState.FAILED, AppState.PENDING
    assert [running, failed, pending, pending] == found


def test_the_description_names_nodes_and_gpus() -> None:
    """Each replica has the name of its node, and the ids of the GPUs that the swarm gave it."""
    _, scheduler = made([FakeNode("box1", gpus=["GPU-a"]), FakeNode("box2", gpus=["GPU-b"])])
    launch(scheduler, "app", gang(2, gpu=1))

    app = seen(scheduler, "app")

    replicas = app.roles_statuses[0].replicas
    assert {("box1", ("GPU-a",)), ("box2", ("GPU-b",))} == {(r.node, r.gpus) for r in replicas}
    header, *_ = replica_table(app).splitlines()
    assert ["replica", "state", "node"] == header.split()[:3]


def test_a_launch_that_is_not_waited_for_waits_for_room() -> None:
    """As no process starts the app later, its launch does; it can be stopped."""
    engine, scheduler = made(1)
    engine.lose("box1")
    context = scheduler.new_context("app", is_waited_for=False)
    info = scheduler.submit_dryrun(gang(1), {}, context=context)
    looks = iter([False] * 6 + [True] * 9)

    with pytest.raises(LaunchInterruptedError):
        scheduler.launch(info, should_stop=lambda: next(looks), has_reaper=True)

    assert () == engine.rows({})


def test_a_lost_node_counts_for_what_may_fit() -> None:
    """An app that needs a node which is away is not refused; one that needs more is."""
    engine, scheduler = made([FakeNode("box1", cpus=1), FakeNode("box2", cpus=4)])
    engine.lose("box2")

    launch(scheduler, "app", gang(1, cpu=4))
    with pytest.raises(
        InvalidAppError, match=r"1 replica with 5 CPUs, 64\.0 MiB; 0 of 1 would fit"
    ):
        launch(scheduler, "more", gang(1, cpu=5))

    assert AppState.PENDING is seen(scheduler, "app").state


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"placement": "pack"}, ""),
        ({"placement": "spread"}, ""),
        ({"max_replicas_per_node": 2}, ""),
        ({"pending_timeout_s": 60}, ""),
        ({"constraints": ["node.labels.gpu!=a100", "node.role==worker"]}, ""),
        ({"max_replicas_per_node": 1}, "2 replicas are more than 1, and fake://engine is one node"),
        ({"constraints": ["node.labels.gpu==a100"]}, "which is one daemon, has no node labels"),
        ({"constraints": ["node.hostname==elsewhere"]}, "which is one daemon, is 'fake'"),
    ],
)
def test_options_on_one_daemon(options: dict[str, Any], problem: str) -> None:
    """One daemon is one node: what it can meet changes nothing there, and the rest is refused."""
    engine = FakeEngine(images=["busybox"], programs=FOREVER)
    scheduler = DockerScheduler("test", engine, terminal=False)
    dry_run = scheduler.submit_dryrun

    if problem:
        with pytest.raises(InvalidAppError, match=problem):
            dry_run(gang(2), options)
    else:
        assert 2 == len(dry_run(gang(2), options).request.containers)


def test_to_pack_more_than_a_node_may_run() -> None:
    """The two options contradict each other for this app."""
    _, scheduler = made(2)

    with pytest.raises(InvalidAppError, match="'pack' runs all 2 replicas on one node"):
        launch(scheduler, "app", gang(2), placement="pack", max_replicas_per_node=1)


def test_constraints_are_added_to_those_of_the_connection() -> None:
    """Both are on the service of each replica, and on those of a later round."""
    engine, scheduler = made([FakeNode("box1", cpus=4), FakeNode("box2", cpus=4)], _first_fails)
    app = _restarted(2, RetryPolicy.APPLICATION)
    launch(scheduler, "app", app, constraints="node.hostname==box2")
    assert {"box2"} == {one.node for one in seen(scheduler, "app").roles_statuses[0].replicas}

    for _ in range(3):
        waiting.poll_once(engine, "app")

    assert {("box2", 1)} == {
        (one.node, one.round) for one in seen(scheduler, "app").roles_statuses[0].replicas
    }
