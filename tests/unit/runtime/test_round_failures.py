"""Why the rounds of an app failed, in the log and on the card."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_torchx.errors import EngineUnreachableError
from airflow_torchx.runtime import attach, launching, root_cause
from airflow_torchx.specs import AppState, RetryPolicy
from airflow_torchx.testing import Program
from tests.unit.apps import planned
from tests.unit.core.state.test_worker_failure import lines_of
from tests.unit.runtime.round_clients import APP, CRASH, FOREVER, Daemon, app, own, role
from tests.unit.runtime.test_root_cause import PATH, error_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest

    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.specs import Role

NONE: frozenset[str] = frozenset()
SECRET = "open-sesame"  # noqa: S105 - not a real one
EXIT_85 = Program(lines=[line.text for line in lines_of("exit-85")], exit_code=1)
RAISES = Program(
    lines=["up"], files={PATH: error_file(f"ValueError: {SECRET} is NaN")}, exit_code=1
)


def launched(daemon: Daemon, *roles: Role, **options: Any) -> Daemon:  # noqa: ANN401 - run options
    """Launch an app on a daemon a second after its clock began, and return the daemon."""
    launching.launch(daemon.engine, planned(app(*roles), **{"stop_grace_s": 0, **options}))
    daemon.clock.advance(1)
    return daemon


def ended(daemon: Daemon, secrets: frozenset[str] | None = NONE) -> Daemon:
    """Restart an app until it has failed, and return its daemon."""
    found = own(daemon.engine, daemon.clock, secrets=secrets)
    assert found is not None
    assert AppState.FAILED is found.state
    return daemon


def card_of(engine: Engine, secrets: frozenset[str] = NONE) -> str:
    """Return the card of an app that has ended, as its task makes it."""
    found = root_cause.diagnosed(engine, attach.look(engine, APP, inspect_all=True), secrets)
    return attach.card(engine, found, secrets)


def rounds_on(card: str) -> list[str]:
    """Return the lines of a card about earlier rounds."""
    return [line.strip() for line in card.splitlines() if line.startswith("  round ")]


def restarts_in(messages: Sequence[str]) -> list[str]:
    """Return the lines of a log about restarts."""
    return [text for text in messages if "; restarting " in text]


def test_the_worker_that_ended_a_round(caplog: pytest.LogCaptureFixture) -> None:
    """The log and the card have the rank and the exit code of the worker, and not torchrun's."""
    daemon = launched(Daemon({"trainer/1": [EXIT_85]}), role(retries=1))

    with caplog.at_level("INFO"):
        ended(daemon)

    why = "rank 1: exit code 85"
    line = f"replica trainer/1 failed: {why}; restarting the app, restart 1 of 1"
    assert [line] == restarts_in(caplog.messages)
    assert [f"round 0: trainer/1: {why}"] == rounds_on(card_of(daemon.engine))


def test_the_error_that_ended_a_round(caplog: pytest.LogCaptureFixture) -> None:
    """The log and the card have the error of the worker, without secrets."""
    secrets = frozenset({SECRET})
    daemon = launched(Daemon({"trainer/1": [RAISES]}), role(retries=1))

    with caplog.at_level("INFO"):
        ended(daemon, secrets)

    (line,) = restarts_in(caplog.messages)
    assert line.startswith("replica trainer/1 failed: exit code 1: ValueError: *** is NaN; ")
    card = card_of(daemon.engine, secrets)
    assert ["round 0: trainer/1: exit code 1: ValueError: *** is NaN"] == rounds_on(card)
    assert SECRET not in caplog.text + card


def test_an_owner_that_knows_no_secrets(caplog: pytest.LogCaptureFixture) -> None:
    """A triggerer, which cannot mask the secrets of a task, logs no text of a program."""
    daemon = launched(Daemon({"trainer/1": [RAISES]}), role(retries=1))

    with caplog.at_level("INFO"):
        ended(daemon, None)

    (line,) = restarts_in(caplog.messages)
    assert line.startswith("replica trainer/1 failed: exit code 1; restarting ")


