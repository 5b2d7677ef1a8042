"""The services of a swarm and their tasks: found, created, changed, stopped and removed."""

from __future__ import annotations

import logging
import re
import time
from contextlib import suppress
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from airflow_torchx.core.engine.labels import APP_ID, SWARM_MARK, are_in
from airflow_torchx.core.engine.times import parse_time
from airflow_torchx.core.plan.identity import failed_name, is_ending_name, is_failed_name
from airflow_torchx.core.swarm.capacity import node_name
from airflow_torchx.core.swarm.service_spec import (
    current_name,
    is_started,
    renamed,
    service_name,
    started,
    stopped,
)
from airflow_torchx.core.swarm.task_fields import TaskFields
from airflow_torchx.core.swarm.tasks import Replica, is_complete, replicas
from airflow_torchx.docker_engine.spec import label_filters
from airflow_torchx.errors import EngineConflictError, EngineError, EngineNotFoundError
from airflow_torchx.swarm_engine.managers import filters

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from airflow_torchx.swarm_engine.managers import Managers

_log = logging.getLogger(__name__)

Json = dict[str, Any]

#: A manager refuses an update of a version that another client has just replaced.
_OUT_OF_SEQUENCE: Final = "out of sequence"
_UPDATES: Final = 20
# Between two requests for the tasks of a service that ends.
_POLL_S: Final = 0.1
# A manager makes the tasks of a new specification within some 0.3 s.
_SUBSTITUTE_S: Final = 10.0
# Beyond the grace period: a daemon waits 2 s before SIGTERM on an overlay network, and some 15 s go
# by before a swarm knows that a node is away.
_END_S: Final = 30.0
_OVER: Final = ("created", "exited", "dead")
_ID: Final = re.compile("[a-z0-9]{25}")
_UNKNOWN: Final = "not found"


