"""Whether lack of memory made a replica fail."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_torchx.core.state.out_of_memory import ran_out_of_memory
from airflow_torchx.specs import AppState, ReplicaStatus, WorkerFailure

KILLED = "DataLoader worker (pid 7) is killed by signal: Killed. "


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, True),
        ({"worker": WorkerFailure(rank=1)}, True),
        ({"exit_code": 137}, True),
        ({"exit_code": -9}, True),
        ({"exit_code": 1}, False),
        ({"exit_code": 1, "worker": WorkerFailure(exit_code=-9)}, True),
        ({"exit_code": 1, "worker": WorkerFailure(signal="SIGKILL")}, True),
        ({"exit_code": 1, "worker": WorkerFailure(signal="SIGTERM")}, False),
        ({"exit_code": 1, "error": "cannot start: Cannot allocate memory"}, True),
        ({"exit_code": 1, "worker": WorkerFailure(message="MemoryError")}, True),
        ({"exit_code": 1, "worker": WorkerFailure(message="MyMemoryErrors")}, False),
        ({"exit_code": 1, "worker": WorkerFailure(message="what():  std::bad_alloc")}, True),
        ({"exit_code": 1, "worker": WorkerFailure(traceback=f"RuntimeError: {KILLED}")}, True),
    ],
)
def test_the_flag_of_docker(fields: dict[str, Any], expected: bool) -> None:
    """The flag counts with a kill or an error of what failed, and without an exit code."""
    replica = ReplicaStatus(0, AppState.FAILED, "w", "h", oom_killed=True, **fields)

    assert expected is ran_out_of_memory(replica)


def test_without_the_flag() -> None:
    """A kill or an error alone does not say that the kernel lacked memory."""
    replica = ReplicaStatus(0, AppState.FAILED, "w", "h", exit_code=137, error="MemoryError")

    assert not ran_out_of_memory(replica)
