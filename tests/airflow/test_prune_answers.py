"""What prune removes if Airflow cannot be asked for the states of tasks."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec
import pytest
from airflow.sdk.exceptions import ErrorType
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import (
    CommsDecoder,
    DagRunResult,
    ErrorResponse,
    TaskStatesResult,
    _RequestFrame,
    _ResponseFrame,
)

from airflow_torchx.airflow_compat import run_end, task_states
from airflow_torchx.core.engine import labels
from airflow_torchx.core.plan.identity import TaskAttempt
from airflow_torchx.core.task.prune import Policy, TaskKey
from airflow_torchx.errors import AirflowRequestError
from airflow_torchx.runtime.prune import Pruner
from airflow_torchx.schedulers.docker_scheduler import DockerScheduler
from airflow_torchx.specs import AppDef, Role
from airflow_torchx.testing import FakeEngine, Program

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import BaseModel

OVER: Final = TaskStatesResult(task_states={"run": {"task": "failed"}})
GONE: Final = TaskStatesResult(task_states={})


def refused(status: int | None) -> ErrorResponse:
    """Return what a task gets from its supervisor if the API server answers so, or not at all."""
    return ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail={"status_code": status})


def dag_run(state: str, end_date: datetime | None) -> DagRunResult:
    """Return the answer to the question for a DAG run."""
    return DagRunResult.model_validate(
        {
            "dag_id": "dag",
            "run_id": "run",
            "logical_date": None,
            "data_interval_start": None,
            "data_interval_end": None,
            "run_after": datetime(2026, 1, 1, tzinfo=UTC),
            "start_date": None,
            "end_date": end_date,
            "run_type": "manual",
            "state": state,
            "consumed_asset_events": [],
            "partition_key": None,
        }
    )


REFUSED: Final = [refused(status) for status in (403, 404, 500, None)]


@contextmanager
def answering(*answers: BaseModel) -> Iterator[None]:
    """Answer the requests of this process to its supervisor, one after the other."""
    ours, theirs = socket.socketpair()

    def answer() -> None:
        with ours.makefile("rb") as incoming:
            for one in answers:
                request = incoming.read(int.from_bytes(incoming.read(4), "big"))
                frame = msgspec.msgpack.decode(request, type=_RequestFrame)
                found: dict[str, Any] = one.model_dump()
                is_error = isinstance(one, ErrorResponse)
                body, error = (None, found) if is_error else (found, None)
                response = _ResponseFrame(id=frame.id, body=body, error=error)
                ours.sendall(response.as_bytes())

    with ours, theirs:
        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        task_runner.SUPERVISOR_COMMS = CommsDecoder(socket=theirs)
        try:
            yield
        finally:
            del task_runner.SUPERVISOR_COMMS
        thread.join()


@pytest.fixture
def engine() -> FakeEngine:
    """Return a daemon with the app of one task."""
    engine = FakeEngine(images=["busybox"], programs=Program(runs_for_s=None))
    scheduler = DockerScheduler("test", engine)
    attempt = TaskAttempt(
        dag_id="dag", run_id="run", task_id="task", map_index=-1, max_tries=0, try_number=1
    )
    own = {**attempt.labels, labels.ON_FINISH: "delete"}
    context = scheduler.new_context(attempt.app_id, labels=own)
    app = AppDef("app", [Role("r", "busybox", entrypoint="run", num_replicas=2)])
    scheduler.launch(scheduler.prepare(app, context=context))
    return engine


@pytest.mark.parametrize("answer", REFUSED, ids=lambda one: str(one.detail["status_code"]))
@pytest.mark.parametrize("gone", [False, True])
def test_airflow_refuses_the_first_question(
    engine: FakeEngine, answer: ErrorResponse, *, gone: bool
) -> None:
    """Nothing is found, even with --gone: a refusal does not mean that the run was deleted."""
    with answering(answer), pytest.raises(AirflowRequestError, match="states of tasks"):
        Pruner(engine, task_states, Policy(gone=gone)).survey()


@pytest.mark.parametrize("answer", REFUSED, ids=lambda one: str(one.detail["status_code"]))
@pytest.mark.parametrize(("gone", "first"), [(False, OVER), (True, GONE)])
def test_airflow_refuses_the_question_before_the_removal(
    engine: FakeEngine, first: TaskStatesResult, answer: ErrorResponse, *, gone: bool
) -> None:
    """An app that was found to have no owner is left if Airflow cannot be asked again."""
    before = engine.rows({})
    pruner = Pruner(engine, task_states, Policy(gone=gone))

    with answering(first, answer):
        found = pruner.survey().found
        with pytest.raises(AirflowRequestError):
            pruner.remove(found)

    assert 1 == len(found)
    assert before == engine.rows({})


ENDED: Final = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (dag_run("success", ENDED), ENDED),
        (dag_run("running", None), None),
        (refused(404), None),
    ],
    ids=["ended", "running", "deleted"],
)
def test_the_end_of_a_dag_run(answer: BaseModel, expected: datetime | None) -> None:
    """The end is that of Airflow's answer; a run that is gone has none."""
    with answering(answer):
        assert expected == run_end(TaskKey("dag", "run", "task", -1))


def test_airflow_refuses_the_question_for_the_end_of_a_run() -> None:
    """An error of the API server raises; it does not count as a run that has not ended."""
    with answering(refused(500)), pytest.raises(AirflowRequestError, match="end of a DAG run"):
        run_end(TaskKey("dag", "run", "task", -1))
