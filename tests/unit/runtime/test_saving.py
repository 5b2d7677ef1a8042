"""Replicas are asked to save before they are stopped, on the fake engine."""

from __future__ import annotations

import time
from concurrent.futures import Future
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from airflow_torchx.core.engine import labels
from airflow_torchx.core.state.describe import Wait, next_step
from airflow_torchx.errors import EngineError, EngineUnreachableError
from airflow_torchx.runtime import launching, lifecycle, waiting
from airflow_torchx.runtime.save_alarm import SaveAlarm, ask_to_save
from airflow_torchx.specs import AppDef, Role
from airflow_torchx.testing import FakeEngine, Program
from tests.unit.apps import app, planned, states

if TYPE_CHECKING:
    from airflow_torchx.testing import Verb

SAVES = Program(runs_for_s=None, on_signal={"SIGUSR1": 1})
IGNORES = Program(runs_for_s=None)


def launched(program: Program, *, save_s: float = 60, replicas: int = 2) -> FakeEngine:
    """Launch an app with a checkpoint signal."""
    engine = FakeEngine(images=["busybox"], programs=program)
    plan = planned(app(replicas), checkpoint_signal="SIGUSR1", checkpoint_before_timeout_s=save_s)
    launching.launch(engine, plan)
    engine.calls.clear()
    return engine


def names(engine: FakeEngine) -> list[str]:
    """Return the ends of the names of all containers."""
    return sorted(row.name.removeprefix("app-1-trainer-") for row in engine.rows({}))


def sent(engine: FakeEngine) -> list[tuple[str, ...]]:
    """Return the signals that each container has got."""
    return [*engine.signals().values()]


def test_a_replica_saves_before_it_is_stopped(caplog: pytest.LogCaptureFixture) -> None:
    """A cancel sends the signal, says what it waits for, and sends no SIGTERM to what has ended."""
    engine = launched(SAVES)
    caplog.set_level("INFO")
    caplog.clear()

    lifecycle.cancel(engine, "app-1")

    assert [("SIGUSR1",)] * 2 == sent(engine)
    assert "stop" not in engine.calls
    assert ["CANCELLED"] * 2 == states(engine)
    assert [
        "sent SIGUSR1 to 2 replicas of app app-1",
        "waiting up to 60 s until app app-1 has saved and ended; then its replicas get SIGTERM",
    ] == [record.getMessage() for record in caplog.records]


def test_a_replica_that_ignores_the_signal_is_stopped_after_its_time() -> None:
    """SIGTERM follows once the time of a save is over."""
    engine = launched(IGNORES, save_s=0.1)

    lifecycle.cancel(engine, "app-1")

    assert [("SIGUSR1",)] * 2 == sent(engine)
    assert 2 == engine.calls.count("stop")
    assert ["0.cancelled", "1.cancelled"] == names(engine)


def test_an_app_without_a_signal_is_stopped_at_once() -> None:
    """Without the option, a cancel makes the requests that it made before."""
    engine = FakeEngine(images=["busybox"], programs=IGNORES)
    launching.launch(engine, planned(app(1)))
    engine.calls.clear()

    lifecycle.cancel(engine, "app-1")

    assert ["rows", "rename", "stop", "rows"] == engine.calls
    assert [()] == sent(engine)


def test_an_app_without_a_grace_period_is_not_asked() -> None:
    """A client that kills an app at once does not wait for a save."""
    engine = launched(SAVES)

    lifecycle.cancel(engine, "app-1", grace_s=0)

    assert [()] * 2 == sent(engine)


def test_two_clients_send_one_signal() -> None:
    """The rename before the signal is won by one client: torchrun ends a save at a second one."""
    engine = launched(IGNORES, replicas=1)
    second: list[None] = []

    def race(verb: Verb, _: str) -> None:
        if verb == "rename" and not second:
            second.append(None)
            ask_to_save(engine, "app-1", time.time())

    engine.before = race
    ask_to_save(engine, "app-1", time.time())

    assert [("SIGUSR1",)] == sent(engine)


