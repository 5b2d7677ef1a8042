"""A manager in memory, which answers what `SwarmEngine` asks of one."""

from __future__ import annotations

import json
import re
from collections import Counter
from copy import deepcopy
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec

from airflow_torchx.errors import EngineConflictError, EngineError, EngineNotFoundError
from airflow_torchx.swarm_engine.managers import Managers
from airflow_torchx.testing.output import to_text
from airflow_torchx.testing.tasks import labels_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow_torchx.docker_engine.request import Response
    from airflow_torchx.testing.tasks import FakeTasks

    Json = dict[str, Any]

#: A manager takes names that are DNS labels.
_NAME: Final = re.compile(r"[a-zA-Z0-9](?:[-_]*[A-Za-z0-9]+)*")
_LONGEST_NAME: Final = 63


class FakeManager(Managers):
    """Services by id, and the tasks that follow from them. Not thread-safe.

    Args:
        tasks: the tasks.
        nodes: returns the nodes, as a manager does.
        networks: returns how many networks have a name.
        new_id: returns an unused id.
        now_ns: returns nanoseconds since 1970.
        on_change: called after each request, and each time something may have happened.
    """

    def __init__(
        self,
        tasks: FakeTasks,
        nodes: Callable[[], list[Json]],
        networks: Callable[[str], int],
        new_id: Callable[[str], str],
        now_ns: Callable[[], int],
        on_change: Callable[[], object],
    ) -> None:
        super().__init__([])
        self.services: dict[str, Json] = {}
        #: How many requests came of each kind, like ``GET /tasks`` and ``GET /services/id``.
        self.requests = Counter[str]()
        self.tasks = tasks
        self._nodes = nodes
        self._networks = networks
        self._new_id = new_id
        self._now_ns = now_ns
        self._on_change = on_change

    def json(
        self,
        method: str,
        path: str,
        what: str,
        fields: Any = Any,  # noqa: ANN401 - a type
        **options: Any,  # noqa: ANN401 - see `request`
    ) -> Any:  # noqa: ANN401 - any JSON
        """Return the JSON of the response to a request."""
        self._count(method, path)
        self.settle()
        wanted = json.loads((options.get("params") or {}).get("filters", "{}"))
        match method, path.strip("/").split("/"):
            case "GET", ["info"]:
                found: object = {"SystemTime": to_text(self._now_ns())}
            case "GET", ["nodes"]:
                found = self._nodes()
            case "GET", ["tasks"]:
                found = self._tasks(wanted)
            case "GET", ["services"]:
                labels = wanted.get("label", ())
                found = [
                    one
                    for one in self.services.values()
                    if _have(one["Spec"].get("Labels") or {}, labels)
                ]
            case "GET", ["services", ref]:
                found = self.find(ref, what)
            case "POST", ["services", "create"]:
                found = {"ID": self._create(options["json"], what)}
            case _:
                error = f"cannot {what}: the fake swarm does not answer {method} {path}."
                raise EngineError(error, status=HTTPStatus.NOT_IMPLEMENTED)
        return msgspec.convert(deepcopy(found), fields)

    def send(self, method: str, path: str, what: str, **options: Any) -> Response:  # noqa: ANN401
        """Carry out a request whose response is empty."""
        self.settle()
        match method, path.strip("/").split("/"):
            case "POST", ["services", service_id, "update"]:
                self._count(method, path)
                self._update(service_id, options["json"], options["params"]["version"], what)
            case "DELETE", ["services", service_id]:
                self._count(method, path)
                del self.services[self.find(service_id, what)["ID"]]
                self.tasks.end(service_id, "remove")
                self.settle()
            case _:
                self.json(method, path, what, **options)
        return cast("Response", None)

    def settle(self) -> None:
        """Let happen what is due."""
        self.tasks.settle()
        self._on_change()

    def find(self, ref: str, what: str) -> Json:
        """Return a service by its id or its name.

        Raises:
            EngineNotFoundError: it does not exist.
        """
        for one in self.services.values():
            if ref in (one["ID"], one["Spec"]["Name"]):
                return one
        why = f"cannot {what}: service {ref} not found."
        fix = "It may have been removed."
        raise EngineNotFoundError(why, fix=fix, status=HTTPStatus.NOT_FOUND)

    def _count(self, method: str, path: str) -> None:
        kind, *more = path.strip("/").split("/")
        of_one = "/id" if more and more != ["create"] else "".join(f"/{one}" for one in more)
        self.requests[f"{method} /{kind}{of_one}"] += 1

    def _create(self, spec: Json, what: str) -> str:
        name = spec["Name"]
        if not _NAME.fullmatch(name) or len(name) > _LONGEST_NAME:
            why = f"cannot {what}: {name!r} is not a DNS label."
            raise EngineError(why, status=HTTPStatus.BAD_REQUEST)
        if any(name == one["Spec"]["Name"] for one in self.services.values()):
            why = f"cannot {what}: a service with the name {name} exists."
            fix = "Remove the service that has it."
            raise EngineConflictError(why, fix=fix, status=HTTPStatus.CONFLICT)
        for network in spec["TaskTemplate"].get("Networks") or ():
            if not self._networks(network["Target"]):
                why = f"cannot {what}: network {network['Target']} not found."
                raise EngineError(why, status=HTTPStatus.INTERNAL_SERVER_ERROR)
        service_id = self._new_id("service")[:25]
        self.services[service_id] = {
            "ID": service_id,
            "Version": {"Index": 1},
            "CreatedAt": to_text(self._now_ns()),
            "Spec": deepcopy(spec),
        }
        return service_id

    def _update(self, service_id: str, spec: Json, version: int, what: str) -> None:
        service = self.find(service_id, what)
        before = service["Spec"]
        if service["Version"]["Index"] != version:
            why = f"cannot {what}: update out of sequence."
            raise EngineError(why, status=HTTPStatus.INTERNAL_SERVER_ERROR)
        service["Version"]["Index"] += 1
        service["Spec"] = deepcopy(spec)
        if not _replicas(spec):
            self.tasks.end(service_id, "remove")
        elif not _replicas(before) or spec["TaskTemplate"] != before["TaskTemplate"]:
            self.tasks.end(service_id)
            self.tasks.add(service)
        self.settle()

    def _tasks(self, wanted: Mapping[str, Sequence[str]]) -> list[Json]:
        """Return tasks; labels are those of their services.

        Raises:
            EngineNotFoundError: one of the services does not exist.
        """
        for ref in wanted.get("service", ()):
            self.find(ref, "list tasks")
        states = wanted.get("desired-state")
        return [
            task
            for task in self.tasks.rows.values()
            if ("id" not in wanted or task["ID"] in wanted["id"])
            and ("service" not in wanted or task["ServiceID"] in wanted["service"])
            and (states is None or task["DesiredState"] in states)
            and _have(labels_of(task), wanted.get("label", ()))
        ]


def _replicas(spec: Json) -> int:
    return int(spec["Mode"]["Replicated"]["Replicas"])


def _have(labels: Mapping[str, str], wanted: Sequence[str]) -> bool:
    """Return whether labels match a filter, like ``key`` or ``key=value``."""
    pairs = [one.partition("=") for one in wanted]
    return all(
        key in labels and (not equals or labels[key] == value) for key, equals, value in pairs
    )
