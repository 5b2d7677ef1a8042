"""How the failure of a worker is read from its container, on the fake engine."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from airflow_torchx.core.state.describe import replicas_of
from airflow_torchx.core.state.failure_rules import failure_action, rule_name, with_replicas
from airflow_torchx.errors import (
    AppFailedError,
    CudaOutOfMemoryError,
    EngineUnreachableError,
    NodeUnreachableError,
)
from airflow_torchx.runtime import attach, launching, root_cause
from airflow_torchx.specs import RetryPolicy
from airflow_torchx.testing import FakeEngine, Program
from airflow_torchx.testing.clock import ManualClock
from tests.unit.apps import app, planned
from tests.unit.core.state.test_worker_failure import lines_of

if TYPE_CHECKING:
    from airflow_torchx.specs import DescribeAppResponse
    from airflow_torchx.testing import Verb

PATH = "/tmp/torchelastic_error.json"  # noqa: S108 - a file of the container
BLOCK = [line.text for line in lines_of("exit-85")]


def error_file(message: str, timestamp: str = "4102444800", code: int = 1) -> bytes:
    """Return what @record writes."""
    extra = {"py_callstack": f"Traceback (most recent call last):\n{message}"}
    data = {"message": message, "extraInfo": extra | {"timestamp": timestamp}, "errorCode": code}
    return json.dumps({"message": data}).encode()


def ended(engine: FakeEngine, replicas: int = 2) -> DescribeAppResponse:
    """Return an app that has ended."""
    launching.launch(engine, planned(app(replicas), failure_policy="wait_all"))
    return attach.look(engine, "app-1", inspect_all=True)


def test_the_worker_of_a_failed_replica() -> None:
    """The error has the exit code of the worker, and the card its rank."""
    programs = {"trainer/1": Program(exit_code=1, lines=BLOCK)}
    engine = FakeEngine(images=["busybox"], programs=programs)

    found = root_cause.diagnosed(engine, ended(engine))

    with pytest.raises(AppFailedError) as caught:
        attach.outcome(engine, found, None, frozenset(), lambda: False)
    error = caught.value
    assert (85, "trainer/1") == (error.exit_code, error.replica)
    assert 1 == error.worker.rank
    assert "trainer/1 failed first: rank 1: exit code 85\n" in str(error)
    assert "  exitcode  : 85" not in str(error)


def test_a_node_that_is_away() -> None:
    """What is on it is left out at once, while the others are read: it is not an outage."""
    engine = FakeEngine(images=["busybox"], programs=Program(exit_code=1, lines=BLOCK))
    app = ended(engine)
    engine.fail_next("read_file", NodeUnreachableError("node box3 does not answer"))

    found = root_cause.explained(engine, app, frozenset(), {})

    assert 1 <= sum(one.worker is not None for one in replicas_of(found))


def test_secrets_are_masked() -> None:
    """The message and the traceback have no secret, also where a text is cut."""
    text = f"{'x' * 1_995}open-sesame"
    program = Program(exit_code=1, files={PATH: error_file(text)}, lines=["open-sesame"])
    engine = FakeEngine(images=["busybox"], programs=program)

    found = root_cause.diagnosed(engine, ended(engine), frozenset({"open-sesame"}))

    for replica in replicas_of(found):
        assert replica.worker is not None
        assert replica.worker.message.endswith("x***")
        assert replica.worker.traceback.endswith("x***")


HIDDEN = r"open'se\same-é1"
COLORED = HIDDEN.replace("se", "\x1b[1mse\x1b[0m")
COPIED = (
    "[default0]:[rank0]: Traceback (most recent call last):",
    f"[default0]:[rank0]: ValueError: {COLORED}",
    "E1 api.py:984] failed (exitcode: 1) local_rank: 0 (pid: 12) of binary: python",
)


@pytest.mark.parametrize(
    "program",
    [
        Program(exit_code=1, files={PATH: error_file(f"ValueError: {HIDDEN!r}")}),
        Program(exit_code=1, files={PATH: error_file(f"ValueError: {json.dumps(HIDDEN)}")}),
        Program(exit_code=1, files={PATH: error_file(f"ValueError: {COLORED}")}),
        Program(exit_code=1, lines=COPIED),
    ],
)
def test_quoted_and_colored_secrets_are_masked(program: Program) -> None:
    """A secret that a program has quoted or colored is in no part of a worker's failure."""
    engine = FakeEngine(images=["busybox"], programs=program)
    secrets = frozenset({HIDDEN})

    found = root_cause.diagnosed(engine, ended(engine, 1), secrets)

    (replica,) = replicas_of(found)
    assert replica.worker is not None
    card = str(attach.failure(engine, found, secrets))
    for text in (replica.worker.message, replica.worker.traceback, card):
        assert "***" in text
        assert "same" not in text