def test_a_save_before_the_timeout_is_not_asked_again_at_the_timeout() -> None:
    """The stop at the timeout sends SIGTERM at once to replicas that had their time."""
    engine = launched(IGNORES)
    ask_to_save(engine, "app-1", time.time())
    assert ["0.saving", "1.saving"] == names(engine)
    assert ["RUNNING"] * 2 == states(engine)

    lifecycle.cancel(engine, "app-1", saved=True)

    assert [("SIGUSR1",)] * 2 == sent(engine)
    assert ["CANCELLED"] * 2 == states(engine)


def test_a_signal_that_the_daemon_refuses_is_sent_again() -> None:
    """A replica that did not get the signal is asked at the next attempt, once."""
    engine = launched(SAVES, replicas=1)
    engine.fail_next("signal", EngineError("not now"))

    with pytest.raises(EngineError):
        ask_to_save(engine, "app-1", time.time())
    assert [()] == sent(engine)
    for _ in range(2):
        ask_to_save(engine, "app-1", time.time())

    assert [("SIGUSR1",)] == sent(engine)


def test_an_app_is_stopped_although_the_daemon_refuses_the_signal(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A cancel goes on with SIGTERM if a replica cannot be asked to save."""
    engine = launched(SAVES)
    engine.fail_next("signal", EngineError("no such signal"), on="trainer/1", times=9)

    lifecycle.cancel(engine, "app-1")

    assert "stopped without a save: no such signal" in caplog.text
    assert ["CANCELLED"] * 2 == states(engine)


@pytest.mark.parametrize(("late_s", "left"), [(0, "60 s or more"), (45, "15 s"), (90, "0 s")])
def test_the_log_says_how_long_replicas_have_to_save(
    caplog: pytest.LogCaptureFixture, late_s: int, left: str
) -> None:
    """A signal that is sent late, like after an outage, leaves less time, and the log says it."""
    caplog.set_level("INFO")

    ask_to_save(launched(SAVES), "app-1", 1000, lambda: 1000.0 + late_s)

    assert f"gets SIGTERM at execution_timeout, in {left}" in caplog.text


def test_a_cancel_waits_for_a_save_that_was_asked_for_before(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Replicas that save before a timeout, and that a user cancels, get no second signal."""
    caplog.set_level("INFO")
    engine = launched(IGNORES)
    ask_to_save(engine, "app-1", time.time())

    def save(verb: Verb, _: str) -> None:
        if verb == "rows" and "waiting up to 60 s" in caplog.text:
            for name in engine.specs():
                engine.end(name, 0)

    engine.before = save
    lifecycle.cancel(engine, "app-1")

    assert [("SIGUSR1",)] * 2 == sent(engine)
    assert "stop" not in engine.calls
    assert ["CANCELLED"] * 2 == states(engine)


def test_a_client_that_died_while_the_app_saved_is_followed_by_another() -> None:
    """A reaper waits for the save that a killed task has asked for, and then sends SIGTERM."""
    engine = launched(IGNORES, save_s=0.2)
    calls = iter(range(3))

    def die(verb: Verb, _: str) -> None:
        if verb == "rows" and next(calls) == 2:
            raise EngineUnreachableError("the client died")

    engine.before = die
    with pytest.raises(EngineUnreachableError):
        lifecycle.cancel(engine, "app-1")
    engine.before = lambda *_: None
    assert ["0.saving.cancelled", "1.saving.cancelled"] == names(engine)

    lifecycle.cancel(engine, "app-1")

    assert [("SIGUSR1",)] * 2 == sent(engine)
    assert ["0.cancelled", "1.cancelled"] == names(engine)
    assert ["CANCELLED"] * 2 == states(engine)


def test_a_second_client_waits_for_the_save() -> None:
    """A client sends no SIGTERM to replicas that another one has asked to save, and that do."""
    engine = launched(IGNORES, replicas=1)
    engine.fail_next("signal", EngineUnreachableError("the client died"), after=True)
    with pytest.raises(EngineUnreachableError):
        lifecycle.cancel(engine, "app-1")
    engine.calls.clear()

    def save(verb: Verb, _: str) -> None:
        if verb == "rows" and engine.calls.count("rows") == 3:
            for name in engine.specs():
                engine.end(name, 0)

    engine.before = save
    lifecycle.cancel(engine, "app-1")

    assert {"rows"} == set(engine.calls)
    assert ["CANCELLED"] == states(engine)


def test_replicas_save_although_one_has_ended() -> None:
    """A replica that ends because it has saved does not stop the others, which still save."""
    engine = launched(IGNORES)
    ask_to_save(engine, "app-1", time.time())
    engine.end("trainer/0", 1)

    assert waiting.poll_once(engine, "app-1") is None
    assert ["FAILED", "RUNNING"] == states(engine)
    found = lifecycle.observe(engine, "app-1")
    assert found is not None
    assert Wait() == next_step(found)


def test_a_role_that_only_serves_is_not_asked() -> None:
    """The signal goes to the essential roles."""
    engine = FakeEngine(images=["busybox"], programs=SAVES)
    roles = [Role(name, "busybox", entrypoint="run") for name in ("trainer", "ps")]
    plan = planned(AppDef("app", roles), essential_roles=["trainer"], checkpoint_signal="SIGUSR1")
    launching.launch(engine, plan)

    ask_to_save(engine, "app-1", time.time())

    assert {"app-1-trainer-0.saving": ("SIGUSR1",), "app-1-ps-0": ()} == engine.signals()


@pytest.mark.parametrize(
    ("label", "text"),
    [(labels.CHECKPOINT_SIGNAL, "SIGKILL"), (labels.CHECKPOINT_S, "soon")],
)
def test_an_invalid_label_asks_for_nothing(label: str, text: str) -> None:
    """Any client can write a label; one that is not ours is ignored."""
    engine = FakeEngine(images=["busybox"], programs=SAVES)
    plan = planned(app(1), checkpoint_signal="SIGUSR1")
    strange = [replace(s, labels={**s.labels, label: text}) for s in plan.containers]
    launching.launch(engine, replace(plan, containers=tuple(strange)))

    lifecycle.cancel(engine, "app-1")

    assert [()] == sent(engine)
    assert ["CANCELLED"] == states(engine)


def test_a_replica_that_saves_is_not_restarted() -> None:
    """Docker does not restart a container that a signal has ended."""
    engine = FakeEngine(images=["busybox"], programs=SAVES)
    launching.launch(engine, planned(app(1, max_retries=3), checkpoint_signal="SIGUSR1"))

    ask_to_save(engine, "app-1", time.time())

    assert ["FAILED"] == states(engine)


def test_the_alarm_asks_once_when_it_is_time() -> None:
    """The alarm asks at its time, again if the daemon refuses, and then no more."""
    now, asked = [0.0], [Future[None](), Future[None]()]
    calls: list[float] = []

    def ask(due_s: float) -> Future[None]:
        assert due_s == 10.0
        calls.append(now[0])
        return asked[len(calls) - 1]

    alarm = SaveAlarm(ask, 10.0, lambda: now[0])
    for now[0] in (0.0, 9.9, 10.0, 10.1):
        alarm.check()
    assert [10.0] == calls
    asked[0].set_exception(EngineError("not now"))
    for now[0] in (11.0, 12.0, 13.0):
        alarm.check()
    assert [10.0, 13.0] == calls
    asked[1].set_result(None)
    for now[0] in (14.0, 20.0):
        alarm.check()

    assert [10.0, 13.0] == calls


def test_an_alarm_without_a_time_never_asks() -> None:
    """An app without a checkpoint signal, or without a deadline, is never asked."""
    alarm = SaveAlarm(lambda _: pytest.fail("it asked"), None)

    alarm.check()


def test_a_label_of_essential_roles_that_is_not_a_list_chooses_none() -> None:
    """Any client can write a label; a cancel does not fail because of one."""
    engine = FakeEngine(images=["busybox"], programs=SAVES)
    plan = planned(app(1), checkpoint_signal="SIGUSR1")
    strange = [
        replace(s, labels={**s.labels, labels.ESSENTIAL_ROLES: "5"}) for s in plan.containers
    ]
    launching.launch(engine, replace(plan, containers=tuple(strange)))

    lifecycle.cancel(engine, "app-1")

    assert ["CANCELLED"] == states(engine)
