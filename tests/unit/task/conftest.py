"""What tests of tasks share."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import CommsDecoder

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def supervisor() -> Iterator[None]:
    """Have a supervisor, which gets no request: the tasks of these tests keep their values."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        task_runner.SUPERVISOR_COMMS = CommsDecoder(socket=theirs)
        yield
        del task_runner.SUPERVISOR_COMMS
