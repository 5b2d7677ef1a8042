"""How the failure of a worker is read from its container, on the fake engine."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from airflow_torchx.core.state.describe import replicas_of
from airflow_torchx.errors import AppFailedError
from airflow_torchx.runtime import attach, launching, root_cause
from airflow_torchx.testing import FakeEngine, Program
from tests.unit.apps import app, planned
from tests.unit.core.state.test_worker_failure import lines_of

if TYPE_CHECKING:
    from airflow_torchx.specs import DescribeAppResponse

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


def test_secrets_are_masked() -> None:
    """Neither the message nor the traceback has a secret, also where a text is cut."""
    text = f"{'x' * 1_995}open-sesame"
    program = Program(exit_code=1, files={PATH: error_file(text)}, lines=["open-sesame"])
    engine = FakeEngine(images=["busybox"], programs=program)

    found = root_cause.diagnosed(engine, ended(engine), frozenset({"open-sesame"}))

    for replica in replicas_of(found):
        assert replica.worker is not None
        assert replica.worker.message.endswith("x***")
        assert replica.worker.traceback.endswith("x***")


def test_a_file_of_an_earlier_start_does_not_count() -> None:
    """An error file that is older than the start of the container is ignored."""
    program = Program(exit_code=3, files={PATH: error_file("old", timestamp="5")})
    engine = FakeEngine(images=["busybox"], programs=program)

    found = root_cause.diagnosed(engine, ended(engine))

    assert [None, None] == [replica.worker for replica in replicas_of(found)]


def test_a_large_file_is_not_read() -> None:
    """An error file of more than 1 MiB is ignored."""
    program = Program(exit_code=3, files={PATH: error_file("x" * (1 << 20))})
    engine = FakeEngine(images=["busybox"], programs=program)

    found = root_cause.diagnosed(engine, ended(engine))

    assert [None, None] == [replica.worker for replica in replicas_of(found)]


def test_an_app_that_succeeded_costs_no_request() -> None:
    """Only a failure makes the evidence worth a request."""
    engine = FakeEngine(images=["busybox"])
    app = ended(engine)
    engine.close()

    assert app is root_cause.diagnosed(engine, app)


def test_evidence_that_cannot_be_read_is_left_out() -> None:
    """A container that was removed meanwhile leaves its replica without a worker."""
    engine = FakeEngine(images=["busybox"], programs=Program(exit_code=1, lines=BLOCK))
    app = ended(engine)
    engine.remove(app.roles_statuses[0].replicas[0].container_id)

    first, second = replicas_of(root_cause.diagnosed(engine, app))

    assert first.worker is None
    assert second.worker is not None


def test_at_most_32_replicas_are_read() -> None:
    """Of many replicas that failed, those that ended first are read."""
    engine = FakeEngine(images=["busybox"], programs=Program(exit_code=1, lines=BLOCK))

    found = root_cause.diagnosed(engine, ended(engine, replicas=40))

    assert 32 == sum(replica.worker is not None for replica in replicas_of(found))
