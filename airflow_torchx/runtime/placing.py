"""Places an app on the nodes of a swarm, all of it or nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from airflow_torchx.core.engine.protocol import Engine


@runtime_checkable
class Places(Protocol):
    """An engine that has several nodes."""

    def place(self, app_id: str) -> str:
        """Start all replicas of an app if they fit, and return why they wait."""


def has_nodes(engine: Engine) -> bool:
    """Return whether an engine places replicas on several nodes."""
    return isinstance(engine, Places)


def place(engine: Engine, app_id: str) -> str:
    """Start all replicas of an app if they fit; return why they wait, empty if they do not."""
    return engine.place(app_id) if isinstance(engine, Places) else ""
