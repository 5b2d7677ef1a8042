"""Connects to a daemon, or to a swarm, as a connection says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_torchx import docker_engine
from airflow_torchx.core.connection.endpoint import Endpoint
from airflow_torchx.docker_engine import DockerEngine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_torchx.core.connection.daemon_report import DaemonReport
    from airflow_torchx.core.engine.images import RegistryLogin
    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.core.swarm.report import SwarmReport


def connect(endpoint: Endpoint | None = None, logins: Sequence[RegistryLogin] = ()) -> Engine:
    """Connect and return the engine once it has answered.

    Args:
        endpoint: the daemon, or a manager of the swarm; None for the daemon of the docker CLI.
        logins: for pulls and pushes; for other registries, those of the docker CLI are used.

    Raises:
        EngineUnreachableError: it does not answer.
        EngineError: the daemon is older than Engine 20.10.
    """
    if endpoint is not None and endpoint.swarm is not None:
        from airflow_torchx.swarm_engine import SwarmEngine

        return SwarmEngine.connect(endpoint, logins)
    return DockerEngine.connect(endpoint, logins)


def diagnose(
    endpoint: Endpoint, network: str, logins: Sequence[RegistryLogin]
) -> DaemonReport | SwarmReport | str:
    """Return what is known of a daemon or a swarm, or why it does not answer and what to do.

    Never raises, changes nothing, leaves no connection open, and takes at most 9 seconds.
    """
    if endpoint.swarm is not None:
        from airflow_torchx import swarm_engine

        return swarm_engine.diagnose(endpoint, network, logins)
    return docker_engine.diagnose(endpoint, network, logins)


def endpoint_of(engine: Engine) -> Endpoint | None:
    """Return how another process reaches an engine; None if it cannot."""
    found = getattr(engine, "endpoint", None)
    return found if isinstance(found, Endpoint) else None
