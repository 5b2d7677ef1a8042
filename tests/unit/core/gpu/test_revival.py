"""Which containers hold their GPUs although they have ended."""

from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_torchx.core.engine.containers import ContainerRow, GpuRequest
from airflow_torchx.core.gpu.ids import GpuIds
from airflow_torchx.core.gpu.ledger import Holder, needs_inspect, read
from airflow_torchx.core.gpu.revival import ended_recently
from tests.unit.core.gpu.test_turn import REPORTED, detail, replica, row

NOW = "Exited (143) 5 seconds ago"


def holders(
    ended: ContainerRow, policy: str, restarts: int = 0, maximum: int = 0
) -> tuple[Holder, ...]:
    """Return what holds GPUs beside a container with this restart policy."""
    one = replace(
        detail(ended.id, GpuRequest(count=1, device_ids=("GPU-a",))),
        restart_policy=policy,
        restarts=restarts,
        max_restarts=maximum,
    )
    details = dict.fromkeys(needs_inspect([ended]), one)
    return read([ended], GpuIds(REPORTED, is_indexed=True), details).holders


def ours(status: str, name: str = "app-t-0") -> ContainerRow:
    """Return a replica that has ended."""
    return replace(replica("exited", "GPU-a", name=name), status=status)


def foreign(status: str) -> ContainerRow:
    """Return a container of another program that has ended."""
    return replace(row("notebook", "exited", {}), status=status)


@pytest.mark.parametrize(
    ("state", "status", "expected"),
    [
        ("exited", "Exited (0) Less than a second ago", True),
        ("exited", "Exited (1) 1 second ago", True),
        ("exited", "Exited (-1) 59 seconds ago", True),
        ("exited", "Exited (1) About a minute ago", False),
        ("exited", "Exited (1) 5 minutes ago", False),
        ("exited", "", False),
        ("restarting", "Restarting (1) 5 seconds ago", False),
        ("running", "Up 5 seconds", False),
    ],
)
def test_the_status_shows_that_a_container_ended_recently(
    state: str, status: str, expected: bool
) -> None:
    """Docker writes the age in seconds during the first minute."""
    assert expected is ended_recently(replace(row("a", state, {}), status=status))


@pytest.mark.parametrize(
    ("status", "policy", "restarts", "maximum", "holds"),
    [
        (NOW, "always", 0, 0, True),
        (NOW, "unless-stopped", 0, 0, True),
        ("Exited (0) 5 seconds ago", "unless-stopped", 7, 0, True),
        (NOW, "on-failure", 9, 0, True),
        (NOW, "on-failure", 1, 2, True),
        (NOW, "on-failure", 2, 2, False),
        ("Exited (0) 5 seconds ago", "on-failure", 0, 2, False),
        ("Exited (143) About a minute ago", "always", 0, 0, False),
        (NOW, "", 0, 0, False),
    ],
)
def test_a_container_of_another_program_that_docker_may_revive(
    status: str, policy: str, restarts: int, maximum: int, holds: bool
) -> None:
    """It holds its GPUs for a minute, if its restart policy applies."""
    assert holds is bool(holders(foreign(status), policy, restarts, maximum))


def test_a_replica_that_docker_may_revive() -> None:
    """It holds its GPUs, and other clients never remove it."""
    (holder,) = holders(ours(NOW), "on-failure", 0, 2)

    assert ("replica", ("GPU-a",), None) == (holder.kind, holder.ids, holder.expires_at)
    assert () == holders(ours(NOW), "on-failure", 2, 2)


@pytest.mark.parametrize(
    "ended",
    [
        ours("Exited (0) 5 seconds ago"),
        ours("Exited (143) 2 minutes ago"),
        ours(NOW, "app-t-0.cancelled"),
        replace(ours(NOW), labels={**ours(NOW).labels, "airflow-torchx/gpus": ""}),
    ],
)
def test_a_replica_that_docker_does_not_revive_is_not_inspected(ended: ContainerRow) -> None:
    """It has succeeded, was cancelled, has no GPUs, or ended long ago."""
    assert [] == list(needs_inspect([ended]))
