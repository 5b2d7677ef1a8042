"""Which GPUs the nodes of a swarm have, what holds them, and what waits for some; pure.

A GPU is a generic resource, by its id or as one of a number. The swarm gives each one to one
replica at a time.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from airflow_torchx.core.engine.labels import APP_ID, SWARM_MARK
from airflow_torchx.core.engine.times import parse_time
from airflow_torchx.core.swarm.capacity import demand, is_usable, node_name
from airflow_torchx.core.swarm.service_spec import current_name
from airflow_torchx.core.swarm.tasks import LIVE, replicas

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    Json = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeGpu:
    """One GPU of a node; an empty text is unknown or does not apply.

    Args:
        node: host name of its node.
        id: what the node calls it; empty if it only says how many it has.
        is_usable: whether the swarm places replicas on the node now.
        holder: name of the container, or of another program's service, that holds it.
        labels: those of the container.
        since: when the swarm made the task that holds it.
    """

    node: str
    id: str
    is_usable: bool
    holder: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    since: datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class WaitingForGpus:
    """An app with replicas that are on no node yet, and the number of GPUs that they ask for."""

    app_id: str
    count: int
    since: datetime
    labels: Mapping[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class SwarmGpus:
    """The GPUs of a swarm, and the apps that wait, the oldest first."""

    gpus: tuple[NodeGpu, ...]
    waiting: tuple[WaitingForGpus, ...]

    @classmethod
    def of(
        cls, nodes: Iterable[Json], tasks: Sequence[Json], services: Sequence[Json], kind: str
    ) -> SwarmGpus:
        """Return them from what the API lists; ``kind`` is the name of the generic resource."""
        names = {one["ID"]: str(one["Spec"].get("Name") or "") for one in services}
        held: dict[str, list[Json]] = defaultdict(list)
        for task in tasks:
            if (task.get("Status") or {}).get("State") in LIVE:
                held[str(task.get("NodeID") or "")].append(task)
        ordered = sorted(nodes, key=node_name)
        found = [gpu for node in ordered for gpu in _of_node(node, held[node["ID"]], names, kind)]
        return cls(gpus=tuple(found), waiting=tuple(_waiting(tasks, services, kind)))


def _of_node(
    node: Json, tasks: Iterable[Json], names: Mapping[str, str], kind: str
) -> Iterator[NodeGpu]:
    """Yield the GPUs of a node: those with ids, else those that are held before the others."""
    resources = (node.get("Description") or {}).get("Resources") or {}
    left = _ids(resources.get("GenericResources"), kind)
    unknown = NodeGpu(node=node_name(node), id="", is_usable=is_usable(node))
    by_id = {one: replace(unknown, id=one) for one in left if one}
    counted = left.count("")
    for task in tasks:
        template = (task.get("Spec") or {}).get("ContainerSpec") or {}
        labels = template.get("Labels") or {}
        holder = current_name(labels) or f"service {names.get(str(task.get('ServiceID')), '')}"
        for one in _ids(task.get("GenericResources"), kind):
            since = parse_time(task.get("CreatedAt"))
            gpu = replace(unknown, id=one, holder=holder.strip(), labels=labels, since=since)
            if one:
                by_id[one] = gpu
            else:
                counted -= 1
                yield gpu
    yield from (by_id[one] for one in sorted(by_id))
    yield from [unknown] * counted


def _ids(resources: Iterable[Json] | None, kind: str) -> list[str]:
    """Return the ids of generic resources of a kind; an empty one for each that is only counted."""
    found = []
    for one in resources or ():
        named, counted = one.get("NamedResourceSpec"), one.get("DiscreteResourceSpec")
        if named and named.get("Kind") == kind:
            found.append(str(named.get("Value") or ""))
        if counted and counted.get("Kind") == kind:
            found += [""] * int(counted.get("Value") or 0)
    return found


def _waiting(
    tasks: Sequence[Json], services: Sequence[Json], kind: str
) -> Iterator[WaitingForGpus]:
    specs = {one["ID"]: one for one in services}
    asked: dict[str, list[tuple[datetime, int, Mapping[str, str]]]] = defaultdict(list)
    for one in replicas(tasks, services):
        service = specs.get(one.service_id)
        is_waiting = one.name and one.state in {"created", "pending"}
        if service is None or not is_waiting or SWARM_MARK in (service["Spec"].get("Labels") or {}):
            continue
        if count := dict(demand(service).amounts.generic).get(kind, 0):
            asked[one.labels.get(APP_ID, "")].append((one.created_at, count, one.labels))
    found = [
        WaitingForGpus(
            app_id=app_id,
            count=sum(count for _, count, _ in of_app),
            since=min(since for since, _, _ in of_app),
            labels=of_app[0][2],
        )
        for app_id, of_app in asked.items()
    ]
    yield from sorted(found, key=lambda one: (one.since, one.app_id))