def test_what_an_earlier_run_left_does_not_count() -> None:
    """Docker restarts a container with its files and its log; only the last run counts."""
    old = {PATH: error_file("old", timestamp="5")}
    clock = ManualClock()
    runs = [
        Program(exit_code=1, files=old, lines=BLOCK, restart_delay_s=1),
        Program(exit_code=3, files=old),
    ]
    engine = FakeEngine(
        images=["busybox"], programs={"trainer": runs}, clock=clock, sleep=clock.sleep
    )
    restarted = app(1, max_retries=1, retry_policy=RetryPolicy.REPLICA)
    launching.launch(engine, planned(restarted, failure_policy="wait_all"))
    clock.advance(5)

    (replica,) = replicas_of(
        root_cause.diagnosed(engine, attach.look(engine, "app-1", inspect_all=True))
    )

    assert (1, None) == (replica.num_restarts, replica.worker)


def test_a_program_that_fails_before_docker_notes_its_start() -> None:
    """The only run of a container counts as a whole, whatever its times are."""
    program = Program(exit_code=1, files={PATH: error_file("early", timestamp="5")}, lines=BLOCK)
    engine = FakeEngine(images=["busybox"], programs=program)

    (replica,) = replicas_of(root_cause.diagnosed(engine, ended(engine, 1)))

    assert replica.worker is not None
    assert (85, "early") == (replica.worker.exit_code, replica.worker.message)


def test_a_large_file_is_not_read() -> None:
    """An error file of more than 1 MiB is ignored."""
    program = Program(exit_code=3, files={PATH: error_file("x" * (1 << 20))})
    engine = FakeEngine(images=["busybox"], programs=program)

    found = root_cause.diagnosed(engine, ended(engine))

    assert [None, None] == [replica.worker for replica in replicas_of(found)]


def test_an_app_that_succeeded_costs_no_request() -> None:
    """Only a failure makes the evidence worth a request."""
    engine = FakeEngine(images=["busybox"])
    done = ended(engine)
    engine.close()

    assert done is root_cause.diagnosed(engine, done)


def test_evidence_that_cannot_be_read_is_left_out() -> None:
    """A container that was removed meanwhile leaves its replica without a worker."""
    engine = FakeEngine(images=["busybox"], programs=Program(exit_code=1, lines=BLOCK))
    failed = ended(engine)
    engine.remove(failed.roles_statuses[0].replicas[0].container_id)

    first, second = replicas_of(root_cause.diagnosed(engine, failed))

    assert first.worker is None
    assert second.worker is not None


AWAY = EngineUnreachableError("the daemon is away", fix="Wait.")


@pytest.mark.parametrize(
    ("verb", "program"),
    [
        ("read_file", Program(exit_code=1, files={PATH: error_file("no data", code=85)})),
        ("logs", Program(exit_code=1, lines=BLOCK)),
    ],
)
def test_an_outage_does_not_change_the_exit_code(verb: Verb, program: Program) -> None:
    """The evidence of a failure is read once the daemon is back."""
    engine = FakeEngine(images=["busybox"], programs=program)
    failed = ended(engine)
    engine.fail_next(verb, AWAY, times=2)

    found = root_cause.diagnosed(engine, failed)

    assert 85 == attach.failure(engine, found, frozenset()).exit_code