def test_the_failure_rule_of_a_round(caplog: pytest.LogCaptureFixture) -> None:
    """The log and the card have the rule that explains why an earlier round failed."""
    hung = Program(lines=["Watchdog caught collective operation timeout"], exit_code=134)
    daemon = launched(Daemon({"trainer/1": [hung, CRASH]}), role(retries=1))

    with caplog.at_level("INFO"):
        ended(daemon)
        card = card_of(daemon.engine)

    why = "exit code 134 (SIGABRT) (failure rule nccl_timeout)"
    (line,) = restarts_in(caplog.messages)
    assert line.startswith(f"replica trainer/1 failed: {why}; restarting ")
    assert [f"round 0: trainer/1: {why}"] == rounds_on(card)
    # The rule explains only that round.
    assert "\nfailure rule: " not in card
    assert "app app-1: its failure is explained" not in caplog.text


def test_a_worker_in_a_replica_that_was_stopped(caplog: pytest.LogCaptureFixture) -> None:
    """The replica that lost its peer may end first: the one whose worker failed is named."""
    lost = Program(files={PATH: error_file("RuntimeError: Broken pipe")}, exit_code=1)
    slow = Program(lines=EXIT_85.lines, runs_for_s=None, term_exit_code=1)
    daemon = launched(Daemon({"trainer/0": [lost], "trainer/1": [slow]}), role(retries=1))

    with caplog.at_level("INFO"):
        ended(daemon)

    (line,) = restarts_in(caplog.messages)
    assert line.startswith("replica trainer/1 failed: rank 1: exit code 85; restarting the app, ")
    assert ["round 0: trainer/1: rank 1: exit code 85"] == rounds_on(card_of(daemon.engine))


def test_the_worker_of_an_auxiliary_role(caplog: pytest.LogCaptureFixture) -> None:
    """A role that only serves is named, with its worker, although it does not fail the app."""
    data = role("data", 1, retries=1, policy=RetryPolicy.ROLE)
    crash_later = Program(lines=["up"], runs_for_s=9, exit_code=1)
    daemon = Daemon({"data/0": [EXIT_85, FOREVER], "trainer/0": [crash_later]})
    launched(daemon, role("trainer", 1), data, essential_roles=["trainer"])

    with caplog.at_level("INFO"):
        ended(daemon)

    (line,) = restarts_in(caplog.messages)
    assert line.startswith("replica data/0 failed: rank 1: exit code 85; restarting data, ")
    assert ["round 0: data/0: rank 1: exit code 85"] == rounds_on(card_of(daemon.engine))


def test_the_next_owner_names_the_worker(caplog: pytest.LogCaptureFixture) -> None:
    """What another owner has stopped for the round is not blamed for the code it ended with."""
    lost = Program(files={PATH: error_file("RuntimeError: Broken pipe")}, exit_code=1)
    daemon = launched(Daemon({"trainer/0": [lost]}), role(retries=1))
    daemon.engine.rename("app-1-trainer-1", "app-1-trainer-1.restarting")
    daemon.engine.stop("app-1-trainer-1.restarting", 0)

    with caplog.at_level("INFO"):
        ended(daemon)

    (line,) = restarts_in(caplog.messages)
    assert line.startswith("replica trainer/0 failed: exit code 1: RuntimeError: Broken pipe; ")


def test_many_rounds_cost_few_requests() -> None:
    """Of many earlier rounds, the containers of the newest ones are read; all are on the card."""
    daemon = ended(launched(Daemon({"trainer/1": [EXIT_85]}), role(replicas=10, retries=10)))
    found = attach.look(daemon.engine, APP, inspect_all=True)
    daemon.engine.calls.clear()

    shown = rounds_on(attach.card(daemon.engine, found, NONE))

    expected = ["exit code 1"] * 2 + ["rank 1: exit code 85"] * 8
    assert [f"round {n}: trainer/1: {why}" for n, why in enumerate(expected)] == shown
    assert 64 >= daemon.engine.calls.count("read_file")
    assert 65 >= daemon.engine.calls.count("logs")
    assert 10 + 8 * 8 >= daemon.engine.calls.count("inspect")


def test_rounds_that_cannot_be_read(caplog: pytest.LogCaptureFixture) -> None:
    """A daemon that goes away leaves the exit codes of the containers on the card."""
    daemon = ended(launched(Daemon({"trainer/1": [EXIT_85]}), role(retries=1)))
    found = attach.look(daemon.engine, APP, inspect_all=True)
    away = EngineUnreachableError("the daemon is away", fix="Wait.")
    daemon.engine.fail_next("read_file", away, on="trainer/1")

    shown = rounds_on(attach.card(daemon.engine, found, NONE))

    assert ["round 0: trainer/1: exit code 1"] == shown
    assert 1 == caplog.text.count("cannot read why earlier rounds of app app-1 failed")
