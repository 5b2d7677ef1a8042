"""Observe, cancel and delete an app on the fake engine."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from airflow_torchx.core.engine import labels
from airflow_torchx.core.state.describe import replicas_of
from airflow_torchx.errors import (
    AppNotFoundError,
    EngineError,
    EngineNotFoundError,
    EngineUnreachableError,
)
from airflow_torchx.runtime import launching, lifecycle, waiting
from airflow_torchx.runtime.replica_log import find_container
from airflow_torchx.specs import AppState, RetryPolicy
from airflow_torchx.testing import FakeEngine, Program
from tests.unit.apps import app, planned, states

if TYPE_CHECKING:
    from airflow_torchx.testing import Verb

FOREVER = Program(runs_for_s=None)
DEAF = Program(runs_for_s=None, on_term="ignore")


def test_a_container_of_a_committed_image_is_not_a_replica() -> None:
    """A user's container that has a replica's labels and another name is not part of the app."""
    engine = FakeEngine(images=["busybox"], programs=FOREVER)
    plan = planned()
    launching.launch(engine, plan)
    copy = engine.create(replace(plan.containers[0], name="curious_curie"))
    engine.start(copy)
    before = lifecycle.observe(engine, "app-1")
    assert before is not None
    assert copy not in {replica.container_id for replica in replicas_of(before)}
    assert copy != find_container(engine, "app-1", "trainer", 0)

    lifecycle.cancel(engine, "app-1", grace_s=0)
    lifecycle.delete(engine, "app-1")

    assert [("curious_curie", "running")] == [(row.name, row.state) for row in engine.rows({})]
    assert not lifecycle.exists(engine, "app-1")
    assert [] == lifecycle.apps(engine)


def test_a_container_that_is_being_removed_is_not_stopped() -> None:
    """A container that the daemon is removing was killed: a cancel does not wait for its end."""
    engine = FakeEngine(images=["busybox"], programs=FOREVER)
    launching.launch(engine, planned())
    rows = lifecycle.rows_of(engine, "app-1")

    assert [*rows] == lifecycle.live(rows)
    assert [] == lifecycle.live(replace(row, state="removing") for row in rows)


@pytest.mark.parametrize("replicas", [1, 64])
def test_the_status_of_any_number_of_replicas_is_one_call(replicas: int) -> None:
    """A status takes one call as long as no replica failed."""
    engine = FakeEngine(images=["busybox"], programs=FOREVER)
    launching.launch(engine, planned(app(replicas)))
    engine.calls.clear()

    found = lifecycle.observe(engine, "app-1")

    assert ["rows"] == engine.calls
    assert found is not None
    assert replicas == len(replicas_of(found))


def test_a_failed_replica_costs_one_more_call_and_tells_its_cause() -> None:
    """A failed replica costs one inspect, which has exit code, time and out-of-memory flag."""
    programs = {"trainer": FOREVER, "trainer/1": Program(exit_code=137, oom_killed=True)}
    engine = FakeEngine(images=["busybox"], programs=programs)
    launching.launch(engine, planned())
    engine.calls.clear()

    found = lifecycle.observe(engine, "app-1")

    assert ["rows", "inspect"] == engine.calls
    assert found is not None
    lost = replicas_of(found)[1]
    assert (AppState.FAILED, 137, "SIGKILL", True) == (
        lost.state,
        lost.exit_code,
        lost.signal,
        lost.oom_killed,
    )
    assert lost.finished_at is not None


def test_an_app_that_never_existed_is_none() -> None:
    """An unknown app is None."""
    engine = FakeEngine()

    assert lifecycle.observe(engine, "app-1") is None
    assert not lifecycle.exists(engine, "app-1")


def test_removed_replicas_are_lost_and_never_done() -> None:
    """An app with removed replicas has FAILED, even if the others succeeded."""
    engine = FakeEngine(images=["busybox"])
    launching.launch(engine, planned())
    gone = [row.id for row in engine.rows({labels.REPLICA_ID: None})][:2]
    for container in gone:
        engine.remove(container)

    found = lifecycle.observe(engine, "app-1")

    assert found is not None
    assert AppState.FAILED is found.state
    assert ["FAILED", "FAILED", "SUCCEEDED"] == sorted(states(engine))


def test_every_app_is_listed_once_in_one_call() -> None:
    """A list takes one call and has one row per app."""
    engine = FakeEngine(
        images=["busybox"], programs={"trainer": FOREVER, "trainer/0": Program(exit_code=1)}
    )
    launching.launch(engine, planned())
    engine.calls.clear()

    listed = lifecycle.apps(engine)

    assert ["rows"] == engine.calls
    assert [("app-1", AppState.FAILED, "local_docker://t/app-1", "app")] == [
        (row.app_id, row.state, row.app_handle, row.name) for row in listed
    ]


@pytest.mark.parametrize("exit_code", [0, 1, 143])
def test_a_cancelled_app_is_cancelled_whatever_its_exit_codes(exit_code: int) -> None:
    """A cancelled replica that exits with 0 is CANCELLED, not SUCCEEDED."""
    program = Program(runs_for_s=None, term_exit_code=exit_code)
    engine = FakeEngine(images=["busybox"], programs=program)
    launching.launch(engine, planned())

    lifecycle.cancel(engine, "app-1")

    assert ["CANCELLED"] * 3 == states(engine)


def test_replicas_that_ignore_sigterm_share_one_grace_period() -> None:
    """Sixteen replicas that ignore SIGTERM are stopped concurrently."""
    engine = FakeEngine(images=["busybox"], programs=DEAF)
    launching.launch(engine, planned(app(16), stop_grace_s=0.3))
    told = threading.Barrier(16)

    def meet(verb: Verb, _: str) -> None:
        if verb == "stop":
            told.wait(60)

    engine.before = meet

    lifecycle.cancel(engine, "app-1")

    assert ["CANCELLED"] * 16 == states(engine)


def test_replicas_that_ended_keep_their_state_when_the_rest_is_cancelled() -> None:
    """A cancel does not change the state of replicas that had ended."""
    engine = FakeEngine(images=["busybox"], programs={"trainer": FOREVER, "trainer/0": Program()})
    launching.launch(engine, planned())

    lifecycle.cancel(engine, "app-1")

    assert ["SUCCEEDED", "CANCELLED", "CANCELLED"] == states(engine)


@pytest.mark.parametrize("text", ["", "soon", "nan", "-1", "1e300"])
def test_an_invalid_grace_label_is_ignored(text: str) -> None:
    """An invalid grace label falls back to the default, and the app is stopped."""
    engine = FakeEngine(images=["busybox"], programs=FOREVER)
    plan = planned()
    strange = [replace(s, labels={**s.labels, labels.STOP_GRACE: text}) for s in plan.containers]
    launching.launch(engine, replace(plan, containers=tuple(strange)))

    lifecycle.cancel(engine, "app-1")

    assert ["CANCELLED"] == list(dict.fromkeys(states(engine)))


def test_cancelling_twice_is_cancelling_once() -> None:
    """A second cancel stops nothing."""
    engine = FakeEngine(images=["busybox"], programs=FOREVER)
    launching.launch(engine, planned())
    lifecycle.cancel(engine, "app-1")
    engine.calls.clear()

    lifecycle.cancel(engine, "app-1")

    assert ["rows"] == engine.calls


def test_an_app_that_ended_is_not_cancelled_afterwards() -> None:
    """A cancel does not change the state of an app that has ended."""
    engine = FakeEngine(images=["busybox"])
    launching.launch(engine, planned())

    lifecycle.cancel(engine, "app-1")

    assert ["SUCCEEDED"] * 3 == states(engine)


def test_an_interrupted_cancel_is_resumed() -> None:
    """A cancel marks all containers first, so the next one can resume it."""
    engine = FakeEngine(images=["busybox"], programs=FOREVER)
    launching.launch(engine, planned())
    engine.fail_next("stop", EngineUnreachableError("gone"), times=3)
    with pytest.raises(EngineUnreachableError):
        lifecycle.cancel(engine, "app-1")
    for name in engine.specs():
        engine.end(name, 0)

    assert ["CANCELLED"] * 3 == states(engine)


def test_a_replica_that_is_being_stopped_gets_no_second_sigterm() -> None:
    """A second client waits for replicas that a first one, which died, has begun to stop."""
    engine = FakeEngine(images=["busybox"], programs=DEAF)
    launching.launch(engine, planned())
    lost = EngineUnreachableError("the client died")
    engine.fail_next("stop", lost, times=3, after=True)
    with pytest.raises(EngineUnreachableError):
        lifecycle.cancel(engine, "app-1", grace_s=30)
    engine.calls.clear()

    def save_checkpoint(verb: Verb, _: str) -> None:
        if verb == "rows" and engine.calls.count("rows") == 3:
            for name in engine.specs():
                engine.end(name, 0)

    engine.before = save_checkpoint
    lifecycle.cancel(engine, "app-1")

    assert {"rows"} == set(engine.calls)
    assert ["CANCELLED"] * 3 == states(engine)


def test_a_replica_whose_stop_was_lost_is_stopped() -> None:
    """A second client stops replicas that a first one has marked and did not stop."""
    engine = FakeEngine(images=["busybox"], programs=FOREVER)
    launching.launch(engine, planned())
    engine.fail_next("stop", EngineUnreachableError("the client died"), times=3)
    with pytest.raises(EngineUnreachableError):
        lifecycle.cancel(engine, "app-1", grace_s=30)

    lifecycle.cancel(engine, "app-1", grace_s=1)

    assert ["CANCELLED"] * 3 == states(engine)


def test_a_replica_that_is_being_stopped_can_be_killed() -> None:
    """A client without a grace period does not wait for the one of another client."""
    engine = FakeEngine(images=["busybox"], programs=DEAF)
    launching.launch(engine, planned())
    lost = EngineUnreachableError("the client died")
    engine.fail_next("stop", lost, times=3, after=True)
    with pytest.raises(EngineUnreachableError):
        lifecycle.cancel(engine, "app-1", grace_s=30)

    lifecycle.cancel(engine, "app-1", grace_s=0)

    assert ["CANCELLED"] * 3 == states(engine)


def test_a_replica_that_restarts_for_ever_is_stopped() -> None:
    """A cancel also stops a container that its restart policy restarts."""
    program = Program(exit_code=1, runs_for_s=0.05, restart_delay_s=0.01)
    engine = FakeEngine(images=["busybox"], programs=program)
    launching.launch(engine, planned(app(2, max_retries=1_000_000)))

    lifecycle.cancel(engine, "app-1")

    assert ["CANCELLED"] * 2 == states(engine)


def test_a_replica_that_cannot_be_renamed_before_it_is_stopped_is_cancelled() -> None:
    """Docker cannot rename a container on a network that it is about to restart."""
    program = Program(exit_code=1, restart_delay_s=60)
    engine = FakeEngine(images=["busybox"], programs=program)
    launching.launch(engine, planned(app(2, max_retries=3, retry_policy=RetryPolicy.REPLICA)))
    assert ["PENDING"] * 2 == states(engine)
    engine.fail_next("rename", EngineNotFoundError("sandbox 0f not found"), times=2)

    lifecycle.cancel(engine, "app-1")

    assert ["CANCELLED"] * 2 == states(engine)


class Raced(FakeEngine):
    """A daemon on which another client renames each container first, and then dies."""

    def rename(self, container_id: str, name: str) -> None:
        """Rename a container for both clients."""
        super().rename(container_id, name)
        super().rename(container_id, name)


def test_an_app_that_another_client_marks_at_once_is_stopped() -> None:
    """A cancel goes on if another client renames the containers at the same time."""
    engine = Raced(images=["busybox"], programs=FOREVER)
    launching.launch(engine, planned())

    lifecycle.cancel(engine, "app-1", grace_s=1)

    assert ["CANCELLED"] * 3 == states(engine)


class Stubborn(FakeEngine):
    """A daemon that confirms a stop and does nothing."""

    def stop(self, container_id: str, grace_s: float) -> None:
        """Do nothing."""


def test_an_app_that_does_not_end_is_an_error() -> None:
    """A cancel fails if the containers keep running."""
    engine = Stubborn(images=["busybox"], programs=FOREVER)
    launching.launch(engine, planned())

    with pytest.raises(EngineError, match="still running"):
        lifecycle.cancel(engine, "app-1", pauses_s=(0.0, 0.0))


def test_a_cancel_that_succeeds_at_the_last_try_is_no_error() -> None:
    """A cancel succeeds if its last round stops everything."""
    engine = FakeEngine(images=["busybox"], programs=FOREVER)
    launching.launch(engine, planned())

    lifecycle.cancel(engine, "app-1", pauses_s=(0.0,))

    assert ["CANCELLED"] * 3 == states(engine)


@pytest.mark.parametrize("verb", [lifecycle.cancel, lifecycle.delete, waiting.wait])
def test_an_unknown_app_is_an_error(verb: object) -> None:
    """Cancelling or deleting an unknown app is an error."""
    with pytest.raises(AppNotFoundError, match="no app 'nobody' on this daemon"):
        verb(FakeEngine(), "nobody")  # type: ignore[operator]


@pytest.mark.parametrize("program", [FOREVER, Program(), Program(exit_code=3)])
def test_delete_leaves_nothing(program: Program) -> None:
    """A delete removes all containers, running or not."""
    engine = FakeEngine(images=["busybox"], programs=program)
    launching.launch(engine, planned())

    lifecycle.delete(engine, "app-1")

    assert {} == engine.specs()


def test_stop_launch_touches_only_its_own_launch() -> None:
    """Containers of another launch under the same app id stay untouched."""
    engine = FakeEngine(images=["busybox"], programs=FOREVER)
    launching.launch(engine, planned(launch_id="theirs"))

    lifecycle.stop_launch(engine, "app-1", "mine", grace_s=0)

    assert ["RUNNING"] * 3 == states(engine)


@pytest.mark.parametrize("program", [FOREVER, Program()])
def test_stop_launch_reports_a_stop_before_the_removal(program: Program) -> None:
    """The caller sees the stopped containers of an app that was running."""
    engine = FakeEngine(images=["busybox"], programs=program)
    launching.launch(engine, planned())
    seen: list[str] = []

    lifecycle.stop_launch(
        engine,
        "app-1",
        planned().launch_id,
        grace_s=0,
        on_stopped=lambda: seen.extend(states(engine)),
    )

    assert (["CANCELLED"] * 3 if program is FOREVER else []) == seen
    assert {} == engine.specs()


def test_stop_launch_of_an_app_that_another_client_removes() -> None:
    """A stop is done if another client removes the containers first."""
    engine = FakeEngine(images=["busybox"], programs=FOREVER)
    launching.launch(engine, planned())

    def remove() -> None:
        lifecycle.delete(engine, "app-1")

    lifecycle.stop_launch(engine, "app-1", planned().launch_id, grace_s=0, on_stopped=remove)

    assert {} == engine.specs()


def test_stop_launch_of_an_app_that_is_gone_before_its_stop() -> None:
    """A stop is done if another client removes the containers after they were listed."""
    engine = FakeEngine(images=["busybox"], programs=FOREVER)
    launching.launch(engine, planned())
    looks: list[str] = []

    def remove(verb: Verb, _: str) -> None:
        looks.append(verb)
        if looks.count("rows") == 2:
            engine.before = lambda *_: None
            lifecycle.delete(engine, "app-1")

    engine.before = remove
    lifecycle.stop_launch(engine, "app-1", planned().launch_id, grace_s=0)

    assert {} == engine.specs()


@pytest.mark.parametrize(("keep", "left"), [(True, 3), (False, 0)])
def test_stop_launch_keeps_containers_only_on_request(left: int, *, keep: bool) -> None:
    """A stopped launch keeps its exited containers only with ``keep``."""
    engine = FakeEngine(images=["busybox"], programs=FOREVER)
    launching.launch(engine, planned())

    lifecycle.stop_launch(engine, "app-1", planned().launch_id, grace_s=0, keep=keep)

    assert left == len(engine.specs())
    assert {"exited"} >= {row.state for row in engine.rows({})}


@pytest.mark.parametrize(
    ("program", "keep", "expected"),
    [
        (FOREVER, True, ["stopping app app-1 with a grace period of 2.5 s", "stopped app app-1"]),
        (Program(exit_code=3), True, []),
        (Program(exit_code=3), False, ["removed the containers of app app-1"]),
        (Program(), False, ["removed the containers of app app-1"]),
    ],
)
def test_only_a_running_app_is_said_to_be_stopped(
    program: Program, expected: list[str], caplog: pytest.LogCaptureFixture, *, keep: bool
) -> None:
    """The log of a stop says what is done: an app that has ended is not stopped."""
    engine = FakeEngine(images=["busybox"], programs=program)
    launching.launch(engine, planned())
    caplog.set_level("INFO", "airflow_torchx.runtime.lifecycle")
    caplog.clear()

    lifecycle.stop_launch(engine, "app-1", planned().launch_id, grace_s=2.5, keep=keep)

    assert expected == caplog.messages
