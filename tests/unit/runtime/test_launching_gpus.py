"""Launch an app with GPUs on the fake engine."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_torchx.core.engine import labels
from airflow_torchx.core.gpu import ledger
from airflow_torchx.errors import (
    AppNotFoundError,
    EngineError,
    EngineUnreachableError,
    LaunchError,
    LaunchInterruptedError,
)
from airflow_torchx.runtime import launching, lifecycle
from airflow_torchx.runtime.gpu_allocator import GpuAllocator
from airflow_torchx.runtime.gpus.queue import MustWait
from airflow_torchx.specs import Resource
from airflow_torchx.testing import FakeEngine, Program
from tests.unit.apps import app, planned, states
from tests.unit.runtime.gpus.clients import Killed, demand, replica

if TYPE_CHECKING:
    from airflow_torchx.specs import DescribeAppResponse
    from airflow_torchx.testing import Verb

CLAIM = "airflow-torchx-gpu-claim-one"
TICKET = "airflow-torchx-gpu-ticket-one"
REPLICAS = ["app-1-trainer-0", "app-1-trainer-1"]


@pytest.fixture
def engine() -> FakeEngine:
    """Return a daemon with four GPUs."""
    return FakeEngine(images=["busybox"], gpus=4, programs=Program(runs_for_s=None))


def launch(engine: FakeEngine, **options: Any) -> DescribeAppResponse:  # noqa: ANN401 - of GpuAllocator
    """Launch an app of two replicas with two GPUs each."""
    plan = planned(app(2, resource=Resource(cpu=1, gpu=2, memMB=64)))
    return launching.launch(engine, plan, gpus=GpuAllocator(engine, engine.info(), **options))


def gpus_of(engine: FakeEngine) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Return label and requested ids of the GPUs of each container."""
    return {
        name: (spec.labels[labels.GPUS], spec.gpus.device_ids if spec.gpus else ())
        for name, spec in sorted(engine.specs().items())
    }


def test_replicas_hold_their_gpus(engine: FakeEngine) -> None:
    """Each replica has two of its own, in its label and in its request; nothing else is left."""
    launched = launch(engine)

    assert {
        "app-1-trainer-0": ("GPU-0,GPU-1", ("GPU-0", "GPU-1")),
        "app-1-trainer-1": ("GPU-2,GPU-3", ("GPU-2", "GPU-3")),
    } == gpus_of(engine)
    assert [("GPU-0", "GPU-1"), ("GPU-2", "GPU-3")] == [
        one.gpus for role in launched.roles_statuses for one in role.replicas
    ]


def test_the_claim_is_handed_over_between_create_and_start(engine: FakeEngine) -> None:
    """A claim holds the GPUs until all replicas exist, and none starts before it is gone."""
    happened: list[str] = []

    def note(verb: Verb, name: str) -> None:
        if name in (CLAIM, *REPLICAS):
            happened.append(verb)

    engine.before = note

    launch(engine)

    assert ["create"] * 3 + ["discard"] + ["start"] * 2 == happened


@pytest.mark.parametrize("verb", ["create", "start"])
def test_a_failed_launch_gives_its_gpus_back(engine: FakeEngine, verb: Verb) -> None:
    """No claim, ticket or replica is left of it."""
    engine.fail_next(verb, EngineError("no space left"), on="trainer/1")

    with pytest.raises(LaunchError, match="no space left"):
        launch(engine)

    assert {} == engine.specs()


def test_a_queue_that_cannot_be_left_hides_no_error(
    engine: FakeEngine, caplog: pytest.LogCaptureFixture
) -> None:
    """The error is that of the launch, and a warning is logged."""
    engine.fail_next("create", EngineError("no space left"), on="trainer/1")
    engine.fail_next("discard", EngineError("busy"), on=CLAIM)

    with pytest.raises(LaunchError, match="no space left"):
        launch(engine)

    assert [CLAIM] == [*engine.specs()]
    assert "cannot leave the queue for GPUs: busy" in caplog.text


