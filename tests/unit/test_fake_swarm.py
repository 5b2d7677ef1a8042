"""A swarm in memory: nodes that have room, are lost, drained and back, as in tests of DAGs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from airflow_torchx.core.connection.swarm import Swarm
from airflow_torchx.core.engine import labels
from airflow_torchx.core.engine.containers import LogQuery
from airflow_torchx.core.engine.protocol import Engine
from airflow_torchx.errors import EngineNotFoundError, EngineUnreachableError
from airflow_torchx.runtime.placing import has_nodes
from airflow_torchx.schedulers.swarm_scheduler import SwarmScheduler
from airflow_torchx.specs import AppDef, AppState, Resource, Role
from airflow_torchx.testing import FakeNode, FakeSwarm, ManualClock, Program

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_torchx.specs import DescribeAppResponse
    from airflow_torchx.testing import Programs

FOREVER = Program(lines=["ready"], runs_for_s=None, term_exit_code=0)
LOST = "is lost; the replica may still run there until it returns"


def gang(replicas: int = 3, *, cpu: float = 1, gpu: int = 0, mem_mb: int = 64) -> AppDef:
    """Return an app of one role."""
    resource = Resource(cpu=cpu, gpu=gpu, memMB=mem_mb)
    role = Role("trainer", "busybox", entrypoint="sh", num_replicas=replicas, resource=resource)
    return AppDef("gang", roles=[role])


def made(
    nodes: int | Sequence[FakeNode] = 3, programs: Programs = FOREVER, swarm: Swarm | None = None
) -> tuple[FakeSwarm, SwarmScheduler]:
    """Return a swarm whose clock stands still, and a scheduler on it."""
    clock = ManualClock()
    engine = FakeSwarm(
        nodes=nodes,
        images=["busybox"],
        programs=programs,
        clock=clock,
        sleep=clock.sleep,
        swarm=swarm or Swarm(),
    )
    return engine, SwarmScheduler("test", engine, terminal=False)


def launch(scheduler: SwarmScheduler, app_id: str, app: AppDef, **options: object) -> None:
    """Launch an app with this id."""
    context = scheduler.new_context(app_id)
    scheduler.schedule(scheduler.submit_dryrun(app, options, context=context))


def seen(scheduler: SwarmScheduler, app_id: str) -> DescribeAppResponse:
    """Return an app that exists."""
    found = scheduler.describe(app_id)
    assert found is not None
    return found


def states(app: DescribeAppResponse) -> list[AppState]:
    """Return the states of the replicas of the first role."""
    return [one.state for one in app.roles_statuses[0].replicas]


def test_it_is_an_engine_with_nodes() -> None:
    """It implements the protocol, places, and says that it is a swarm."""
    engine, _ = made([FakeNode("box1", cpus=2, memory_mib=512), FakeNode("box2", cpus=4)])

    assert isinstance(engine, Engine)
    assert has_nodes(engine)
    info = engine.info()
    assert (True, False, 4, 256 << 30) == (
        info.is_swarm,
        info.is_local,
        info.cpus,
        info.memory_bytes,
    )


def test_an_app_to_its_end() -> None:
    """Replicas are spread over the nodes, and their exit codes and logs are those of programs."""
    engine, scheduler = made(
        programs={"trainer": Program(lines=["hello"]), "trainer/2": Program(exit_code=3)}
    )
    launch(scheduler, "app", gang(), failure_policy="wait_all")

    ended = scheduler.wait("app")

    assert AppState.FAILED is ended.state
    assert [0, 0, 3] == [one.exit_code for one in ended.roles_statuses[0].replicas]
    assert ["hello\n"] == list(scheduler.log_iter("app", "trainer", 1))
    assert {"box1", "box2", "box3"} == set(engine.placed().values())
    scheduler.delete("app")
    assert scheduler.describe("app") is None


def test_what_does_not_fit_waits_as_a_whole() -> None:
    """An app waits with the reason of a real swarm until another one has ended."""
    engine, scheduler = made([FakeNode(name, cpus=2, memory_mib=512) for name in ("box1", "box2")])
    launch(scheduler, "first", gang(2, cpu=2))
    launch(scheduler, "second", gang(2, cpu=1))

    why = engine.place("second")

    assert why == (
        "asked are 2 replicas with 1 CPU, 64.0 MiB each; 0 of 2 would fit. "
        "Free are box1: 0 CPUs, 448.0 MiB; box2: 0 CPUs, 448.0 MiB"
    )
    assert ["pending"] * 2 == [row.state for row in engine.rows({labels.APP_ID: "second"})]
    assert (AppState.PENDING, why) == (
        seen(scheduler, "second").state,
        seen(scheduler, "second").msg,
    )
    scheduler.cancel("first")
    assert engine.place("second") == ""
    assert [AppState.RUNNING] * 2 == states(seen(scheduler, "second"))


def test_gpus_are_exclusive() -> None:
    """No two replicas have the same GPU, and their programs get the ids."""
    ids: dict[str, str] = {}

    def program(spec: object) -> Program:
        ids[spec.name] = spec.env["DOCKER_RESOURCE_GPU"]  # type: ignore[attr-defined]
        return FOREVER

    nodes = [FakeNode("box1", gpus=2), FakeNode("box2", gpus=["GPU-a", "GPU-b"])]
    engine, scheduler = made(nodes, program)
    launch(scheduler, "app", gang(4, gpu=1))
    launch(scheduler, "next", gang(1, gpu=1))

    assert {"box1-GPU-0", "box1-GPU-1", "GPU-a", "GPU-b"} == set(ids.values())
    assert {(ids[f"app-trainer-{index}"],) for index in range(4)} == {
        engine.gpus_of(f"app-trainer-{index}") for index in range(4)
    }
    assert "1 gpu" in engine.place("next")


def test_constraints_choose_the_node() -> None:
    """A replica runs where the constraints of the connection allow it."""
    nodes = [FakeNode("box1"), FakeNode("box2", labels={"gpu": "a100"})]
    engine, scheduler = made(nodes, swarm=Swarm(constraints=("node.labels.gpu==a100",)))
    launch(scheduler, "app", gang(2))

    assert {"box2"} == set(engine.placed().values())


def test_a_lost_node_and_its_return() -> None:
    """A replica of a lost node is FAILED with its name, has no twin, and stays FAILED."""
    engine, scheduler = made()
    launch(scheduler, "app", gang())
    node = engine.placed()["app-trainer-1"]

    engine.lose(node)
    ended = scheduler.wait("app")

    failed = ended.roles_statuses[0].replicas[1]
    assert (AppState.FAILED, AppState.FAILED) == (ended.state, failed.state)
    assert f"node {node} {LOST}" == failed.error
    assert [AppState.CANCELLED, AppState.FAILED, AppState.CANCELLED] == states(ended)
    engine.bring_back(node)
    again = seen(scheduler, "app")
    assert states(ended) == states(again)
    assert f"node {node} was lost; it has returned, and has stopped the replica" == (
        again.roles_statuses[0].replicas[1].error
    )
    assert {"app-trainer-0", "app-trainer-1", "app-trainer-2"} == {
        name.partition(".")[0] for name in engine.sigterms()
    }


def test_a_drained_node() -> None:
    """A replica that is stopped by a drain is FAILED, although its program ended with 0."""
    engine, scheduler = made()
    launch(scheduler, "app", gang(1))
    (node,) = engine.placed().values()

    engine.drain(node)
    ended = scheduler.wait("app")

    assert (AppState.FAILED, [AppState.FAILED]) == (ended.state, states(ended))
    assert f"node {node} has stopped it: it was drained, or it was away" == (
        ended.roles_statuses[0].replicas[0].error
    )
    launch(scheduler, "next", gang(3))
    assert node not in [engine.placed()[f"next-trainer-{index}"] for index in range(3)]


def test_no_node_is_left() -> None:
    """Without a node that takes replicas an app waits; it starts once one is back."""
    engine, scheduler = made(1)
    engine.lose("box1")
    launch(scheduler, "app", gang(1))

    assert engine.place("app").endswith("0 of 1 would fit. Free are no node")
    engine.bring_back("box1")
    assert engine.place("app") == ""
    assert [AppState.RUNNING] == states(seen(scheduler, "app"))


def test_cancelled_while_it_waits() -> None:
    """An app that waits can be cancelled, and does not start after that."""
    engine, scheduler = made(1)
    engine.lose("box1")
    launch(scheduler, "app", gang(2))

    scheduler.cancel("app")

    assert AppState.CANCELLED is seen(scheduler, "app").state
    engine.bring_back("box1")
    assert engine.place("app") == ""
    assert {} == engine.placed()


def test_removed_while_it_waits() -> None:
    """An app that waits can be deleted, and nothing is left."""
    engine, scheduler = made(1)
    engine.lose("box1")
    launch(scheduler, "app", gang(2))

    scheduler.delete("app")

    assert () == engine.rows({})
    assert {} == engine.specs()


@pytest.mark.parametrize("ask", [FakeSwarm.lose, FakeSwarm.drain, FakeSwarm.bring_back])
def test_an_unknown_node(ask: Callable[[FakeSwarm, str], None]) -> None:
    """A node that the swarm does not have is an error with the names of those it has."""
    engine, _ = made(2)

    with pytest.raises(ValueError, match="'box3', only box1, box2"):
        ask(engine, "box3")


def test_files_of_a_node() -> None:
    """Files are on the node of a replica; those of a lost node cannot be read until it returns."""
    engine, scheduler = made(1, Program(files={"/out": b"42"}, lines=["written"]))
    launch(scheduler, "app", gang(1))
    scheduler.wait("app")

    assert engine.read_file("trainer/0", "/out", 10) == b"42"
    engine.lose("box1")
    with pytest.raises(EngineUnreachableError):
        engine.read_file("trainer/0", "/out", 10)
    assert b"" == b"".join(engine.logs("trainer/0", LogQuery()))
    engine.bring_back("box1")
    assert engine.read_file("trainer/0", "/out", 10) == b"42"
    assert b"written" in b"".join(engine.logs("trainer/0", LogQuery()))


def test_ended_and_failed_by_the_test() -> None:
    """A test ends a replica, lets a call fail, and takes the managers away."""
    engine, scheduler = made()
    engine.fail_next("place", EngineNotFoundError("planned"), on="app")
    with pytest.raises(EngineNotFoundError, match="planned"):
        engine.place("app")
    launch(scheduler, "app", gang(2))

    engine.end("trainer/1", 7)

    assert 7 == engine.inspect("trainer/1").exit_code  # type: ignore[union-attr]
    engine.down = True
    with pytest.raises(EngineUnreachableError):
        engine.rows({})


def test_gpus_belong_to_nodes() -> None:
    """GPUs of the swarm as a whole are refused, with the way to give them."""
    with pytest.raises(ValueError, match=r'FakeNode\("box1", gpus=2\)'):
        FakeSwarm(gpus=2)


def test_an_app_that_is_removed_is_not_lost() -> None:
    """While an app is being removed, no client sees its replicas as failed."""
    clock, seen_meanwhile = ManualClock(), []

    def sleep(seconds: float) -> None:
        seen_meanwhile.append(engine.rows({labels.APP_ID: "app"}))
        clock.sleep(seconds)

    stubborn = Program(lines=["ready"], runs_for_s=None, on_term="ignore")
    engine = FakeSwarm(images=["busybox"], programs=stubborn, clock=clock, sleep=sleep)
    scheduler = SwarmScheduler("test", engine, terminal=False)
    launch(scheduler, "app", gang(1), stop_grace_s=2)
    (row,) = engine.rows({labels.APP_ID: "app"})

    engine.remove(row.id)

    assert seen_meanwhile
    assert not any(seen_meanwhile)


def test_a_container_of_an_app_without_a_number_of_replicas() -> None:
    """A replica that was not started is listed beside one that was, whatever their labels say."""
    engine, scheduler = made()
    launch(scheduler, "app", gang(1))
    (row,) = engine.rows({labels.APP_ID: "app"})
    spec = engine.specs()[row.name]
    own = {labels.APP_ID: "other", labels.ROLE_NAME: "trainer", labels.REPLICA_ID: "0"}
    started = engine.create(replace(spec, name="other-0", labels=own))
    engine.start(started)
    created = engine.clone(started, name="other-0-r1", labels={}, env={})

    assert {started, created} == {one.id for one in engine.rows({labels.APP_ID: "other"})}
