"""What the log says of a wait for GPUs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from airflow_torchx.core.gpu.ledger import Holder
from airflow_torchx.core.gpu.turn import Blocked
from airflow_torchx.runtime.gpus.wait_log import WaitLog
from airflow_torchx.testing import ManualClock

if TYPE_CHECKING:
    import pytest


def held_by(name: str) -> Blocked:
    """Return a wait for a GPU that a container holds."""
    holder = Holder(
        container_id=name,
        name=name,
        kind="foreign",
        ids=("GPU-a",),
        since=datetime.now(UTC),
        labels={},
    )
    return Blocked(wanted=1, holders=(holder,))


def test_a_change_that_lasts_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The first holder is logged at once, and another one if it is still there after 5 seconds."""
    caplog.set_level("INFO")
    clock = ManualClock()
    log = WaitLog("gpu-1", clock)

    first = log.note(held_by("one"))
    log.note(held_by("two"))
    clock.advance(5)
    last = log.note(held_by("three"))
    clock.advance(5)
    log.note(held_by("three"))

    assert first.startswith("waiting for 1 GPU on gpu-1: GPU-a is held by container one (")
    assert [first, last] == caplog.messages
