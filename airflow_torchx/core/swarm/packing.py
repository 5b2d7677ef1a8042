"""On which nodes of a swarm the replicas of an app fit together; pure.

A swarm starts the part of an app that fits, and lets the rest wait. So an app is started only if
all of it fits, by what its services reserve and what those that run have reserved.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self

from airflow_torchx.core.engine import labels
from airflow_torchx.core.engine.amounts import counted
from airflow_torchx.core.swarm.capacity import Amounts, Demand, Room, may_run

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

PACK: Final = "pack"
SPREAD: Final = "spread"


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """How the replicas of an app are placed, beside what each of them asks for.

    Args:
        max_per_node: how many of them a node runs at most; None for no limit.
        placement: ``pack``, ``spread``, or empty if the swarm chooses.
        timeout_s: how long they wait for room; None for no limit.
    """

    max_per_node: int | None = None
    placement: str = ""
    timeout_s: float | None = None

    @classmethod
    def of(cls, found: Mapping[str, str]) -> Self:
        """Return the rules in labels; any client can write one, so others are left out."""
        try:
            timeout_s = float(found.get(labels.PENDING_TIMEOUT, ""))
        except ValueError:
            timeout_s = None
        return cls(
            max_per_node=labels.number(found.get(labels.MAX_PER_NODE, "")) or None,
            placement=found.get(labels.PLACEMENT, ""),
            timeout_s=timeout_s,
        )

    @property
    def need_pins(self) -> bool:
        """Whether the swarm cannot follow them: it takes each replica for itself."""
        return self.max_per_node is not None or bool(self.placement)

    @property
    def text(self) -> str:
        """What they ask for beside room; empty if nothing."""
        if self.placement == PACK:
            return ", all on one node"
        return "" if self.max_per_node is None else f", at most {self.max_per_node} on a node"


@dataclass(frozen=True, kw_only=True, slots=True)
class Fit:
    """Where replicas fit, or why they do not.

    Args:
        nodes: the id of the node of each replica, in the order in which they were given.
        why_not: why they do not fit together; empty if they do.
    """

    nodes: tuple[str, ...] = ()
    why_not: str = ""


@dataclass
class _Left:
    """What is left on one node while replicas are given to nodes."""

    room: Room
    free: Amounts
    count: int = field(default=0)


def fit(
    free: Sequence[Room],
    wanted: Sequence[Demand],
    rules: Rules | None = None,
    running: Mapping[str, int] | None = None,
    *,
    is_empty: bool = False,
) -> Fit:
    """Return where these replicas fit together, or why they do not.

    The largest are given to nodes first, each to where least is left, or where the fewest of the
    app are. A swarm may choose other nodes, so an app is looked at once more after its start.

    Args:
        free: the nodes.
        wanted: the replicas.
        rules: how they are to be placed.
        running: how many replicas of the app run on each node, by its id.
        is_empty: ``free`` is what the nodes have while nothing runs.
    """
    rules, running = rules or Rules(), running or {}
    order = sorted(range(len(wanted)), key=lambda one: _size(wanted[one]), reverse=True)
    found: dict[int, str] = {}
    best = 0
    for nodes in _node_sets(free, rules, running):
        left = [_Left(room, room.free, running.get(room.id, 0)) for room in nodes]
        found = {}
        for index in order:
            place = _place(left, wanted[index], rules)
            if place is None:
                break
            place.free = place.free.without(wanted[index].amounts)
            place.count += 1
            found[index] = place.room.id
        if len(found) == len(wanted):
            return Fit(nodes=tuple(found[index] for index in range(len(wanted))))
        best = max(best, len(found))
    return Fit(why_not=shortage(free, wanted, rules, best, is_empty=is_empty))


def never_fits(free: Sequence[Room], wanted: Sequence[Demand], rules: Rules) -> str:
    """Return why replicas cannot fit together although the nodes are empty; else an empty text.

    Replicas of several sizes may fit in a way that `fit` does not find, so only what is certain
    counts: that those of one size do not fit, or that all nodes have less than is asked for.
    """
    if rules.placement == PACK:
        return fit(free, wanted, rules, is_empty=True).why_not
    for group in dict.fromkeys(wanted):
        same = [one for one in wanted if one == group]
        if why := fit(free, same, rules, is_empty=True).why_not:
            return why
    all_free, asked = _sum(room.free for room in free), _sum(one.amounts for one in wanted)
    is_room = rules.max_per_node is None or len(wanted) <= rules.max_per_node * len(free)
    if is_room and all_free.holds(asked):
        return ""
    return fit(free, wanted, rules, is_empty=True).why_not


def shortage(
    free: Sequence[Room],
    wanted: Sequence[Demand],
    rules: Rules,
    fitting: int | None = None,
    *,
    is_empty: bool = False,
) -> str:
    """Return what replicas ask for, how many would fit, and what each node has."""
    kinds = sorted({kind for one in wanted for kind, _ in one.amounts.generic})
    groups = Counter(sorted(wanted, key=_size, reverse=True))
    asked = " and ".join(
        f"{counted(number, 'replica')} with {one.amounts.text(kinds)}{_where(one)}"
        + (" each" if number > 1 else "")
        for one, number in groups.items()
    )
    would = "" if fitting is None else f"; {fitting} of {len(wanted)} would fit"
    named = sorted(free, key=lambda room: room.name)
    rest = "; ".join(f"{room.name}: {room.free.text(kinds)}" for room in named) or "no node"
    has = "The nodes have" if is_empty else "Free are"
    return f"asked are {asked}{rules.text}{would}. {has} {rest}"


def _where(one: Demand) -> str:
    return f" on nodes with {' and '.join(one.constraints)}" if one.constraints else ""


def _node_sets(
    free: Sequence[Room], rules: Rules, running: Mapping[str, int]
) -> list[Sequence[Room]]:
    """Return the nodes that replicas may share; to pack is to choose one, the smallest first."""
    if rules.placement != PACK:
        return [free]
    ours = [room for room in free if running.get(room.id)]
    return [[room] for room in sorted(ours or free, key=lambda room: room.free.size)]


def _place(left: Sequence[_Left], one: Demand, rules: Rules) -> _Left | None:
    """Return the node for a replica; None if it fits nowhere."""
    fits = [
        place
        for place in left
        if place.free.holds(one.amounts)
        and may_run(place.room.node, one.constraints)
        and (rules.max_per_node is None or place.count < rules.max_per_node)
    ]

    def rank(place: _Left) -> tuple[int, tuple[int, int, int], str]:
        count = place.count if rules.placement == SPREAD else 0
        return count, place.free.without(one.amounts).size, place.room.id

    return min(fits, key=rank, default=None)


def _sum(amounts: Iterable[Amounts]) -> Amounts:
    cpus, memory, generic = 0, 0, Counter[str]()
    for one in amounts:
        cpus, memory = cpus + one.nano_cpus, memory + one.memory_bytes
        generic.update(dict(one.generic))
    return Amounts(cpus, memory, tuple(sorted(generic.items())))


def _size(one: Demand) -> tuple[int, int, int, int]:
    return (len(one.constraints), *one.amounts.size)
