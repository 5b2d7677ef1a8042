"""The tasks of a fake swarm: placed on its nodes, run there and ended."""

from __future__ import annotations

from collections import Counter
from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from airflow_torchx.core.engine.containers import GpuRequest
from airflow_torchx.core.swarm.capacity import demand, is_usable, may_run, rooms
from airflow_torchx.core.swarm.tasks import LIVE, UNPLACED
from airflow_torchx.testing.output import to_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow_torchx.core.engine.containers import ContainerSpec
    from airflow_torchx.core.swarm.capacity import Demand, Room
    from airflow_torchx.testing.nodes import Host
    from airflow_torchx.testing.output import Message

    Json = dict[str, Any]

_RUNNING: Final = "running"
_SHUTDOWN: Final = "shutdown"
_REMOVE: Final = "remove"
_SECOND_NS: Final = 10**9
_INFIX: Final = ".1."


class FakeTasks:
    """The tasks of all services. Not thread-safe.

    Args:
        hosts: the nodes, by their ids.
        nodes: returns them as a manager does.
        spec_of: returns the container of a service, by its id.
        now_ns: returns nanoseconds since 1970.
    """

    def __init__(
        self,
        hosts: Mapping[str, Host],
        nodes: Callable[[], list[Json]],
        spec_of: Callable[[str], ContainerSpec],
        now_ns: Callable[[], int],
    ) -> None:
        self.rows: dict[str, Json] = {}
        self._hosts = hosts
        self._nodes = nodes
        self._spec_of = spec_of
        self._now_ns = now_ns
        self._made = 0

    def of(self, service_id: str) -> list[Json]:
        """Return the tasks of a service."""
        return [task for task in self.rows.values() if task["ServiceID"] == service_id]

    def add(self, service: Json) -> None:
        """Create a task of a service."""
        self._made += 1
        now_ns, task_id = self._now_ns(), f"{self._made:025d}"
        self.rows[task_id] = {
            "ID": task_id,
            # Of two tasks of a moment, the newer one has the later time.
            "CreatedAt": to_text(now_ns + self._made),
            "Spec": deepcopy(service["Spec"]["TaskTemplate"]),
            "ServiceID": service["ID"],
            "ServiceLabels": dict(service["Spec"].get("Labels") or {}),
            "NodeID": "",
            "Status": {"State": "pending", "Timestamp": to_text(now_ns)},
            "DesiredState": _RUNNING,
        }

    def end(self, service_id: str, desired: str = _SHUTDOWN) -> None:
        """Let all tasks of a service end; with ``remove`` they are gone after that."""
        for task in self.of(service_id):
            if desired == _REMOVE or task["DesiredState"] == _RUNNING:
                task["DesiredState"] = desired
                self._stop(task)

    def lose(self, host: Host) -> None:
        """Give up the tasks of a node that does not answer."""
        for task in self._live_on(host):
            if task["DesiredState"] == _RUNNING:
                task["DesiredState"] = _SHUTDOWN

    def stop_on(self, host: Host) -> None:
        """End the tasks that a node which has returned still runs."""
        for task in self._live_on(host):
            if task["DesiredState"] != _RUNNING:
                # It is complete if it ends with 0, as on a real node that has returned.
                task["IsReturned"] = True
                self._stop(task)

    def drain(self, host: Host) -> None:
        """Stop the tasks of a node."""
        for task in self._live_on(host):
            task["DesiredState"] = _SHUTDOWN
            self._stop(task)

    def settle(self) -> None:
        """Record which containers have ended, and place the tasks that wait."""
        for task in list(self.rows.values()):
            self._record(task)
        for task in self.rows.values():
            if task["Status"]["State"] == "pending" and task["DesiredState"] == _RUNNING:
                self._place(task)

    def log(self, service_id: str) -> list[Message]:
        """Return what the containers of a service have written, as far as their nodes answer."""
        return [
            message
            for task in self.of(service_id)
            if task["NodeID"]
            for message in self._hosts[task["NodeID"]].log(_container_id(task))
        ]

    def snapshot(self) -> list[Json]:
        """Return all tasks as they are now."""
        return deepcopy(list(self.rows.values()))

    def gpus(self, task: Json) -> tuple[str, ...]:
        """Return the ids of the GPUs that a task has."""
        found = (one["NamedResourceSpec"]["Value"] for one in task.get("GenericResources") or ())
        return tuple(found)

    def _live_on(self, host: Host) -> list[Json]:
        tasks = self.rows.values()
        return [one for one in tasks if one["NodeID"] == host.id and _state(one) in LIVE]

    def _stop(self, task: Json) -> None:
        host = self._hosts.get(task["NodeID"])
        if host is None:
            # It has no container: it ends at once.
            task["Status"]["State"] = _SHUTDOWN
        elif not host.is_lost and _state(task) in LIVE:
            grace_ns = task["Spec"]["ContainerSpec"]["StopGracePeriod"]
            host.daemon.terminate(_container_id(task), grace_ns / _SECOND_NS)
        self._record(task)

    def _record(self, task: Json) -> None:
        """Record the end of a container; one on a node that is lost has none."""
        host = self._hosts.get(task["NodeID"])
        if host is not None and host.is_lost:
            return
        if host is not None and _state(task) in LIVE:
            code, at = host.status(_container_id(task))
            if code is None:
                return
            own = "failed" if code else "complete"
            is_stopped = task["DesiredState"] != _RUNNING and not task.get("IsReturned")
            status = task["Status"]
            status["State"] = _SHUTDOWN if is_stopped else own
            status["Timestamp"] = at or status["Timestamp"]
            status["ContainerStatus"]["ExitCode"] = code
            if code and not status.get("Err"):
                status["Err"] = f"task: non-zero exit ({code})"
            if task["DesiredState"] == _RUNNING:
                task["DesiredState"] = _SHUTDOWN
        if task["DesiredState"] == _REMOVE:
            if host is not None:
                host.daemon.remove(_container_id(task))
            self.rows.pop(task["ID"], None)

    def _place(self, task: Json) -> None:
        one = demand({"Spec": {"TaskTemplate": task["Spec"]}})
        nodes = self._nodes()
        free = rooms(nodes, self.rows.values())
        fit = [room for room in free if _takes(room, one)]
        if not fit:
            task["Status"]["Err"] = _reason(nodes, free, one)
            return
        live = Counter(other["NodeID"] for other in self.rows.values() if _state(other) in LIVE)
        # Of nodes with as many, the one that had fewer before: a swarm would take any.
        all_ = Counter(other["NodeID"] for other in self.rows.values())
        room = min(fit, key=lambda room: (live[room.node["ID"]], all_[room.node["ID"]]))
        self._run(task, self._hosts[room.node["ID"]], one)

    def _run(self, task: Json, host: Host, one: Demand) -> None:
        spec, now = self._spec_of(task["ServiceID"]), to_text(self._now_ns())
        for kind, count in one.amounts.generic:
            taken = {gpu for other in self._live_on(host) for gpu in self.gpus(other)}
            ids = [gpu for gpu in host.node.gpu_ids if gpu not in taken][:count]
            task["GenericResources"] = [
                {"NamedResourceSpec": {"Kind": kind, "Value": gpu}} for gpu in ids
            ]
            gpus = GpuRequest(count=count, device_ids=tuple(ids))
            env = {**spec.env, f"DOCKER_RESOURCE_{kind.upper()}": ",".join(ids)}
            spec = replace(spec, env=env, gpus=gpus)
        container_id, why = host.run(replace(spec, name=name_on_node(spec, task)))
        task["NodeID"] = host.id
        task["Status"] = {
            "State": _RUNNING,
            "Timestamp": now,
            "ContainerStatus": {"ContainerID": container_id, "ExitCode": 0},
            **({"Err": why} if why else {}),
        }
        self._record(task)


