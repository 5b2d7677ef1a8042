"""Tests of whether a daemon is a manager of a swarm."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_torchx.core.swarm.membership import why_not_manager

MANAGERS = [{"NodeID": "b", "Addr": "10.0.0.2:2377"}, {"NodeID": "a", "Addr": "[fd00::1]:2377"}]


def test_a_manager() -> None:
    """A manager is asked, also while it has no leader."""
    assert (
        why_not_manager({"Swarm": {"LocalNodeState": "active", "ControlAvailable": True}}, "u")
        is None
    )


@pytest.mark.parametrize(
    ("swarm", "what", "fix"),
    [
        ({"LocalNodeState": "inactive"}, "is not in a swarm.", "Run `docker swarm init` there"),
        ({}, "is not in a swarm.", "`docker swarm join-token manager` there prints how"),
        (None, "is not in a swarm.", "Run `docker swarm init` there"),
        (
            {"LocalNodeState": "active", "RemoteManagers": MANAGERS},
            "is a worker of a swarm, not a manager.",
            (
                "Give the URL of a manager: the managers are 10.0.0.2, [fd00::1]. Or run "
                "`docker node promote` on one of them."
            ),
        ),
        (
            {"LocalNodeState": "active", "RemoteManagers": None},
            "is a worker of a swarm, not a manager.",
            "Give the URL of a manager. Or run `docker node promote` on one of them.",
        ),
        ({"LocalNodeState": "locked"}, "that is locked.", "`docker swarm unlock`"),
        (
            {"LocalNodeState": "error", "Error": "no route to host"},
            "has not joined its swarm (state error): no route to host.",
            "`docker info`",
        ),
        ({"LocalNodeState": "pending"}, "(state pending).", "`docker info`"),
    ],
)
def test_what_to_do_with_another_daemon(swarm: Any, what: str, fix: str) -> None:  # noqa: ANN401
    """Another daemon is refused with the way to a manager."""
    refusal = why_not_manager({"Swarm": swarm}, "tcp://box1:2376")

    assert refusal is not None
    assert refusal.what.startswith("the daemon at tcp://box1:2376 ")
    assert refusal.what.endswith(what)
    assert fix in refusal.fix
