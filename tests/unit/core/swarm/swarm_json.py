"""Nodes and tasks of a swarm, as its API has them."""

from __future__ import annotations

from typing import Any, Final

Json = dict[str, Any]

MIB: Final = 1 << 20


def node(name: str, *, cpus: int = 4, gpus: int = 0, **more: Any) -> Json:  # noqa: ANN401
    """Return a node; ``more`` are fields of it, and its labels."""
    generic = [{"NamedResourceSpec": {"Kind": "gpu", "Value": f"{name}-{i}"}} for i in range(gpus)]
    return {
        "ID": f"id-{name}",
        "Spec": {"Availability": "active", "Role": "worker", "Labels": more.pop("labels", {})},
        "Status": {"State": "ready"},
        "Description": {
            "Hostname": name,
            "Platform": {"OS": "linux", "Architecture": "x86_64"},
            "Engine": {"EngineVersion": "29.7.2", "Labels": {"disk": "ssd"}},
            "Resources": {
                "NanoCPUs": cpus * 10**9,
                "MemoryBytes": 1024 * MIB,
                "GenericResources": generic,
            },
        },
        **more,
    }


def task(name: str, *, cpus: float = 0, gpus: int = 0, state: str = "running") -> Json:
    """Return a task on a node that reserves so much."""
    generic = [{"DiscreteResourceSpec": {"Kind": "gpu", "Value": gpus}}]
    reserved = {"NanoCPUs": int(cpus * 10**9), "GenericResources": generic if gpus else None}
    return {
        "NodeID": f"id-{name}",
        "Status": {"State": state},
        "Spec": {"Resources": {"Reservations": reserved}},
    }
