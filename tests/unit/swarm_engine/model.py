"""A model of how a swarm places tasks: each for itself, on the node that has the fewest."""

from __future__ import annotations

import copy
import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from airflow_torchx.core.engine import labels
from airflow_torchx.core.plan.identity import container_name, round_name
from airflow_torchx.core.swarm.capacity import demand, may_run, rooms
from airflow_torchx.core.swarm.service_spec import is_started, started
from airflow_torchx.errors import EngineConflictError, EngineNotFoundError
from airflow_torchx.swarm_engine.services import Services

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Json = dict[str, Any]

START: Final = datetime(2026, 8, 1, tzinfo=UTC)


class KilledError(Exception):
    """The client was killed before a request."""


class ModelServices(Services):
    """Services of a swarm in memory, with a clock of its own.

    Args:
        nodes: as the API has them.
    """

    def __init__(self, nodes: Sequence[Json]) -> None:
        self.changes = object()
        self.clock = self.seconds
        self.sleep = self.later
        self._nodes = list(nodes)
        self.by_id: dict[str, Json] = {}
        self._tasks: list[Json] = []
        self.at = START
        #: How many changes the client makes before it is killed; None for all.
        self.lives: int | None = None
        self._number = 0

    def add(
        self,
        app_id: str,
        count: int,
        *,
        gpus: int = 1,
        number: int = 0,
        role: str = "trainer",
        more: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Create the services of an app, or of a round of it; they do not run."""
        for index in range(count):
            name = round_name(container_name(app_id, role, index), number)
            found = {
                labels.APP_ID: app_id,
                labels.ROLE_NAME: role,
                labels.REPLICA_ID: str(index),
                labels.ROLES: json.dumps({role: count}),
                labels.SWARM_NAME: name,
                **({labels.ROUND: str(number)} if number else {}),
                **more,
            }
            generic = [{"DiscreteResourceSpec": {"Kind": "gpu", "Value": gpus}}]
            template = {
                "ContainerSpec": {"Image": "image", "Labels": found},
                "Placement": {"Constraints": []},
                "Resources": {"Reservations": {"GenericResources": generic if gpus else []}},
            }
            body = {
                "Name": name,
                "Labels": found,
                "Mode": {"Replicated": {"Replicas": 0}},
                "TaskTemplate": template,
            }
            self.create(body, name, {})

    def finish(self, app_id: str) -> None:
        """Let all replicas of an app end; then others have room."""
        for one in self._of(app_id):
            if one["Status"]["State"] == "running":
                one["Status"]["State"] = "complete"
        self._place()

    def later(self, seconds: float) -> None:
        """Move the clock."""
        self.at += timedelta(seconds=seconds)

    def seconds(self) -> float:
        """Return the time in seconds."""
        return self.at.timestamp()

    def running(self, app_id: str) -> int:
        """Return how many replicas of an app run."""
        return sum(one["Status"]["State"] == "running" for one in self._of(app_id))

    def states(self, app_id: str) -> set[str]:
        """Return the states of all containers of an app."""
        return {one.row().state for one in self.replicas({labels.APP_ID: app_id})}

    def nodes_of(self, app_id: str) -> list[str]:
        """Return the node of each replica that runs."""
        return sorted(t["NodeID"] for t in self._of(app_id) if t["Status"]["State"] == "running")

    def lose(self, name: str) -> None:
        """Let a node go that runs nothing."""
        self._nodes = [one for one in self._nodes if one["ID"] != f"id-{name}"]

    # What `Placing` asks for.

    def create(self, body: Json, name: str, headers: Mapping[str, str]) -> str:
        """Create a service."""
        del headers
        self._change()
        if any(one["Spec"]["Name"] == body["Name"] for one in self.by_id.values()):
            raise EngineConflictError(f"{name} is taken.")
        self._number += 1
        made = f"s{self._number}"
        self.by_id[made] = {"ID": made, "Spec": body, "CreatedAt": self.at.isoformat()}
        self.changes = object()
        return made

    def delete(self, service_id: str) -> bool:
        """Remove a service."""
        self._change()
        self.changes = object()
        return self.by_id.pop(service_id, None) is not None

    def start(self, ref: str, node_id: str = "") -> None:
        """Start a service."""
        self.update(ref, lambda spec: None if is_started(spec) else started(spec, node_id))

    def update(self, ref: str, change: Callable[[Json], Json | None]) -> Json | None:
        """Change a service."""
        if ref not in self.by_id:
            raise EngineNotFoundError(ref)
        spec = change(copy.deepcopy(self.by_id[ref]["Spec"]))
        if spec is None:
            return None
        self._change()
        if is_started(spec) or is_started(self.by_id[ref]["Spec"]):
            self.changes = object()
        self.by_id[ref]["Spec"] = spec
        own = [one for one in self._tasks if one["ServiceID"] == ref]
        if is_started(spec) and not own:
            self._number += 1
            at = {"CreatedAt": self.at.isoformat(), "ID": f"t{self._number}", "ServiceID": ref}
            waits = {"State": "pending", "Timestamp": self.at.isoformat()}
            self._tasks.append(
                {**at, "Spec": spec["TaskTemplate"], "Status": waits, "DesiredState": "running"}
            )
        elif not is_started(spec):
            self._tasks = [one for one in self._tasks if one["ServiceID"] != ref]
        self._place()
        return self.by_id[ref]

    def of_apps(self, app_id: str) -> list[Json]:
        """Return the services of an app, or of all."""
        found = [one for one in self.by_id.values() if not app_id or self._app(one) == app_id]
        return copy.deepcopy(found)

    def tasks(self, wanted: Mapping[str, Sequence[str]]) -> list[Json]:
        """Return tasks; a filter by service counts."""
        ids = wanted.get("service", list(self.by_id))
        return copy.deepcopy([one for one in self._tasks if one["ServiceID"] in ids])

    def nodes(self) -> list[Json]:
        """Return the nodes."""
        return self._nodes

    def named(self, name: str) -> Json:
        """Return a service by its name."""
        for one in self.by_id.values():
            if one["Spec"]["Name"] == name:
                return one
        raise EngineNotFoundError(name)

    def now(self) -> datetime:
        """Return the time."""
        return self.at

    def replicas(self, wanted: Mapping[str, str | None]) -> Any:  # noqa: ANN401 - of Services
        """Return the replicas of an app."""
        from airflow_torchx.core.swarm.tasks import replicas

        services = self.of_apps(str(wanted[labels.APP_ID]))
        return replicas(self.tasks({"service": [one["ID"] for one in services]}), services)

    def _of(self, app_id: str) -> list[Json]:
        ids = {one["ID"] for one in self.by_id.values() if self._app(one) == app_id}
        return [one for one in self._tasks if one["ServiceID"] in ids]

    def _app(self, service: Json) -> str:
        return str((service["Spec"].get("Labels") or {}).get(labels.APP_ID))

    def _change(self) -> None:
        if self.lives is not None:
            if self.lives == 0:
                raise KilledError
            self.lives -= 1

    def _place(self) -> None:
        for task in self._tasks:
            if task["Status"]["State"] != "pending":
                continue
            wanted = demand({"Spec": {"TaskTemplate": task["Spec"]}})
            fits = [
                room
                for room in rooms(self._nodes, self._tasks)
                if room.free.holds(wanted.amounts) and may_run(room.node, wanted.constraints)
            ]
            counts = [one.get("NodeID") for one in self._tasks]
            room = min(fits, key=lambda room: (counts.count(room.id), room.id), default=None)
            if room is None:
                task["Status"]["Err"] = "no suitable node (insufficient resources on 3 nodes)"
            else:
                task["NodeID"] = room.id
                task["Status"] = {"State": "running", "Timestamp": self.at.isoformat()}


def die(model: ModelServices, lives: int, call: Callable[[], object]) -> bool:
    """Carry out a call by a client that is killed after so many changes; return whether it was."""
    model.lives = lives
    try:
        with suppress(EngineNotFoundError):
            call()
    except KilledError:
        return True
    finally:
        model.lives = None
    return False
