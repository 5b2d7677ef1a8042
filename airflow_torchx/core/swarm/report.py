"""The report of a connection test on a swarm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from airflow_torchx.core.engine.amounts import counted, cpus_text
from airflow_torchx.core.plan.swarm_problems import gpu_limit
from airflow_torchx.core.swarm.capacity import (
    is_usable,
    may_run,
    node_name,
    oldest_manager,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from airflow_torchx.core.connection.daemon_report import LoginCheck
    from airflow_torchx.core.connection.swarm import Swarm

    Json = Mapping[str, Any]

_GIB: Final = 1 << 30
_CPU: Final = 10**9
#: Networks that each daemon has of its own; replicas on a swarm may join that of the host.
_PREDEFINED: Final = ("bridge", "host", "none")
_OVERLAY: Final = "overlay"


@dataclass(frozen=True, kw_only=True, slots=True)
class ManagerCheck:
    """A manager of the connection; an error also says what to do."""

    url: str
    error: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeCheck:
    """A node as a manager has it, and why its daemon cannot be asked; None if it can."""

    node: Json
    error: str | None = None

    @property
    def name(self) -> str:
        """Its host name."""
        return node_name(self.node)


@dataclass(frozen=True, kw_only=True, slots=True)
class SwarmReport:
    """The result of a connection test on a swarm.

    Args:
        url: the manager that was asked.
        managers: all of the connection.
        networks: those of the manager with the name ``network``.
    """

    url: str
    api_version: str
    swarm: Swarm
    managers: tuple[ManagerCheck, ...]
    nodes: tuple[NodeCheck, ...]
    network: str
    networks: tuple[Json, ...] = ()
    logins: tuple[LoginCheck, ...] = ()

    @property
    def is_fine(self) -> bool:
        """Whether apps can be launched, and each part of the connection works."""
        checked = (self.managers, self.nodes, self.logins)
        is_right = bool(self._candidates) and not self._network_problem
        return is_right and not any(one.error for checks in checked for one in checks)

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        version = oldest_manager(one.node for one in self.nodes)
        yield (
            f"Docker Swarm of {counted(len(self.nodes), 'node')} at {self.url}: "
            f"Docker {version} (API {self.api_version})."
        )
        for one in self.nodes:
            yield f"Node {one.name} ({_role(one.node)}): {self._node_text(one.node)}."
        yield from self._placing_lines()
        yield self._network_line()
        yield from self._manager_lines()
        yield from self._daemon_lines()
        has_gpus = any(_amount(one.node, self.swarm.gpu_resource) for one in self.nodes)
        if has_gpus and (limit := gpu_limit(version)):
            what, fix = limit
            yield f"GPUs cannot be used: {what}; {fix}."
        for login in self.logins:
            yield str(login)

    @property
    def _candidates(self) -> list[str]:
        """The nodes that take replicas of this connection."""
        return [
            one.name
            for one in self.nodes
            if is_usable(one.node) and may_run(one.node, self.swarm.constraints)
        ]

    def _node_text(self, node: Json) -> str:
        state = str((node.get("Status") or {}).get("State") or "unknown")
        if state != "ready":
            return f"{state}; see the log of its daemon, and `docker node ls`"
        availability = str((node.get("Spec") or {}).get("Availability") or "active")
        size = self._size_text(node)
        if availability == "active":
            return f"ready, {size}"
        state = {"drain": "drained", "pause": "paused"}.get(availability, availability)
        fix = f"docker node update --availability active {node_name(node)}"
        return f"{state}, so it takes no replicas (`{fix}` ends that), {size}"

    def _size_text(self, node: Json) -> str:
        found = (node.get("Description") or {}).get("Resources") or {}
        cpus = int(found.get("NanoCPUs") or 0) / _CPU
        memory = int(found.get("MemoryBytes") or 0) / _GIB
        kind = self.swarm.gpu_resource
        gpus = counted(_amount(node, kind), "GPU") if _amount(node, kind) else "no GPUs"
        if others := sorted({other for other, _ in _generic(node) if other != kind}):
            gpus += f" (a GPU is the resource {kind}; it also has {', '.join(others)})"
        elif ids := [value for _, value in _generic(node) if isinstance(value, str)]:
            gpus += f" ({', '.join(ids)})"
        return f"{cpus_text(cpus)}, {memory:.1f} GiB of memory, {gpus}"

    def _placing_lines(self) -> Iterator[str]:
        wanted = " and ".join(self.swarm.constraints)
        if wanted and self._candidates:
            yield f"Nodes with {wanted}: {', '.join(self._candidates)}."
        elif not self._candidates:
            meets = f" and meets {wanted}" if wanted else ""
            yield f"No replica can run: no node is ready and active{meets}."

    @property
    def _network_problem(self) -> str:
        """What is wrong with the network; empty if apps can join it."""
        for one in self._joined:
            driver, is_ingress = one.get("Driver"), one.get("Ingress")
            if (driver != _OVERLAY or is_ingress) and self.network != "host":
                kind = "the ingress network" if is_ingress else f"a {driver} network"
                return f"is {kind}, not an overlay network that apps can join"
        return ""

    @property
    def _joined(self) -> tuple[Json, ...]:
        """The networks with the name, without those that a launch does not use."""
        is_predefined = self.network in _PREDEFINED
        return tuple(one for one in self.networks if is_predefined or one.get("Scope") == "swarm")

    def _network_line(self) -> str:
        if problem := self._network_problem:
            fix = "Name another one in network, which the first launch creates"
            return f"Network {self.network!r} {problem}. {fix}."
        state = "exists" if self._joined else "will be created by the first launch"
        return f"Network {self.network!r} {state}."

    def _manager_lines(self) -> Iterator[str]:
        answering = [one.url for one in self.managers if one.error is None]
        if len(self.managers) > 1:
            yield f"Managers of the connection that answer: {', '.join(answering)}."
        for one in self.managers:
            if one.error is not None:
                yield f"Manager {one.url} cannot be asked: {one.error}"
        count = sum(bool(one.node.get("ManagerStatus")) for one in self.nodes)
        if count > len(self.managers):
            yield (
                f"The swarm has {count} managers and the connection {len(self.managers)}: add the "
                "others to managers, for the time when one is down."
            )

    def _daemon_lines(self) -> Iterator[str]:
        by_error: dict[str, list[str]] = {}
        for one in self.nodes:
            if one.error is not None:
                by_error.setdefault(one.error, []).append(one.name)
        for error, names in by_error.items():
            yield (
                f"Files, usage and stacks of replicas on {', '.join(names)} cannot be read: {error}"
            )


def _role(node: Json) -> str:
    manager = node.get("ManagerStatus")
    if not manager:
        return "worker"
    if manager.get("Leader"):
        return "manager, leader"
    reach = manager.get("Reachability")
    return "manager" if reach in ("reachable", None) else f"manager, {reach}"


def _generic(node: Json) -> list[tuple[str, str | int]]:
    """Return the generic resources of a node: an id, or a number of each kind."""
    found: list[tuple[str, str | int]] = []
    for one in ((node.get("Description") or {}).get("Resources") or {}).get(
        "GenericResources"
    ) or ():
        if named := one.get("NamedResourceSpec"):
            found.append((str(named["Kind"]), str(named["Value"])))
        elif discrete := one.get("DiscreteResourceSpec"):
            found.append((str(discrete["Kind"]), int(discrete.get("Value") or 0)))
    return found


def _amount(node: Json, kind: str) -> int:
    return sum(
        value if isinstance(value, int) else 1 for other, value in _generic(node) if other == kind
    )