def break_claim(engine: FakeEngine) -> None:
    """Let another client remove the claim, and take a GPU, when the second replica is created."""

    def take(verb: Verb, name: str) -> None:
        if verb == "create" and name == REPLICAS[1]:
            engine.before = None
            engine.discard(CLAIM)
            engine.start(engine.create(replica("other", ["GPU-0"])))

    engine.before = take


def test_a_launch_whose_claim_was_broken_waits_again(engine: FakeEngine) -> None:
    """It removes its replicas before any has started, and launches once the GPUs are free."""
    break_claim(engine)
    stopped: list[list[str]] = []

    def end_other() -> bool:
        if TICKET in engine.specs():
            stopped.append(sorted(engine.specs()))
            engine.remove("other")
        return False

    launch(engine, should_stop=end_other)

    assert [TICKET, "other"] in stopped
    assert REPLICAS == sorted(engine.specs())
    assert ["RUNNING"] * 2 == states(engine)
    assert 2 == engine.calls.count("start") - 1


def test_a_launch_whose_claim_was_broken_defers(engine: FakeEngine) -> None:
    """A deferrable task keeps a new place in the queue, and no replica."""
    break_claim(engine)

    with pytest.raises(MustWait):
        launch(engine, waiting="elsewhere")

    assert [TICKET, "other"] == sorted(engine.specs())


@pytest.mark.parametrize(("waiting", "left"), [("here", []), ("elsewhere", [TICKET])])
def test_an_outage_keeps_the_place_for_the_next_try(
    engine: FakeEngine, waiting: str, left: list[str]
) -> None:
    """A launch of a task leaves its ticket, which an earlier try may have made."""
    engine.start(engine.create(replica("other", ["GPU-0"])))
    with pytest.raises(MustWait):
        launch(engine, waiting="elsewhere")
    engine.fail_next("rows", EngineUnreachableError("the daemon is gone"))

    with pytest.raises(EngineUnreachableError, match="the daemon is gone"):
        launch(engine, waiting=waiting, should_stop=lambda: True)

    assert [*left, "other"] == sorted(engine.specs())


def test_replicas_that_cannot_be_removed_end_the_launch(engine: FakeEngine) -> None:
    """A launch whose claim was broken cannot go on beside what is left of it."""
    break_claim(engine)
    engine.fail_next("remove", EngineError("busy"), on="trainer/0", times=99)

    with pytest.raises(LaunchError, match="cannot remove app-1-trainer-0") as caught:
        launch(engine)

    assert (REPLICAS[0],) == caught.value.left
    assert [REPLICAS[0], "other"] == sorted(engine.specs())


def test_an_app_that_has_to_wait_in_a_deferred_task(engine: FakeEngine) -> None:
    """The launch ends without a replica, and keeps its place in the queue."""
    engine.start(engine.create(replica("other", ["GPU-0"])))

    with pytest.raises(MustWait, match="waiting for 4 GPUs on fake: GPU-0 is held by app other"):
        launch(engine, waiting="elsewhere")

    assert [TICKET, "other"] == sorted(engine.specs())


def test_a_wait_names_gpus_in_the_order_of_the_daemon() -> None:
    """They have the order in which the command gpus lists them."""
    engine = FakeEngine(images=["busybox"], gpus=["GPU-b", "GPU-a", "GPU-d", "GPU-c"])
    engine.create(demand("other", 3).spec("claim", ids=["GPU-a", "GPU-b", "GPU-c"], timeout_s=30))

    with pytest.raises(MustWait, match="GPU-b, GPU-a, GPU-c are claimed by app other"):
        launch(engine, waiting="elsewhere")


