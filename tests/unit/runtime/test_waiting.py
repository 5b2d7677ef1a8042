"""Waiting for an app."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from airflow_torchx.concurrency.parallel import StopRequested
from airflow_torchx.core.state.describe import replicas_of
from airflow_torchx.core.state.report import replica_name
from airflow_torchx.errors import AppNotFoundError, EngineUnreachableError, WaitTimeoutError
from airflow_torchx.runtime import launching, lifecycle, outage, waiting
from airflow_torchx.specs import AppDef, AppState, Role
from airflow_torchx.testing import FakeEngine, Program
from tests.unit.apps import planned

if TYPE_CHECKING:
    from airflow_torchx.testing import Verb

FOREVER = Program(runs_for_s=None)


def test_a_wait_ends_when_every_replica_has() -> None:
    """A wait ends with the last replica and returns its description."""
    engine = FakeEngine(images=["busybox"], programs=Program(runs_for_s=0.2))
    launching.launch(engine, planned())

    ended = waiting.wait(engine, "app-1")

    assert AppState.SUCCEEDED is ended.state
    assert lifecycle.observe(engine, "app-1") == ended


def test_the_peers_of_a_failed_replica_are_stopped(caplog: pytest.LogCaptureFixture) -> None:
    """Policy ``fail_fast`` stops the peers of a failed replica, and the log says so."""
    programs = {"trainer": FOREVER, "trainer/1": Program(exit_code=7, runs_for_s=0.1)}
    engine = FakeEngine(images=["busybox"], programs=programs)
    launching.launch(engine, planned())

    with caplog.at_level("INFO"):
        ended = waiting.wait(engine, "app-1", timeout_s=60)

    assert "replica trainer/1 failed; stopping the other replicas" in caplog.text
    assert AppState.FAILED is ended.state
    assert ["CANCELLED", "FAILED", "CANCELLED"] == [r.state.name for r in replicas_of(ended)]


def test_auxiliary_roles_are_stopped_once_the_essential_ones_have_ended(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The app succeeds with its essential role, whatever became of the others before."""
    roles = [Role(name, "busybox", entrypoint="run", num_replicas=2) for name in ("trainer", "ps")]
    programs = {
        "trainer": Program(runs_for_s=0.3),
        "ps": Program(runs_for_s=None, on_term="ignore"),
        "ps/1": Program(exit_code=7),
    }
    engine = FakeEngine(images=["busybox"], programs=programs)
    plan = planned(
        AppDef("app", roles),
        essential_roles=["trainer"],
        auxiliary_grace_s=0.2,
        stop_grace_s=600,
    )
    launching.launch(engine, plan)

    with caplog.at_level("INFO"):
        ended = waiting.wait(engine, "app-1", timeout_s=60)

    assert "every essential replica has ended; stopping ps" in caplog.text
    assert AppState.SUCCEEDED is ended.state
    assert {
        "trainer/0": "SUCCEEDED",
        "trainer/1": "SUCCEEDED",
        "ps/0": "CANCELLED",
        "ps/1": "FAILED",
    } == {replica_name(r): r.state.name for r in replicas_of(ended)}


def test_wait_all_lets_the_peers_end_by_themselves() -> None:
    """Policy ``wait_all`` stops nothing."""
    programs = {"trainer": Program(runs_for_s=0.4), "trainer/1": Program(exit_code=7)}
    engine = FakeEngine(images=["busybox"], programs=programs)
    launching.launch(engine, planned(failure_policy="wait_all"))

    ended = waiting.wait(engine, "app-1", timeout_s=60)

    assert AppState.FAILED is ended.state
    assert "stop" not in engine.calls


def test_a_removed_replica_is_lost() -> None:
    """A removed container of a running app counts as lost, and the others are stopped."""
    engine = FakeEngine(images=["busybox"], programs=FOREVER)
    launching.launch(engine, planned())
    engine.remove(next(row.id for row in engine.rows({}) if row.name.endswith("-2")))

    ended = waiting.wait(engine, "app-1", timeout_s=60)

    assert ["CANCELLED", "CANCELLED", "FAILED"] == [r.state.name for r in replicas_of(ended)]


def test_a_timeout_ends_the_wait_and_not_the_app() -> None:
    """A timeout ends the wait and leaves the app running."""
    engine = FakeEngine(images=["busybox"], programs=FOREVER)
    launching.launch(engine, planned())

    with pytest.raises(WaitTimeoutError, match="keeps running"):
        waiting.wait(engine, "app-1", timeout_s=0.2)

    found = lifecycle.observe(engine, "app-1")
    assert found is not None
    assert AppState.RUNNING is found.state


def test_an_app_that_is_removed_meanwhile_is_an_error() -> None:
    """An app that is removed during a wait is an error."""
    engine = FakeEngine(images=["busybox"], programs=FOREVER)
    launching.launch(engine, planned())
    looks: list[str] = []

    def remove(verb: Verb, _: str) -> None:
        looks.append(verb)
        if looks.count("rows") == 2 and verb == "rows":
            lifecycle.delete(engine, "app-1")

    engine.before = remove

    with pytest.raises(AppNotFoundError):
        waiting.wait(engine, "app-1", timeout_s=60)


def test_a_daemon_that_restarts_is_waited_for() -> None:
    """Two looks without an answer do not end a wait."""
    engine = FakeEngine(images=["busybox"], programs=Program(runs_for_s=0.1))
    launching.launch(engine, planned())
    engine.fail_next("rows", EngineUnreachableError("away"), times=2)

    assert AppState.SUCCEEDED is waiting.wait(engine, "app-1", timeout_s=60).state


def test_a_daemon_that_stays_away_is_an_error() -> None:
    """An outage longer than the tolerance ends a wait with an error."""
    engine = FakeEngine(images=["busybox"], programs=FOREVER)
    launching.launch(engine, planned())
    engine.down = True

    with pytest.raises(EngineUnreachableError):
        waiting.wait(engine, "app-1", timeout_s=60, outage_s=0.2)


def test_a_wait_can_be_stopped() -> None:
    """A stopped wait leaves the app running."""
    engine = FakeEngine(images=["busybox"], programs=FOREVER)
    launching.launch(engine, planned())

    with pytest.raises(StopRequested):
        waiting.wait(engine, "app-1", should_stop=lambda: True)

    assert "stop" not in engine.calls


def test_a_wait_stopped_in_a_pause_does_not_look_again() -> None:
    """A wait that is stopped during a pause makes no further request."""
    engine = FakeEngine(images=["busybox"], programs=FOREVER)
    launching.launch(engine, planned())
    before = engine.calls.count("rows")
    answers = iter([False, True])

    with pytest.raises(StopRequested):
        waiting.wait(engine, "app-1", should_stop=lambda: next(answers))

    assert 1 == engine.calls.count("rows") - before


def test_a_wait_that_is_woken_looks_often() -> None:
    """The daemon may list an end a little later than it told it otherwise."""
    engine = FakeEngine(images=["busybox"], programs=FOREVER)
    launching.launch(engine, planned())
    pauses: list[float | None] = []

    class Bell(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            pauses.append(timeout)
            if len(pauses) == 3:
                lifecycle.cancel(engine, "app-1", grace_s=0)
            return len(pauses) == 1

    waiting.wait(engine, "app-1", wake=Bell())

    assert [0.1, 0.01, 0.015] == pauses


def test_pauses_grow_to_a_second() -> None:
    """The pauses of a wait grow to one second."""
    backoff = outage.Backoff()
    taken = [backoff.next() for _ in range(20)]

    assert sorted(taken) == taken
    assert (0.1, 1.0) == (taken[0], taken[-1])
