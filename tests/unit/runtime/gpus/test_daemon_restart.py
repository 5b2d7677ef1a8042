"""A daemon that stops containers, and starts them again, while an app waits for their GPUs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_torchx.core.engine.containers import GpuRequest
from tests.unit.runtime.gpus.clients import replica
from tests.unit.runtime.gpus.scenes import Scene, claimed, waits


@pytest.fixture
def scene() -> Scene:
    """Return a daemon with one GPU."""
    return Scene(1)


@pytest.mark.parametrize("is_ours", [True, False])
def test_a_daemon_that_is_restarted(scene: Scene, is_ours: bool) -> None:
    """A container that the daemon will revive keeps its GPU while the daemon stops it."""
    spec = replace(replica("holder", ["GPU-0"]), max_restarts=5)
    if not is_ours:
        spec = replace(spec, labels={}, gpus=GpuRequest(count=1, device_ids=("GPU-0",)))
    holder = scene.engine.create(spec)
    scene.engine.start(holder)
    queue = scene.queue("a")
    waits(queue.attempt())

    scene.engine.stop(holder, grace_s=10)
    assert [holder] == [one.container_id for one in waits(queue.attempt()).holders]
    scene.engine.start(holder)
    waits(queue.attempt())

    scene.engine.stop(holder, grace_s=10)
    scene.clock.advance(60)
    assert ("GPU-0",) == claimed(queue.attempt())


def test_a_container_that_has_just_ended_is_inspected_once(scene: Scene) -> None:
    """The result of an inspect while it ran is not used."""
    spec = replace(replica("holder", []), labels={}, max_restarts=1)
    request = GpuRequest(count=1, device_ids=("GPU-0",))
    holder = scene.engine.create(replace(spec, gpus=request))
    scene.engine.start(holder)
    queue = scene.queue("a")
    waits(queue.attempt())
    scene.engine.stop(holder, grace_s=10)
    scene.engine.calls.clear()

    waits(queue.attempt())
    assert ["rows", "inspect"] == scene.engine.calls
    waits(queue.attempt())

    assert ["rows", "inspect", "rows"] == scene.engine.calls
