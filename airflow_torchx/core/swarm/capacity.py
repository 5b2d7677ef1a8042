"""Whether an app fits on the nodes of a swarm now; pure.

A swarm starts the part of an app that fits, and lets the rest wait. So an app is started only if
all of it fits, by what its services reserve and what those that run have reserved.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from airflow_torchx.core.engine.amounts import counted, mib
from airflow_torchx.core.swarm.tasks import LIVE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

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

    def text(self, kinds: Iterable[str]) -> str:
        """Return them for a user, like ``2 CPUs, 512.0 MiB, 1 gpu``."""
        own = dict(self.generic)
        parts = [f"{max(self.nano_cpus, 0) / _CPU:g} CPUs", mib(max(self.memory_bytes, 0))]
        return ", ".join([*parts, *(f"{max(own.get(kind, 0), 0)} {kind}" for kind in kinds)])


@dataclass(frozen=True, kw_only=True, slots=True)
class Room:
    """What is free on one node that takes replicas."""

    name: str
    node: Json
    free: Amounts


@dataclass(frozen=True, kw_only=True, slots=True)
class Demand:
    """What one replica reserves, and where it may run."""

    amounts: Amounts
    constraints: tuple[str, ...] = ()


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
            free = Amounts.of((node.get("Description") or {}).get("Resources"))
            for amounts in used.get(str(node["ID"]), ()):
                free = free.without(amounts)
            found.append(Room(name=node_name(node), node=node, free=free))
    return found


def demand(service: Json) -> Demand:
    """Return what the replica of a service needs."""
    template = service["Spec"]["TaskTemplate"]
    constraints = (template.get("Placement") or {}).get("Constraints") or ()
    reserved = (template.get("Resources") or {}).get("Reservations")
    return Demand(amounts=Amounts.of(reserved), constraints=tuple(constraints))


def why_not(free: Sequence[Room], wanted: Iterable[Demand]) -> str:
    """Return why these replicas do not fit together; empty if they do.

    The largest are placed first, each where least is left: a swarm may place them in another way,
    so an app is looked at once more after its start.
    """
    left = [(room, room.free) for room in free]
    ordered = sorted(wanted, key=_size, reverse=True)
    for placed, one in enumerate(ordered):
        fits = [
            (rest.without(one.amounts), index)
            for index, (room, rest) in enumerate(left)
            if rest.holds(one.amounts) and may_run(room.node, one.constraints)
        ]
        if not fits:
            return _shortage(free, ordered, placed, one)
        rest, index = min(fits, key=lambda fit: (_amount(fit[0]), fit[1]))
        left[index] = (left[index][0], rest)
    return ""


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
    sizes = [Amounts.of((one.get("Description") or {}).get("Resources")) for one in fit]
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


def _shortage(free: Sequence[Room], wanted: Sequence[Demand], placed: int, one: Demand) -> str:
    kinds = [kind for kind, _ in one.amounts.generic]
    where = f" on nodes with {' and '.join(one.constraints)}" if one.constraints else ""
    rest = "; ".join(f"{room.name}: {room.free.text(kinds)}" for room in free) or "no node"
    asked = (
        f"{counted(len(wanted), 'replica')}, one of which asks for {one.amounts.text(kinds)}{where}"
    )
    return f"{asked}; {placed} of them would fit. Free are {rest}"


def _size(one: Demand) -> tuple[int, int, int, int]:
    return (len(one.constraints), *_amount(one.amounts))


def _amount(amounts: Amounts) -> tuple[int, int, int]:
    return sum(count for _, count in amounts.generic), amounts.nano_cpus, amounts.memory_bytes


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
