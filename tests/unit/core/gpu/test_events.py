"""After which events an app that waits for GPUs looks again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_torchx.core.engine import labels
from airflow_torchx.core.engine.containers import DISCARDED_PREFIX, ContainerEvent
from airflow_torchx.core.gpu.demand import GpuDemand
from airflow_torchx.core.gpu.events import may_free

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_torchx.core.gpu.demand import Marker

DEMAND = GpuDemand(key="a", count=1, listed=("GPU-a",), image="i", labels={labels.LAUNCH_ID: "l"})


def event(
    found: Mapping[str, str] | None = None, name: str = "", action: str = "destroy"
) -> ContainerEvent:
    """Return an event of a container."""
    return ContainerEvent(container_id="c", name=name, labels=found or {}, action=action, time_ns=1)


def of_marker(marker: Marker, name: str = "") -> ContainerEvent:
    """Return the removal of a marker, which has this name or its own."""
    spec = DEMAND.spec(marker)
    return event(spec.labels, name or spec.name)


def of_replica(gpus: str | None, name: str = "app-t-0") -> ContainerEvent:
    """Return the end of a replica with these GPUs in its label; None for no label."""
    found = {labels.APP_ID: "app", labels.ROLE_NAME: "t", labels.REPLICA_ID: "0"}
    found[labels.LAUNCH_ID] = "l"
    return event(found if gpus is None else {**found, labels.GPUS: gpus}, name, "die")


@pytest.mark.parametrize("action", ["die", "destroy"])
def test_the_end_of_a_container_of_another_program(action: str) -> None:
    """It may have had GPUs, which its labels do not show."""
    assert may_free(event(action=action))


@pytest.mark.parametrize("action", ["create", "start", "pause", "unpause", "rename"])
def test_other_events(action: str) -> None:
    """They free nothing."""
    assert not may_free(event(action=action))


@pytest.mark.parametrize(
    ("marker", "expected"), [("ticket", True), ("claim", True), ("lock", False), ("probe", False)]
)
def test_markers(marker: Marker, *, expected: bool) -> None:
    """A ticket or a claim that is gone lets another app go on; a lock or a probe does not."""
    assert expected == may_free(of_marker(marker))
    assert expected == may_free(of_marker(marker, f"{DISCARDED_PREFIX}c"))


def test_a_copy_of_a_marker() -> None:
    """A container under another name may have GPUs, whatever its labels are."""
    assert may_free(of_marker("lock", "mine"))


@pytest.mark.parametrize(("gpus", "expected"), [("GPU-a", True), ("", False), (None, True)])
def test_replicas(gpus: str | None, *, expected: bool) -> None:
    """A replica had GPUs unless its label is empty; that of another release may have no label."""
    assert expected == may_free(of_replica(gpus))


def test_a_cancelled_replica_without_gpus() -> None:
    """It has another name, but is still the replica."""
    assert not may_free(of_replica("", "app-t-0.cancelled"))


def test_a_copy_of_a_replica_without_gpus() -> None:
    """A container of an image that was committed from a replica may have GPUs."""
    assert may_free(of_replica("", "mine"))
