"""The next step of the client that starts an app on a swarm."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from airflow_torchx.core.engine.labels import REPLICA_ID, ROLE_NAME, ROLES
from airflow_torchx.core.swarm.gang import Gang, Leave, next_step

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def gang(roles: str) -> Gang:
    """Return an app of one replica, which has not been started."""
    labels = {ROLE_NAME: "a", REPLICA_ID: "0", ROLES: roles}
    mode = {"Replicated": {"Replicas": 0}}
    spec = {"Name": "a-0", "Labels": labels, "Mode": mode, "TaskTemplate": {"ContainerSpec": {}}}
    return Gang(services=[{"ID": "s", "Spec": spec}], tasks=[], free=[], now=NOW)


def test_a_launch_that_is_not_complete() -> None:
    """Nothing starts until the last replica has been created."""
    assert Leave() == next_step(gang('{"a": 2}'))


@pytest.mark.parametrize("roles", ['{"a": 1}', '{"a": "2"}', '{"a": null}', "[1]", "{", ""])
def test_a_label_that_another_client_has_written(roles: str) -> None:
    """Sizes that cannot be read hold no app back."""
    assert not isinstance(next_step(gang(roles)), Leave)
