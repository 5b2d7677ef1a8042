"""The daemons of the nodes of a swarm, for what a manager cannot do."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlsplit

from airflow_torchx.core.connection.swarm import Swarm
from airflow_torchx.core.swarm.capacity import node_name
from airflow_torchx.docker_engine.engine import DockerEngine
from airflow_torchx.docker_engine.errors import engine_errors
from airflow_torchx.errors import (
    EngineNotFoundError,
    EngineUnreachableError,
    NodeUnreachableError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_torchx.core.connection.endpoint import Endpoint
    from airflow_torchx.core.swarm.tasks import Replica

    Json = Mapping[str, Any]

_T = TypeVar("_T")

#: A firewall may drop what is sent to a node, and each failed replica is looked at on its node.
_CONNECT_S: Final = 3.0
_LEFT_ALONE_S: Final = 30.0
_LISTEN: Final = (
    "The daemon of each node must listen for the workers, with the certificates or the ssh key of "
    "the managers; node_url of the connection says where."
)


class Nodes:
    """Connects to the daemon of a node, with the login or the certificates of the managers.

    Args:
        inspect: returns a node of the swarm by its id.
        manager: returns the daemon of the manager that answers.
        swarm: how nodes are reached.
        clock: returns seconds that never decrease.
    """

    def __init__(
        self,
        inspect: Callable[[str], Json],
        manager: Callable[[], DockerEngine],
        swarm: Swarm,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._inspect = inspect
        self._manager = manager
        self._swarm = swarm
        self._clock = clock
        self._open: dict[str, DockerEngine] = {}
        self._failed: dict[str, tuple[float, NodeUnreachableError]] = {}
        self._ids: dict[str, str] = {}
        self._lock = threading.Lock()

    def engine_of(self, node_id: str) -> DockerEngine:
        """Return the daemon of a node; one that did not answer is left alone for a while.

        Raises:
            NodeUnreachableError: it does not answer, or it is not known how to reach it.
        """
        with self._lock:
            found = self._open.get(node_id)
            until_s, failure = self._failed.get(node_id, (0.0, None))
        if found is not None:
            return found
        if failure is not None and self._clock() < until_s:
            raise NodeUnreachableError(failure.what, fix=failure.fix)
        manager = self._manager()
        if self._id_of(manager) == node_id:
            return manager
        node, own = self._inspect(node_id), replace(manager.endpoint, swarm=self._swarm)
        try:
            made = connect_node(node_endpoint(own, node), node)
        except NodeUnreachableError as error:
            with self._lock:
                self._failed[node_id] = (self._clock() + _LEFT_ALONE_S, error)
            raise
        with self._lock:
            kept = self._open.setdefault(node_id, made)
        if kept is not made:
            made.close()
        return kept

    def ask(self, replica: Replica, question: Callable[[DockerEngine, str], _T]) -> _T:
        """Ask the daemon of the node of a replica about its container.

        Raises:
            EngineNotFoundError: it has not been started.
            NodeUnreachableError: the daemon of its node does not answer.
        """
        if not replica.container_id:
            raise EngineNotFoundError(f"container {replica.name} has not been started.")
        engine = self.engine_of(replica.node_id)
        try:
            return question(engine, replica.container_id)
        except EngineUnreachableError as error:
            raise NodeUnreachableError(error.what, fix=error.fix) from error

    def _id_of(self, manager: DockerEngine) -> str:
        url = str(manager.endpoint.url)
        if url not in self._ids:
            self._ids[url] = node_id_of(manager)
        return self._ids[url]

    def close(self) -> None:
        """Close all connections. Idempotent."""
        with self._lock:
            found, self._open = self._open, {}
        for engine in found.values():
            engine.close()


def node_endpoint(manager: Endpoint, node: Json) -> Endpoint:
    """Return how the daemon of a node is reached.

    Raises:
        NodeUnreachableError: the manager is a socket, and the connection does not say it.
    """
    url = (manager.swarm or Swarm()).node_url or _like(str(manager.url))
    if url is None:
        raise NodeUnreachableError(
            "the manager is a socket, so the connection must say how other nodes are reached.",
            fix="Set node_url of the connection, like tcp://{addr}:2376 or ssh://me@{hostname}.",
        )
    name = node_name(node)
    address = str((node.get("Status") or {}).get("Addr") or name)
    url = url.replace("{addr}", address).replace("{hostname}", name)
    return replace(manager, url=url, swarm=None)


def connect_node(endpoint: Endpoint, node: Json) -> DockerEngine:
    """Connect to the daemon of a node, which has a few seconds to answer.

    Raises:
        NodeUnreachableError: it does not answer, or it is the daemon of another node.
    """
    quick = replace(endpoint, request_timeout_s=min(endpoint.request_timeout_s, _CONNECT_S))
    try:
        with DockerEngine.connect(quick) as probe:
            is_right = node_id_of(probe) == node["ID"]
        if is_right:
            return DockerEngine.connect(endpoint)
    except EngineUnreachableError as error:
        raise NodeUnreachableError(error.what, fix=_LISTEN) from error
    what = f"the daemon at {endpoint.url} is not that of node {node_name(node)}."
    raise NodeUnreachableError(what, fix="Correct node_url of the connection.")


def node_id_of(engine: DockerEngine) -> str:
    """Return the id of a daemon in its swarm; empty without a swarm."""
    with engine_errors("describe the daemon", str(engine.endpoint.url)):
        return str((engine.client.info().get("Swarm") or {}).get("NodeID") or "")


def _like(url: str) -> str | None:
    """Return how nodes are reached if they are reached like the manager; None for a socket."""
    parts = urlsplit(url)
    if not parts.hostname:
        return None
    login = f"{parts.username}@" if parts.username else ""
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{login}{{addr}}{port}"
