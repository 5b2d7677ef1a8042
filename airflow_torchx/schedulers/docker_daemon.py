"""Checks the daemon that the docker command line would use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_torchx.core.connection.endpoint import Endpoint
from airflow_torchx.core.plan.options import DEFAULT_NETWORK
from airflow_torchx.docker_engine import DockerEngine, unreachable_reason
from airflow_torchx.runtime import network

if TYPE_CHECKING:
    from airflow_torchx.core.engine.protocol import Engine


def why_no_docker() -> str | None:
    """Return why no Docker Engine answers and what to do about it; None when one answers.

    Takes five seconds at most, never raises, and leaves no connection open.
    """
    return unreachable_reason(Endpoint())


def has_docker() -> bool:
    """Return whether a Docker Engine answers where the docker command line would connect."""
    return why_no_docker() is None


def ensure_network(client: Engine | None = None) -> None:
    """Make sure that the daemon has exactly one bridge network ``torchx``.

    Args:
        client: the daemon; None for the one that the docker command line would use.
    """
    if client is not None:
        network.ensure(client, DEFAULT_NETWORK)
        return
    with DockerEngine.connect() as engine:
        network.ensure(engine, DEFAULT_NETWORK)
