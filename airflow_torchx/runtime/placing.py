"""Places an app on the nodes of a swarm, all of it or nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.core.swarm.gpus import SwarmGpus


@runtime_checkable
class Places(Protocol):
    """An engine that has several nodes."""

    def place(self, app_id: str) -> str:
        """Start all replicas of an app if they fit, and return why they wait."""


@runtime_checkable
class ListsGpus(Protocol):
    """An engine whose nodes have GPUs as generic resources."""

    def gpus(self) -> SwarmGpus:
        """Return the GPUs of all nodes, and what holds them."""

    @property
    def gpu_resource(self) -> str:
        """The name of the generic resource."""


def has_nodes(engine: Engine) -> bool:
    """Return whether an engine places replicas on several nodes."""
    return isinstance(engine, Places)


def place(engine: Engine, app_id: str) -> str:
    """Start all replicas of an app if they fit; return why they wait, empty if they do not."""
    return engine.place(app_id) if isinstance(engine, Places) else ""


def gpus_of(engine: Engine) -> tuple[SwarmGpus, str] | None:
    """Return the GPUs of a swarm, and the name of the resource; None for one daemon."""
    return (engine.gpus(), engine.gpu_resource) if isinstance(engine, ListsGpus) else None
