"""A manager of a swarm that answers like Docker's for so many apps of one replica each.

Usage: stub_manager.py SOCKET APPS [WAITING]
Of the apps, the last WAITING wait for room, and the others run. It answers what `stub_daemon` does
about its own life.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Any, Final

from airflow_torchx.core.engine import labels
from airflow_torchx.core.plan.identity import container_name
from airflow_torchx.core.swarm.capacity import demand, rooms
from airflow_torchx.core.swarm.packing import fit
from tests.benchmarks.stub_daemon import StubDaemon, serve

if TYPE_CHECKING:
    from collections.abc import Iterable

    Json = dict[str, Any]

_NODE: Final = "node1".ljust(25, "0")
_AT: Final = "2026-08-01T00:00:00.000000000Z"
# What fills a real task: it has about 2.6 KB.
_FILLER: Final = {
    "NetworksAttachments": [
        {"Network": dict.fromkeys(map(str, range(12)), "0" * 64), "Addresses": ["10.0.1.2/24"]}
    ]
}


class StubManager(StubDaemon):
    """Services of apps, and the tasks that are their replicas."""

    def __init__(self, apps: int, waiting: int = 0) -> None:
        super().__init__(apps)
        self._services: dict[str, bytes] = {}
        for app_id in [*self._rows][apps - waiting :]:
            self._services[app_id] = _waiting(self._rows.pop(app_id))

    def _row(self, app_id: str, *, live: bool) -> bytes:
        labelled = {
            labels.APP_ID: app_id,
            labels.ROLE_NAME: "bench",
            labels.REPLICA_ID: "0",
            labels.ROLES: '{"bench": 1}',
            labels.FAILURE_POLICY: "fail_fast",
            labels.SWARM_NAME: container_name(app_id, "bench", 0),
        }
        state = {
            "State": "running" if live else "complete",
            "Timestamp": _AT,
            "ContainerStatus": {"ContainerID": "0" * 64, "PID": 1, "ExitCode": 0},
        }
        row = {
            "ID": _id("t", app_id),
            "Version": {"Index": 1 if live else 2},
            "CreatedAt": _AT,
            "UpdatedAt": _AT,
            "Spec": {"ContainerSpec": {"Image": "busybox", "Labels": labelled}},
            "ServiceID": _id("s", app_id),
            "Slot": 1,
            "NodeID": _NODE,
            "Status": state,
            "DesiredState": "running" if live else "shutdown",
            **_FILLER,
        }
        return json.dumps(row).encode()

    def _event(self, app_id: str) -> bytes:
        # The end of a task is none.
        del app_id
        return b""

    def _answer(self, path: str, query: dict[str, str]) -> bytes:
        wanted = json.loads(query.get("filters", "{}"))
        if path.endswith("/tasks"):
            return _list(self._rows[one] for one in self._apps(wanted) if one in self._rows)
        if path.endswith("/services"):
            return _list(map(self._service, self._apps(wanted)))
        *_, kind, one = path.split("/")
        if kind == "services":
            return self._service(_app_of(one))
        if kind == "containers" or one in ("stats", "archive"):
            return b"{}"
        fixed = {"swarm": {"ID": "swarm"}, "info": {"Swarm": {"NodeID": _NODE}}, "nodes": [_node()]}
        return json.dumps(fixed[one]).encode() if one in fixed else super()._answer(path, query)

    def _apps(self, wanted: Json) -> Iterable[str]:
        if "service" in wanted:
            return map(_app_of, wanted["service"])
        if "desired-state" in wanted:
            return self._ends
        (label,) = wanted.get("label", [labels.APP_ID])
        app_id = label.partition("=")[2]
        return [app_id] if app_id else self._live

    def _service(self, app_id: str) -> bytes:
        """Return a service, of about 2 KB."""
        if app_id not in self._services:
            self._services[app_id] = _service(self._rows[app_id])
        return self._services[app_id]


def _id(kind: str, app_id: str) -> str:
    return f"{kind}{app_id.removeprefix('app-')}".ljust(25, "x")


def _app_of(service_id: str) -> str:
    return f"app-{service_id[1:].rstrip('x')}"


def _service(row: bytes) -> bytes:
    return json.dumps(_running(row)).encode()


def _running(row: bytes) -> Json:
    task = json.loads(row)
    spec = {
        "Name": task["ServiceID"],
        "Labels": task["Spec"]["ContainerSpec"]["Labels"],
        "Mode": {"Replicated": {"Replicas": 1}},
        "TaskTemplate": task["Spec"],
    }
    return {"ID": task["ServiceID"], "Version": {"Index": 1}, "CreatedAt": _AT, "Spec": spec}


def _waiting(row: bytes) -> bytes:
    """Return the service of an app that has found no room, and has said so."""
    found = _running(row)
    spec = found["Spec"]
    spec["Mode"] = {"Replicated": {"Replicas": 0}}
    spec["TaskTemplate"]["Resources"] = {"Reservations": {"NanoCPUs": 2 * 10**9}}
    why = fit(rooms([_node()], []), [demand(found)]).why_not
    spec["Labels"] = spec["Labels"] | {labels.SWARM_WAITS: why}
    return json.dumps(found).encode()


def _node() -> Json:
    return {
        "ID": _NODE,
        "Spec": {"Availability": "active"},
        "Description": {"Hostname": "box1", "Resources": {"NanoCPUs": 10**9}},
        "Status": {"State": "ready", "Addr": "127.0.0.1"},
    }


def _list(rows: Iterable[bytes]) -> bytes:
    return b"[" + b",".join(rows) + b"]"


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], StubManager(*map(int, sys.argv[2:]))))