def name_on_node(spec: ContainerSpec, task: Mapping[str, Any]) -> str:
    """Return the name of the container of a task, which no other one of its node has."""
    return f"{spec.name}{_INFIX}{task['ID']}"


def without_task(spec: ContainerSpec) -> ContainerSpec:
    """Return the container of a replica from that on its node."""
    return replace(spec, name=spec.name.rpartition(_INFIX)[0])


def labels_of(task: Mapping[str, Any]) -> Mapping[str, str]:
    """Return the labels that the service of a task had when the task was created."""
    labels: Mapping[str, str] = task["ServiceLabels"]
    return labels


def _takes(room: Room, one: Demand) -> bool:
    return room.free.holds(one.amounts) and may_run(room.node, one.constraints)


def _reason(nodes: Sequence[Json], free: Sequence[Room], one: Demand) -> str:
    """Return why no node takes a task, in the words of a manager."""
    away = sum(not is_usable(node) for node in nodes)
    full = sum(not room.free.holds(one.amounts) for room in free)
    refused = sum(
        room.free.holds(one.amounts) and not may_run(room.node, one.constraints) for room in free
    )
    parts = [
        (away, f"{_nodes(away)} not available for new tasks"),
        (full, f"insufficient resources on {_nodes(full)}"),
        (refused, f"scheduling constraints not satisfied on {_nodes(refused)}"),
    ]
    why = "; ".join(text for count, text in sorted(parts, key=lambda part: -part[0]) if count)
    return f"{UNPLACED} ({why})"


def _nodes(count: int) -> str:
    return "1 node" if count == 1 else f"{count} nodes"


def _state(task: Json) -> str:
    return str(task["Status"]["State"])


def _container_id(task: Json) -> str:
    return str(task["Status"]["ContainerStatus"]["ContainerID"])
