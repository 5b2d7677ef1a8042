"""What a task says about the reason of a failure, in its error and its XCom."""

from __future__ import annotations

import pickle
from typing import Final

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_torchx.errors import (
    AppFailedError,
    CudaOutOfMemoryError,
    GpuLostError,
    OutOfMemoryError,
)
from airflow_torchx.specs import WorkerFailure
from airflow_torchx.task.context import REPLICAS_KEY
from airflow_torchx.task.final_failure import without_retry
from airflow_torchx.testing import Program
from tests.airflow.fake_daemon import Stage
from tests.unit.core.state.test_worker_failure import lines_of

GPU_LOST: Final = "Failed to initialize NVML: Unknown Error"
OUT_OF_MEMORY: Final = "torch.OutOfMemoryError: CUDA out of memory."
#: torchrun's last lines, of rank 1 with exit code 85.
BLOCK: Final = [line.text for line in lines_of("exit-85")]


def failing(line: str, runs_for_s: float = 0.0) -> Program:
    """Return a program whose log has a line long before the block of torchrun."""
    return Program(runs_for_s=runs_for_s, exit_code=1, lines=[line, *["step"] * 300, *BLOCK])


@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.parametrize(
    ("line", "rule", "kind", "is_final"),
    [
        (GPU_LOST, "gpu_lost", GpuLostError, False),
        (OUT_OF_MEMORY, "cuda_out_of_memory", CudaOutOfMemoryError, True),
    ],
)
def test_a_failure_that_a_rule_explains(
    line: str, rule: str, kind: type[AppFailedError], *, is_final: bool, deferrable: bool
) -> None:
    """Rule and rank are in the card, in the attributes of the error, and in the XCom."""
    lasts = 60.0 if deferrable else 0.0
    stage = Stage(failing(line, lasts), deferrable=deferrable)

    ended = stage.run()

    failure = ended.error
    assert isinstance(failure, kind)
    assert is_final == isinstance(failure, AirflowFailException)
    assert (rule, 1, 85) == (failure.rule, failure.worker.rank, failure.exit_code)
    card = str(failure)
    assert f" failed first: rank 1: exit code 85\nfailure rule: {rule}\n" in card
    for replica in stage.supervisor.xcoms[REPLICAS_KEY]:
        assert (rule, 1, 85) == (
            replica["rule"],
            replica["worker"]["rank"],
            replica["worker"]["exit_code"],
        )


def test_a_line_that_an_earlier_process_has_copied() -> None:
    """A task that copied lines while its app ran, and deferred again, knows what they match."""
    stage = Stage(failing(GPU_LOST, 60.0), deferrable=True)
    deferred = stage.supervisor.run()
    stage.clock.advance(10)
    again = stage.supervisor.run(1, deferred)
    assert ["DeferTask"] * 2 == [deferred.report, again.report]

    ended = stage.resume(again)

    assert isinstance(ended.error, GpuLostError)
    assert "gpu_lost" == ended.error.rule


def test_a_failure_without_a_retry_survives_pickling() -> None:
    """The error keeps its class, its attributes, and that Airflow must not retry the task."""
    worker = WorkerFailure(rank=1, exit_code=85)
    failure = OutOfMemoryError("a", "card", exit_code=85, worker=worker, rule="mine")

    stored = pickle.dumps(without_retry(failure))
    for error in (without_retry(failure), pickle.loads(stored)):  # noqa: S301 - our own
        assert isinstance(error, OutOfMemoryError)
        assert isinstance(error, AirflowFailException)
        assert ("card", worker, "mine") == (str(error), error.worker, error.rule)
        assert "OutOfMemoryError" == type(error).__name__
