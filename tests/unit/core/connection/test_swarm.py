"""Tests of the swarm in a connection."""

from __future__ import annotations

import pytest

from airflow_torchx.core.connection.settings import Settings
from airflow_torchx.core.connection.swarm import Swarm
from airflow_torchx.errors import InvalidAppError


def test_one_daemon_is_the_default() -> None:
    """Without a scheduler, or with the one of a daemon, the connection has no swarm."""
    assert Settings.parse("tcp://box1:2376", {}).endpoint.swarm is None
    local = Settings.parse("tcp://box1:2376", {"scheduler": "local_docker"})
    assert (None, "torchx") == (local.endpoint.swarm, local.network)


def test_all_fields() -> None:
    """Each field is read, and the network of apps is the swarm's own."""
    settings = Settings.parse(
        "tcp://box1:2376",
        {
            "scheduler": "docker_swarm",
            "managers": ["tcp://box2:2376"],
            "constraints": ["node.labels.gpu == a100"],
            "gpu_resource": "gpu",
            "subnet": "10.77.0.0/16",
            "mtu": 8950,
            "node_url": "tcp://{addr}:2376",
        },
    )

    expected = Swarm(
        managers=("tcp://box2:2376",),
        constraints=("node.labels.gpu == a100",),
        subnet="10.77.0.0/16",
        mtu=8950,
        node_url="tcp://{addr}:2376",
    )
    assert expected == settings.endpoint.swarm
    assert "torchx-swarm" == settings.network == settings.options["network"]


def test_a_network_of_the_users() -> None:
    """A network that the connection names is kept."""
    given = {"scheduler": "docker_swarm", "network": "mine"}

    assert "mine" == Settings.parse(None, given).options["network"]


@pytest.mark.parametrize(
    ("field", "value", "fix"),
    [
        ("managers", ["box2"], "has none of the schemes"),
        ("constraints", ["gpu"], "like node.labels.gpu==a100"),
        ("gpu_resource", "NVIDIA-GPU", "letters, digits and _"),
        ("subnet", "10.77.0.1/16", "10.77.0.0/16"),
        ("mtu", 10, "from 576"),
        ("mtu", True, "from 576"),
        ("node_url", "tcp://box1:2376", "{addr} or {hostname}"),
    ],
)
def test_invalid_values(field: str, value: object, fix: str) -> None:
    """Each one is refused, and the error says how to write it."""
    with pytest.raises(InvalidAppError) as caught:
        Settings.parse(None, {"scheduler": "docker_swarm", field: value})

    assert f"extra.{field}" in str(caught.value)
    assert fix in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("managers", ["tcp://me:hidden@box2:2376"]),
        ("managers", {"box2": "tcp://me:hidden@box2"}),
        ("managers", ["tcp://me:hid/hidden@box2"]),
        ("node_url", "tcp://me:hidden@{addr}:2376"),
        ("node_url", "ssh://hidden@box2"),
        ("subnet", "-----BEGIN PRIVATE KEY----- hidden, pasted into the wrong field"),
    ],
)
def test_errors_have_no_secrets(field: str, value: object) -> None:
    """A password in a URL, and a key in the wrong field, are left out."""
    with pytest.raises(InvalidAppError) as caught:
        Settings.parse(None, {"scheduler": "docker_swarm", field: value})

    assert f"extra.{field}" in str(caught.value)
    assert "hidden" not in str(caught.value)


def test_fields_of_a_swarm_need_the_scheduler() -> None:
    """They would change nothing on one daemon."""
    with pytest.raises(InvalidAppError, match='set "scheduler": "docker_swarm"'):
        Settings.parse(None, {"mtu": 1400})


def test_another_scheduler() -> None:
    """An unknown one is refused with the names of both."""
    with pytest.raises(InvalidAppError, match="use one of local_docker, docker_swarm"):
        Settings.parse(None, {"scheduler": "kubernetes"})


def test_gpu_ids_are_of_one_daemon() -> None:
    """A connection of a swarm that names GPUs is refused: its nodes say which ones they give."""
    with pytest.raises(InvalidAppError, match=r"extra.gpu_ids.*node-generic-resources"):
        Settings.parse(None, {"scheduler": "docker_swarm", "gpu_ids": ["0"]})