class Services:
    """The services that replicas are. Thread-safe.

    Args:
        managers: the managers of the swarm.
        clock: returns seconds that never decrease.
        sleep: waits that many seconds on ``clock``.
    """

    def __init__(
        self,
        managers: Managers,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._managers = managers
        self.clock = clock
        self.sleep = sleep
        #: Another object after each change by this client of what runs.
        self.changes = object()
        #: By id. A node that was removed is in no list any more.
        self._node_names: dict[str, str] = {}

    def create(self, body: Json, name: str, headers: Mapping[str, str]) -> str:
        """Create a service and return its id.

        Raises:
            EngineConflictError: the name is taken.
            EngineNotFoundError: the network does not exist.
        """
        what = f"create container {name!r}"
        try:
            answer = self._managers.json(
                "POST", "/services/create", what, json=body, headers=headers
            )
        except EngineError as error:
            # An unknown network has no status of its own.
            if error.status == HTTPStatus.INTERNAL_SERVER_ERROR and _UNKNOWN in str(error):
                status = HTTPStatus.NOT_FOUND
                raise EngineNotFoundError(error.what, fix=error.fix, status=status) from error
            raise
        self.changes = object()
        return str(answer["ID"])

    def find(self, ref: str) -> Json:
        """Return the service of a container, by its id, or by the name that it has now.

        Raises:
            EngineNotFoundError: it does not exist, or it has another name.
        """
        is_id = _ID.fullmatch(ref)
        path = f"/services/{quote(ref if is_id else service_name(ref), safe='')}"
        found: Json = self._managers.json("GET", path, f"find container {ref!r}")
        if not is_id and name_of(found) != ref:
            why = f"cannot find container {ref!r}: it has another name now."
            raise EngineNotFoundError(why, status=HTTPStatus.NOT_FOUND)
        return found

    def start(self, ref: str, node_id: str = "") -> None:
        """Start the replica of a service, on this node if one is given, unless it was started."""
        self.update(ref, lambda spec: None if is_started(spec) else started(spec, node_id))

    def rename(self, ref: str, name: str) -> None:
        """Give a container another name; one that says that it ends also stops its replica."""

        def change(spec: Json) -> Json | None:
            if current_name(spec["Labels"]) == name:
                return None
            return stopped(spec, name) if _ends(name) else renamed(spec, name)

        changed = self.update(ref, change)
        if changed and _ends(name):
            self._await_substitute(changed)

    def stop(self, ref: str) -> None:
        """Stop a replica and wait for its end; it has the grace period of its launch.

        Raises:
            EngineNotFoundError: it does not exist.
            EngineError: it runs on.
        """

        def change(spec: Json) -> Json | None:
            is_asked = SWARM_MARK in (spec["TaskTemplate"]["ContainerSpec"].get("Labels") or {})
            runs = is_started(spec) and not is_asked
            return stopped(spec, current_name(spec["Labels"])) if runs else None

        changed = self.update(ref, change)
        service = self.find(ref)
        if changed:
            self._await_substitute(changed)
        self._await_end(lambda: self._live_tasks(service), service, "stop")

    def remove(self, ref: str) -> None:
        """Remove a service, and wait until its container is gone.

        Raises:
            EngineNotFoundError: it does not exist.
            EngineError: its container is still there.
        """
        service = self.find(ref)
        ids = [task["ID"] for task in self.tasks({"service": [service["ID"]]})]
        self.delete(service["ID"])

        def left() -> list[Json]:
            found, down = self.tasks({"id": ids}), self.down()
            return [task for task in found if task.get("NodeID") and task["NodeID"] not in down]

        if ids:
            self._await_end(left, service, "remove")

    def discard(self, ref: str) -> bool:
        """Remove a service whose replica does not run, and return whether this call did.

        Raises:
            EngineConflictError: it runs.
        """
        try:
            service = self.find(ref)
            may_run = self._may_run(service)
        except EngineNotFoundError:
            return False
        if may_run:
            why = f"cannot discard container {name_of(service)}: it is running."
            fix = f"Stop it first, or remove it: `docker service rm {service['Spec']['Name']}`."
            raise EngineConflictError(why, fix=fix, status=HTTPStatus.CONFLICT)
        return self.delete(service["ID"])

    def replicas(self, labels: Mapping[str, str | None]) -> list[Replica]:
        """Return the replicas that have all these labels.

        It is one request for an app whose replicas run or have ended, else two. A replica that
        the swarm has given up is recorded as failed, so that it stays so if its node returns and
        its program ends with the exit code 0.
        """
        wanted: Mapping[str, Sequence[str]] = label_filters(labels) if labels else {}
        tasks, services, down = self.tasks(wanted), list[Json](), set[str]()
        found = replicas(tasks)
        # What looks lost or evicted may be stopped by a client, which its service shows first.
        is_plain = is_complete(found) and not any(one.state == "dead" for one in found)
        if labels.get(APP_ID) is None or not is_plain:
            params = filters(wanted)
            services = self._managers.json("GET", "/services", "list services", params=params)
            known = {one["ID"] for one in services}
            # The tasks of a removed service stay for a while.
            tasks = [task for task in tasks if task.get("ServiceID") in known]
            found = replicas(tasks, services)
        if any(one.is_stopping for one in found):
            down = self.down()
            found = replicas(tasks, services, down)
        ours = [one for one in found if one.name and are_in(labels, one.labels)]
        for one in ours:
            if one.is_lost:
                self._record_lost(one)
        return ours

    def replica(self, ref: str) -> Replica:
        """Return one replica.

        Raises:
            EngineNotFoundError: it does not exist.
        """
        service = self.find(ref)
        (found,) = replicas(self.tasks({"service": [service["ID"]]}), [service])
        return found

    def live(self, ids: Collection[str]) -> set[str]:
        """Return those of these services whose replicas have not ended."""
        try:
            found = replicas(self.tasks({"service": sorted(ids)}))
        except EngineNotFoundError:
            # A manager refuses the list if one of the services is gone.
            if len(ids) == 1:
                return set()
            return {one for service_id in ids for one in self.live([service_id])}
        return {one.service_id for one in found if one.state not in _OVER}

    def tasks(self, wanted: Mapping[str, Sequence[str]]) -> list[Json]:
        """Return the tasks that a filter selects, with the fields that are read."""
        found: list[Json] = self._managers.json(
            "GET", "/tasks", "list tasks", list[TaskFields], params=filters(wanted)
        )
        return found

    def nodes(self) -> list[Json]:
        """Return the nodes of the swarm, as the API has them."""
        found: list[Json] = self._managers.json("GET", "/nodes", "list the nodes")
        self._node_names |= {one["ID"]: node_name(one) for one in found}
        return found

    def node(self, node_id: str) -> Json:
        """Return a node of the swarm, as the API has it."""
        found: Json = self._managers.json("GET", f"/nodes/{node_id}", f"find node {node_id}")
        return found

    def node_name(self, node_id: str) -> str:
        """Return the host name of a node, also of a removed one that was seen before."""
        self.nodes()
        return self._node_names.get(node_id, node_id)

    def node_that_is_down(self, service: Json) -> str:
        """Return the name of the node of a replica if it does not answer, else an empty text."""
        (found,) = replicas(self.tasks({"service": [service["ID"]]}), [service])
        if not (found.node_id and found.node_id in self.down()):
            return ""
        return self._node_names.get(found.node_id, found.node_id)

    def node_names(self, ids: Collection[str]) -> Mapping[str, str]:
        """Return the names of nodes by their ids; one request if one of them is new."""
        if not self._node_names.keys() >= set(ids):
            self.nodes()
            # Of a node that has left, nothing but its id is known.
            self._node_names |= {one: one for one in ids if one not in self._node_names}
        return self._node_names

    def down(self) -> set[str]:
        """Return the ids of the nodes that do not answer."""
        states = {one["ID"]: (one.get("Status") or {}).get("State") for one in self.nodes()}
        return {node_id for node_id, state in states.items() if state == "down"}

    def every(self) -> list[Json]:
        """Return all services of the swarm, also those of other programs."""
        found: list[Json] = self._managers.json("GET", "/services", "list services")
        return found

    def of_apps(self, app_id: str) -> list[Json]:
        """Return what has the label of an app; of all apps if the id is empty."""
        params = filters({"label": [f"{APP_ID}={app_id}" if app_id else APP_ID]})
        found: list[Json] = self._managers.json("GET", "/services", "list services", params=params)
        return found

    def named(self, name: str) -> Json:
        """Return a service by its own name.

        Raises:
            EngineNotFoundError: it does not exist.
        """
        path = f"/services/{quote(name, safe='')}"
        found: Json = self._managers.json("GET", path, f"find service {name!r}")
        return found

    def now(self) -> datetime:
        """Return the time of the manager."""
        found = self._managers.json("GET", "/info", "describe the daemon")
        return parse_time(found.get("SystemTime")) or datetime.now(UTC)

    def delete(self, service_id: str) -> bool:
        """Remove a service, and return whether this call did."""
        try:
            self._managers.send("DELETE", f"/services/{service_id}", f"remove service {service_id}")
        except EngineNotFoundError:
            return False
        self.changes = object()
        return True

    def update(self, ref: str, change: Callable[[Json], Json | None]) -> Json | None:
        """Change a service, unless another client has changed it to what needs no change.

        Return what it was changed to; None if nothing had to be changed.
        """
        for left in reversed(range(_UPDATES)):
            found = self.find(ref)
            spec = change(found["Spec"])
            if spec is None:
                return None
            path, params = f"/services/{found['ID']}/update", {"version": found["Version"]["Index"]}
            try:
                self._managers.send(
                    "POST", path, f"change container {ref}", json=spec, params=params
                )
            except EngineError as error:
                if _OUT_OF_SEQUENCE not in str(error) or not left:
                    raise
            else:
                # Labels alone, like why an app waits, change nothing that runs.
                if {**spec, "Labels": None} != {**found["Spec"], "Labels": None}:
                    self.changes = object()
                return {**found, "Spec": spec}
        return None

    def _await_substitute(self, service: Json) -> None:
        """Wait until each client sees in the tasks that a replica is stopped, and why."""
        if not is_started(service["Spec"]):
            return
        name, deadline_s = name_of(service), self.clock() + _SUBSTITUTE_S
        while self.clock() < deadline_s:
            found = replicas(self.tasks({"service": [service["ID"]]}))
            if not found or found[0].name == name:
                return
            self.sleep(_POLL_S)
        _log.warning("the swarm is slow to stop %s", name)

    def _await_end(
        self, left: Callable[[], Collection[Mapping[str, Any]]], service: Json, verb: str
    ) -> None:
        longest_s = _grace_s(service) + _END_S
        deadline_s = self.clock() + longest_s
        while left():
            if self.clock() > deadline_s:
                what = f"cannot {verb} container {name_of(service)}: it runs after {longest_s:g} s."
                fix = "See the log of the daemon of its node; `docker node ls` shows its state."
                raise EngineError(what, fix=fix)
            self.sleep(_POLL_S)

    def _live_tasks(self, service: Json) -> Collection[Mapping[str, Any]]:
        """Return the tasks of a service that may run, on nodes that answer."""
        tasks = self.tasks({"service": [service["ID"]]})
        found = replicas(tasks)
        if any(one.is_stopping for one in found):
            found = replicas(tasks, down=self.down())
        return [one.task for one in found if one.task and one.state not in _OVER]

    def _may_run(self, service: Json) -> bool:
        """Return whether a replica runs, or may run soon: the task of a start comes later."""
        if self._live_tasks(service):
            return True
        (found,) = replicas(self.tasks({"service": [service["ID"]]}), [service])
        is_over = found.state in {"exited", "dead"} or found.is_asked_to_end
        return is_started(service["Spec"]) and not is_over

    def _record_lost(self, one: Replica) -> None:
        with suppress(EngineError):
            self.rename(one.service_id, failed_name(one.name))
            _log.warning("replica %s is lost with its node", one.name)


def name_of(service: Json) -> str:
    """Return the name that the container of a service has now."""
    return current_name(service["Spec"].get("Labels") or {})


def _ends(name: str) -> bool:
    """Return whether the client that gives a container this name wants its end."""
    return is_ending_name(name) or is_failed_name(name)


def _grace_s(service: Json) -> float:
    container = service["Spec"]["TaskTemplate"]["ContainerSpec"]
    return float((container.get("StopGracePeriod") or 10 * 10**9) / 10**9)
