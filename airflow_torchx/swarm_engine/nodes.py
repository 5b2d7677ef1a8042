"""The daemons of the nodes of a swarm, for what a manager cannot do."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_torchx.docker_engine.engine import DockerEngine
from airflow_torchx.errors import EngineUnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_torchx.core.connection.endpoint import Endpoint


class Nodes:
    """Connects to the daemon of a node, with the login or the certificates of the managers.

    Args:
        inspect: returns a node of the swarm by its id.
        manager: how a manager is reached.
        url: how a node is reached, with ``{addr}`` or ``{hostname}`` in place of its address; None
            to reach it as the manager is.
    """

    def __init__(
        self,
        inspect: Callable[[str], Mapping[str, Any]],
        manager: Endpoint,
        url: str | None = None,
    ) -> None:
        self._inspect = inspect
        self._manager = manager
        self._url = url or _like(str(manager.url))
        self._open: dict[str, DockerEngine] = {}
        self._lock = threading.Lock()

    def engine_of(self, node_id: str) -> DockerEngine:
        """Return the daemon of a node.

        Raises:
            EngineUnreachableError: it does not answer, or it is not known how to reach it.
        """
        with self._lock:
            found = self._open.get(node_id)
        if found is not None:
            return found
        node = self._inspect(node_id)
        name = str((node.get("Description") or {}).get("Hostname") or node_id)
        if self._url is None:
            raise EngineUnreachableError(
                f"the daemon of node {name} cannot be reached: the manager is a socket.",
                fix="Set node_url of the connection, like tcp://{addr}:2376 or ssh://me@{hostname}.",
            )
        address = str((node.get("Status") or {}).get("Addr") or name)
        url = self._url.replace("{addr}", address).replace("{hostname}", name)
        made = DockerEngine.connect(replace(self._manager, url=url, swarm=None))
        with self._lock:
            kept = self._open.setdefault(node_id, made)
        if kept is not made:
            made.close()
        return kept

    def close(self) -> None:
        """Close all connections. Idempotent."""
        with self._lock:
            found, self._open = self._open, {}
        for engine in found.values():
            engine.close()


def _like(url: str) -> str | None:
    """Return how nodes are reached if they are reached like the manager; None for a socket."""
    parts = urlsplit(url)
    if not parts.hostname:
        return None
    login = f"{parts.username}@" if parts.username else ""
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{login}{{addr}}{port}"
