"""Tests which GPUs of a swarm are held, and which apps wait for some."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow_torchx.core.engine import labels
from airflow_torchx.core.swarm.gpus import SwarmGpus

Json = dict[str, Any]


def _named(*ids: str, kind: str = "gpu") -> list[Json]:
    return [{"NamedResourceSpec": {"Kind": kind, "Value": one}} for one in ids]


def _counted(count: int) -> list[Json]:
    return [{"DiscreteResourceSpec": {"Kind": "gpu", "Value": count}}]


def _node(name: str, generic: list[Json], state: str = "ready") -> Json:
    return {
        "ID": f"id-{name}",
        "Spec": {"Availability": "active"},
        "Status": {"State": state},
        "Description": {"Hostname": name, "Resources": {"GenericResources": generic}},
    }


def _of_app(app: str) -> Json:
    return {labels.APP_ID: app, labels.SWARM_NAME: f"{app}-0", labels.DAG_ID: "nightly"}


def _task(
    service: str, node: str, generic: list[Json], app: str | None = None, state: str = "running"
) -> Json:
    return {
        "ID": f"task-of-{service}",
        "ServiceID": service,
        "NodeID": f"id-{node}" if node else "",
        "CreatedAt": "2026-11-30T12:00:00Z",
        "DesiredState": "running",
        "Status": {"State": state, "Err": "" if node else "no suitable node"},
        "GenericResources": generic,
        "Spec": {"ContainerSpec": {"Labels": _of_app(app) if app else {}}},
    }


def _service(service: str, app: str | None = None, gpus: int = 0, replicas: int = 1) -> Json:
    given = _of_app(app) if app else {}
    return {
        "ID": service,
        "CreatedAt": "2026-11-30T11:00:00Z",
        "Spec": {
            "Name": service,
            "Labels": given,
            "Mode": {"Replicated": {"Replicas": replicas}},
            "TaskTemplate": {
                "ContainerSpec": {"Labels": given},
                "Resources": {"Reservations": {"GenericResources": _counted(gpus)}},
            },
        },
    }


def _shown(found: SwarmGpus) -> list[tuple[str, str, str, bool]]:
    return [(one.node, one.id, one.holder, one.is_usable) for one in found.gpus]


def test_holders() -> None:
    """A GPU is held by the app, or the service of another program, whose task has its id."""
    nodes = [_node("b", _named("B0")), _node("a", [*_named("A1", "A0"), *_named("S", kind="ssd")])]
    tasks = [
        _task("one", "a", _named("A0"), "train-1"),
        _task("two", "a", [*_named("A1"), *_named("S", kind="ssd")]),
        _task("three", "b", _named("B0"), "train-2", state="complete"),
    ]

    found = SwarmGpus.of(nodes, tasks, [_service("one", "train-1"), _service("two")], "gpu")

    assert [
        ("a", "A0", "train-1-0", True),
        ("a", "A1", "service two", True),
        ("b", "B0", "", True),
    ] == _shown(found)
    assert datetime(2026, 11, 30, 12, tzinfo=UTC) == found.gpus[0].since
    assert "train-1" == found.gpus[0].labels[labels.APP_ID]


def test_counted_gpus() -> None:
    """Of GPUs without ids, those that are held come before those that are free."""
    tasks = [_task("one", "a", _counted(2), "train-1")]

    found = SwarmGpus.of([_node("a", _counted(3))], tasks, [_service("one", "train-1")], "gpu")

    assert [("a", "", "train-1-0", True)] * 2 + [("a", "", "", True)] == _shown(found)


def test_a_node_that_is_away() -> None:
    """Its GPUs are listed, and not usable; an app on it may still use them."""
    nodes = [_node("a", _named("A0", "A1"), state="down")]
    tasks = [_task("one", "a", _named("A0"), "train-1")]

    found = SwarmGpus.of(nodes, tasks, [_service("one", "train-1")], "gpu")

    assert [("a", "A0", "train-1-0", False), ("a", "A1", "", False)] == _shown(found)


def test_waiting_apps() -> None:
    """An app waits with the sum of its replicas that are on no node; a stopped one does not."""
    stopped = _service("three", "gone-3", 4, replicas=0)
    stopped["Spec"]["Labels"] = {**stopped["Spec"]["Labels"], labels.SWARM_MARK: "x.cancelled"}
    services = [
        _service("one", "big-1", 2, replicas=0),
        _service("two", "big-1", 1),
        stopped,
        _service("four", "runs-4", 1),
        _service("five", "cpus-5", 0, replicas=0),
    ]
    tasks = [_task("two", "", [], "big-1", "pending"), _task("four", "a", _named("A0"), "runs-4")]

    found = SwarmGpus.of([_node("a", _named("A0"))], tasks, services, "gpu")

    assert [("big-1", 3)] == [(one.app_id, one.count) for one in found.waiting]
