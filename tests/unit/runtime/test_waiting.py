"""Waiting on an app."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_torchx.concurrency.parallel import StopRequested
from airflow_torchx.core.state.describe import replicas_of
from airflow_torchx.errors import AppNotFoundError, EngineUnreachableError, WaitTimeoutError
from airflow_torchx.runtime import lifecycle, waiting
from airflow_torchx.specs import AppState
from airflow_torchx.testing import FakeEngine, Program
from tests.unit.apps import planned

if TYPE_CHECKING:
    from airflow_torchx.testing import Verb

FOREVER = Program(runs_for_s=None)


def test_a_wait_ends_when_every_replica_has() -> None:
    """And returns what describe returns."""
    engine = FakeEngine(images=["busybox"], programs=Program(runs_for_s=0.2))
    lifecycle.launch(engine, planned())

    ended = waiting.wait(engine, "app-1")

    assert AppState.SUCCEEDED is ended.state
    assert lifecycle.observe(engine, "app-1") == ended


def test_the_peers_of_a_lost_replica_are_stopped() -> None:
    """Policy ``fail_fast``: a dead rank leaves nobody hanging."""
    programs = {"trainer": FOREVER, "trainer/1": Program(exit_code=7, runs_for_s=0.1)}
    engine = FakeEngine(images=["busybox"], programs=programs)
    lifecycle.launch(engine, planned())

    ended = waiting.wait(engine, "app-1", timeout_s=20)

    assert AppState.FAILED is ended.state
    assert ["CANCELLED", "FAILED", "CANCELLED"] == [r.state.name for r in replicas_of(ended)]


def test_wait_all_lets_the_peers_end_by_themselves() -> None:
    """Policy ``wait_all``: nobody is stopped."""
    programs = {"trainer": Program(runs_for_s=0.4), "trainer/1": Program(exit_code=7)}
    engine = FakeEngine(images=["busybox"], programs=programs)
    lifecycle.launch(engine, planned(failure_policy="wait_all"))

    ended = waiting.wait(engine, "app-1", timeout_s=20)

    assert AppState.FAILED is ended.state
    assert "stop" not in engine.calls


def test_a_removed_replica_is_lost() -> None:
    """Somebody removed one container of a running app: the others are stopped."""
    engine = FakeEngine(images=["busybox"], programs=FOREVER)
    lifecycle.launch(engine, planned())
    engine.remove(next(row.id for row in engine.rows({}) if row.name.endswith("-2")))

    ended = waiting.wait(engine, "app-1", timeout_s=20)

    assert ["CANCELLED", "CANCELLED", "FAILED"] == [r.state.name for r in replicas_of(ended)]


def test_patience_ends_and_the_app_goes_on() -> None:
    """A timeout stops the waiting, not the app."""
    engine = FakeEngine(images=["busybox"], programs=FOREVER)
    lifecycle.launch(engine, planned())

    with pytest.raises(WaitTimeoutError, match="keeps running"):
        waiting.wait(engine, "app-1", timeout_s=0.2)

    found = lifecycle.observe(engine, "app-1")
    assert found is not None
    assert AppState.RUNNING is found.state


def test_an_app_that_is_removed_meanwhile_is_an_error() -> None:
    """It neither succeeded nor failed: nobody knows any more."""
    engine = FakeEngine(images=["busybox"], programs=FOREVER)
    lifecycle.launch(engine, planned())
    looks: list[str] = []

    def remove(verb: Verb, _: str) -> None:
        looks.append(verb)
        if looks.count("rows") == 2 and verb == "rows":
            lifecycle.delete(engine, "app-1")

    engine.before = remove

    with pytest.raises(AppNotFoundError):
        waiting.wait(engine, "app-1", timeout_s=20)


def test_a_daemon_that_restarts_is_waited_for() -> None:
    """Two looks without an answer do not end the wait."""
    engine = FakeEngine(images=["busybox"], programs=Program(runs_for_s=0.1))
    lifecycle.launch(engine, planned())
    engine.fail_next("rows", EngineUnreachableError("away"), times=2)

    assert AppState.SUCCEEDED is waiting.wait(engine, "app-1", timeout_s=20).state


def test_a_daemon_that_stays_away_is_an_error() -> None:
    """A daemon that does not answer for longer than an outage may last is an error."""
    engine = FakeEngine(images=["busybox"], programs=FOREVER)
    lifecycle.launch(engine, planned())
    engine.down = True

    with pytest.raises(EngineUnreachableError):
        waiting.wait(engine, "app-1", timeout_s=20, outage_s=0.2)


def test_a_waiter_can_be_called_off() -> None:
    """The app goes on."""
    engine = FakeEngine(images=["busybox"], programs=FOREVER)
    lifecycle.launch(engine, planned())

    with pytest.raises(StopRequested):
        waiting.wait(engine, "app-1", should_stop=lambda: True)

    assert "stop" not in engine.calls


def test_a_wait_that_is_left_in_a_pause_does_not_look_again() -> None:
    """Whoever left may have closed the connection meanwhile."""
    engine = FakeEngine(images=["busybox"], programs=FOREVER)
    lifecycle.launch(engine, planned())
    before = engine.calls.count("rows")
    answers = iter([False, True])

    with pytest.raises(StopRequested):
        waiting.wait(engine, "app-1", should_stop=lambda: next(answers))

    assert 1 == engine.calls.count("rows") - before


def test_pauses_grow_to_a_second() -> None:
    """Short apps are seen soon, long ones cost one call a second."""
    backoff = waiting.Backoff()
    taken = [backoff.next() for _ in range(20)]

    assert sorted(taken) == taken
    assert (0.1, 1.0) == (taken[0], taken[-1])