@pytest.mark.parametrize(("outage_s", "is_asked_to_end"), [(0.0, False), (60.0, True)])
def test_a_long_outage_leaves_out_the_rest(outage_s: float, *, is_asked_to_end: bool) -> None:
    """The task ends as its app did, with the evidence that could be read."""
    program = Program(exit_code=1, lines=BLOCK)
    engine = FakeEngine(images=["busybox"], programs=program)
    failed = ended(engine, 1)
    engine.fail_next("logs", AWAY, times=10_000)

    found = root_cause.diagnosed(
        engine, failed, should_stop=lambda: is_asked_to_end, outage_s=outage_s
    )

    assert [None] == [replica.worker for replica in replicas_of(found)]
    assert 1 == attach.failure(engine, found, frozenset()).exit_code


def test_at_most_32_replicas_are_read() -> None:
    """Of many replicas that failed, those that ended first are read."""
    engine = FakeEngine(images=["busybox"], programs=Program(exit_code=1, lines=BLOCK))

    found = root_cause.diagnosed(engine, ended(engine, replicas=40))

    assert 32 == sum(replica.worker is not None for replica in replicas_of(found))


OOM = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB."


@pytest.mark.parametrize(
    ("program", "earlier", "expected"),
    [
        # The error of the worker counts before other lines.
        (
            Program(exit_code=1, files={PATH: error_file("No space left on device")}, lines=[OOM]),
            "",
            "no_space_left",
        ),
        # The last lines count.
        (Program(exit_code=1, lines=[OOM, "bye"]), "nccl_timeout", "cuda_out_of_memory"),
        # A line that passed earlier counts if the error is unknown.
        (Program(exit_code=1, lines=["bye"]), "nccl_timeout", "nccl_timeout"),
        # It does not if there is another error.
        (Program(exit_code=1, files={PATH: error_file("ValueError")}), "nccl_timeout", ""),
    ],
)
def test_the_rule_of_a_replica(program: Program, earlier: str, expected: str) -> None:
    """A rule is searched for in the error, then in the last lines, then in what passed."""
    engine = FakeEngine(images=["busybox"], programs=program)
    marked = with_replicas(ended(engine, 1), lambda one: replace(one, rule=earlier))

    found = root_cause.diagnosed(engine, marked)

    error = attach.failure(engine, found, frozenset())
    assert expected == error.rule
    assert bool(expected) == (f"\nfailure rule: {expected}\n" in str(error))


def test_a_rule_makes_the_type_of_an_error() -> None:
    """Retry policies can select failures of GPUs by the class of the error."""
    engine = FakeEngine(images=["busybox"], programs=Program(exit_code=1, lines=[OOM]))
    found = root_cause.diagnosed(engine, ended(engine))

    assert CudaOutOfMemoryError is type(attach.failure(engine, found, frozenset()))


def test_the_rule_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """The log has the name of the rule, once for the app."""
    engine = FakeEngine(images=["busybox"], programs=Program(exit_code=1, lines=[OOM]))
    with caplog.at_level("INFO"):
        root_cause.diagnosed(engine, ended(engine))

    (line,) = [text for text in caplog.messages if "failure rule" in text]
    assert line.endswith(" cuda_out_of_memory")


def test_an_apps_own_rules_are_read_from_its_label() -> None:
    """A client without the launch's options finds the app's own rules."""
    engine = FakeEngine(images=["busybox"], programs=Program(exit_code=1, lines=["odd data"]))
    rules = [{"name": "odd", "pattern": "^odd", "action": "fail"}]
    launching.launch(engine, planned(app(1), failure_rules=rules))

    found = root_cause.diagnosed(engine, attach.look(engine, "app-1", inspect_all=True))

    assert ("odd", "fail") == (rule_name(found), failure_action(found))