def test_a_launch_that_is_stopped_while_it_waits(engine: FakeEngine) -> None:
    """Nothing of it is left."""
    engine.start(engine.create(replica("other", ["GPU-0"])))

    with pytest.raises(LaunchInterruptedError, match="Nothing was left"):
        launch(engine, should_stop=lambda: TICKET in engine.specs())

    assert ["other"] == [*engine.specs()]


def killed_before_the_start(engine: FakeEngine) -> None:
    """Kill a launch after it has created its replicas, before it removes its claim."""
    is_killed = False

    def kill(verb: Verb, name: str) -> None:
        nonlocal is_killed
        is_killed = is_killed or (verb, name) == ("discard", CLAIM)
        if is_killed:
            raise Killed

    engine.before = kill
    with pytest.raises(Killed):
        launch(engine)
    engine.before = None


def test_delete_removes_what_a_killed_launch_left(engine: FakeEngine) -> None:
    """A delete removes the claim and the ticket of the app, and those of no other app."""
    killed_before_the_start(engine)
    mine = replace(demand("one"), labels={labels.GPU_APP: "app-1"})
    engine.create(mine.spec("ticket"))
    engine.create(demand("other").spec("ticket"))
    assert [CLAIM, TICKET, "airflow-torchx-gpu-ticket-other", *REPLICAS] == sorted(engine.specs())

    lifecycle.delete(engine, "app-1")

    assert ["airflow-torchx-gpu-ticket-other"] == [*engine.specs()]


def test_the_clean_up_of_a_launch_leaves_the_place_of_a_newer_one(engine: FakeEngine) -> None:
    """Deleting one launch removes its own ticket, and none of a later launch of the same app."""
    killed_before_the_start(engine)
    for launch_id in ("one", "two"):
        own = {labels.GPU_APP: "app-1", labels.LAUNCH_ID: launch_id}
        engine.create(replace(demand(launch_id), labels=own).spec("ticket"))

    lifecycle.stop_launch(engine, "app-1", "one", grace_s=0)

    assert ["airflow-torchx-gpu-ticket-two"] == [*engine.specs()]


@pytest.mark.parametrize(("gpus", "expected"), [(-1, 0), (1, 1)])
def test_delete_asks_for_claims_of_apps_with_gpus_only(
    engine: FakeEngine, gpus: int, expected: int
) -> None:
    """It makes one more request for an app with GPUs, and none for another."""
    plan = planned(app(1, resource=Resource(cpu=1, gpu=gpus, memMB=64)))
    launching.launch(engine, plan, gpus=GpuAllocator(engine, engine.info()))
    lifecycle.cancel(engine, "app-1")
    engine.calls.clear()

    lifecycle.delete(engine, "app-1")

    assert ["rows", "remove"] + ["rows"] * expected == engine.calls


@pytest.mark.parametrize(
    ("verb", "name"), [("create", REPLICAS[1]), ("discard", CLAIM)], ids=["created", "all created"]
)
def test_an_app_that_is_deleted_during_its_launch(
    engine: FakeEngine, verb: Verb, name: str
) -> None:
    """The launch ends with an error: it does not queue again, and starts no replica."""

    def delete(called: Verb, container: str) -> None:
        if (called, container) == (verb, name):
            engine.before = None
            lifecycle.delete(engine, "app-1")

    engine.before = delete

    with pytest.raises(AppNotFoundError, match="'app-1'"):
        launch(engine)

    assert {} == engine.specs()
    assert "start" not in engine.calls


def test_a_launch_that_others_took_for_killed_waits_again(
    engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Apps that wait may remove the claim and the replicas of a process that has stopped."""
    monkeypatch.setattr(ledger, "UNSTARTED_S", 0.0)

    def remove(verb: Verb, name: str) -> None:
        if (verb, name) == ("discard", CLAIM):
            engine.before = None
            engine.discard(CLAIM)
            for one in REPLICAS:
                engine.remove(one)

    engine.before = remove

    launch(engine)

    assert REPLICAS == sorted(engine.specs())
    assert ["RUNNING"] * 2 == states(engine)
