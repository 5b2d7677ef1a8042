"""What an app in the queue for GPUs does besides waiting."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_torchx.core.engine.containers import DISCARDED_PREFIX
from airflow_torchx.errors import EngineError
from airflow_torchx.runtime.gpus.queue import Claim, GpuQueue
from tests.unit.runtime.gpus.clients import daemon, demand

if TYPE_CHECKING:
    import pytest


def test_leftovers_that_cannot_be_removed(caplog: pytest.LogCaptureFixture) -> None:
    """An app takes its GPUs although the daemon refuses to remove what a killed client left."""
    engine, _ = daemon(1)
    left = [engine.create(demand(key).spec("ticket")) for key in ("a", "b")]
    for one in left:
        engine.rename(one, f"{DISCARDED_PREFIX}{one}")
    engine.fail_next("discard", EngineError("device is busy"), on=f"{DISCARDED_PREFIX}{left[0]}")

    claim = GpuQueue(engine, demand("app", listed=["GPU-0"])).attempt()

    assert isinstance(claim, Claim)
    assert {left[0], claim.container_id} == {row.id for row in engine.rows({})}
    assert "cannot remove what another client has discarded: device is busy" in caplog.messages
