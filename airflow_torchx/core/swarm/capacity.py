"""What the nodes of a swarm have and what is free on them, and what a replica asks for; pure."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from airflow_torchx.core.engine.amounts import cpus_text, mib
from airflow_torchx.core.swarm.tasks import LIVE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    Json = Mapping[str, Any]

_CONSTRAINT: Final = re.compile(r"\s*(\S+?)\s*(==|!=)\s*(.*?)\s*")
_CPU: Final = 10**9


@dataclass(frozen=True, slots=True)
class Amounts:
    """CPUs in billionths, memory in bytes, and generic resources by their kind."""

    nano_cpus: int = 0
    memory_bytes: int = 0
    generic: tuple[tuple[str, int], ...] = ()

    @classmethod
    def of(cls, resources: Json | None) -> Amounts:
        """Return the amounts of a node, or those that a task reserves."""
        found = resources or {}
        generic: Counter[str] = Counter()
        for one in found.get("GenericResources") or ():
            if named := one.get("NamedResourceSpec"):
                generic[str(named["Kind"])] += 1
            elif discrete := one.get("DiscreteResourceSpec"):
                generic[str(discrete["Kind"])] += int(discrete.get("Value") or 0)
        return cls(
            int(found.get("NanoCPUs") or 0),
            int(found.get("MemoryBytes") or 0),
            tuple(sorted(generic.items())),
        )

    def holds(self, other: Amounts) -> bool:
        """Return whether another amount fits in this one."""
        own = dict(self.generic)
        return (
            self.nano_cpus >= other.nano_cpus
            and self.memory_bytes >= other.memory_bytes
            and all(own.get(kind, 0) >= count for kind, count in other.generic)
        )

    def without(self, other: Amounts) -> Amounts:
        """Return what is left."""
        generic = Counter(dict(self.generic))
        generic.subtract(dict(other.generic))
        return Amounts(
            self.nano_cpus - other.nano_cpus,
            self.memory_bytes - other.memory_bytes,
            tuple(sorted(generic.items())),
        )

    @property
    def size(self) -> tuple[int, int, int]:
        """A key that sorts amounts by the rarest resource first."""
        return sum(count for _, count in self.generic), self.nano_cpus, self.memory_bytes

    def text(self, kinds: Iterable[str]) -> str:
        """Return them for a user, like ``2 CPUs, 512.0 MiB, 1 gpu``."""
        own = dict(self.generic)
        parts = [cpus_text(max(self.nano_cpus, 0) / _CPU), mib(max(self.memory_bytes, 0))]
        return ", ".join([*parts, *(f"{max(own.get(kind, 0), 0)} {kind}" for kind in kinds)])


@dataclass(frozen=True, kw_only=True, slots=True)
class Room:
    """What is free on one node that takes replicas."""

    name: str
    node: Json
    free: Amounts

    @property
    def id(self) -> str:
        """The id of the node."""
        return str(self.node["ID"])


@dataclass(frozen=True, kw_only=True, slots=True)
class Demand:
    """What one replica reserves, and where it may run."""

    amounts: Amounts
    constraints: tuple[str, ...] = ()


def empty_rooms(nodes: Iterable[Json]) -> list[Room]:
    """Return what nodes have while nothing runs, also those that are away for now.

    A node that was drained or paused takes no replicas until a user changes that.
    """
    return [
        Room(name=node_name(node), node=node, free=_has(node))
        for node in nodes
        if (node.get("Spec") or {}).get("Availability") == "active"
    ]


def rooms(nodes: Iterable[Json], tasks: Iterable[Json]) -> list[Room]:
    """Return what is free on each node that takes replicas; a task counts until it has ended."""
    used: dict[str, list[Amounts]] = {}
    for task in tasks:
        if (task.get("Status") or {}).get("State") in LIVE:
            reserved = ((task.get("Spec") or {}).get("Resources") or {}).get("Reservations")
            used.setdefault(str(task.get("NodeID") or ""), []).append(Amounts.of(reserved))
    found = []
    for node in nodes:
        if is_usable(node):
            free = _has(node)
            for amounts in used.get(str(node["ID"]), ()):
                free = free.without(amounts)
            found.append(Room(name=node_name(node), node=node, free=free))
    return found


def _has(node: Json) -> Amounts:
    return Amounts.of((node.get("Description") or {}).get("Resources"))


def demand(service: Json) -> Demand:
    """Return what the replica of a service needs."""
    template = service["Spec"]["TaskTemplate"]
    constraints = (template.get("Placement") or {}).get("Constraints") or ()
    reserved = (template.get("Resources") or {}).get("Reservations")
    return Demand(amounts=Amounts.of(reserved), constraints=tuple(constraints))


def is_usable(node: Json) -> bool:
    """Return whether a node takes replicas."""
    is_ready = (node.get("Status") or {}).get("State") == "ready"
    return is_ready and (node.get("Spec") or {}).get("Availability") == "active"


def largest(nodes: Iterable[Json]) -> tuple[int, int]:
    """Return the most CPUs, and the most bytes of memory, of a node that takes replicas.

    If none does, those of all nodes count, as an app waits for their return.
    """
    known = list(nodes)
    fit = [one for one in known if is_usable(one)] or known
    sizes = [_has(one) for one in fit]
    cpus = max((one.nano_cpus for one in sizes), default=0) // _CPU
    return cpus, max((one.memory_bytes for one in sizes), default=0)


def oldest_manager(nodes: Iterable[Json]) -> str:
    """Return the lowest version of the engines of the managers; empty without one."""
    versions = [
        str(((node.get("Description") or {}).get("Engine") or {}).get("EngineVersion") or "")
        for node in nodes
        if node.get("ManagerStatus")
    ]
    return min(filter(None, versions), key=_numbers, default="")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version.partition("+")[0]))


def node_name(node: Json) -> str:
    """Return the host name of a node."""
    return str((node.get("Description") or {}).get("Hostname") or node["ID"])


def may_run(node: Json, constraints: Iterable[str]) -> bool:
    """Return whether constraints allow a node; the swarm decides on those that are unknown here."""
    for one in constraints:
        match = _CONSTRAINT.fullmatch(one)
        value = _attribute(node, match[1]) if match else None
        if match and value is not None:
            is_equal = value.casefold() == match[3].casefold()
            if is_equal is not (match[2] == "=="):
                return False
    return True


def _attribute(node: Json, key: str) -> str | None:
    """Return what a constraint compares; empty for a label that the node does not have."""
    spec, description = node.get("Spec") or {}, node.get("Description") or {}
    for prefix, labels in (
        ("node.labels.", spec.get("Labels")),
        ("engine.labels.", (description.get("Engine") or {}).get("Labels")),
    ):
        if key.startswith(prefix):
            return str((labels or {}).get(key.removeprefix(prefix), ""))
    platform = description.get("Platform") or {}
    known = {
        "node.id": node.get("ID"),
        "node.hostname": description.get("Hostname"),
        "node.role": spec.get("Role"),
        "node.platform.os": platform.get("OS"),
        "node.platform.arch": platform.get("Architecture"),
    }
    return None if known.get(key) is None else str(known[key])
