"""The nodes of a fake swarm: what they have, and the containers that run on them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from airflow_torchx.errors import EngineError
from airflow_torchx.testing.output import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_torchx.core.engine.containers import ContainerSpec
    from airflow_torchx.testing.fake_engine import FakeEngine
    from airflow_torchx.testing.output import Message

    Json = dict[str, Any]

#: What a container that could not be started ends with.
_NOT_STARTED: Final = 127
_LIVE: Final = frozenset({"running", "restarting"})


@dataclass(frozen=True, slots=True)
class FakeNode:
    """What one node of a `FakeSwarm` has.

    Args:
        name: its host name.
        cpus: how many CPUs it has.
        memory_mib: its memory, in MiB.
        gpus: the ids of its GPUs, or how many it has.
        labels: for constraints, like ``node.labels.gpu==a100``.
    """

    name: str
    cpus: float = field(default=64.0, kw_only=True)
    memory_mib: int = field(default=256 * 1024, kw_only=True)
    gpus: int | Sequence[str] = field(default=0, kw_only=True)
    labels: Mapping[str, str] = field(default_factory=dict, kw_only=True)

    @property
    def gpu_ids(self) -> tuple[str, ...]:
        """The ids of its GPUs, like ``box1-GPU-0``."""
        if isinstance(self.gpus, int):
            return tuple(f"{self.name}-GPU-{index}" for index in range(self.gpus))
        return tuple(self.gpus)


class Host:
    """A node with its daemon.

    Args:
        node: what it has.
        node_id: its id in the swarm.
        daemon: runs its containers.
    """

    def __init__(self, node: FakeNode, node_id: str, daemon: FakeEngine) -> None:
        self.node = node
        self.id = node_id
        self.daemon = daemon
        self.is_drained = False

    @property
    def is_lost(self) -> bool:
        """Whether it does not answer."""
        return self.daemon.down

    def json(self, number: int, gpu_resource: str, version: str) -> Json:
        """Return it as a manager does; the first one is the manager."""
        gpus = [
            {"NamedResourceSpec": {"Kind": gpu_resource, "Value": one}} for one in self.node.gpu_ids
        ]
        resources = {
            "NanoCPUs": round(self.node.cpus * NS_PER_S),
            "MemoryBytes": self.node.memory_mib << 20,
            "GenericResources": gpus,
        }
        return {
            "ID": self.id,
            "Spec": {
                "Role": "worker" if number else "manager",
                "Availability": "drain" if self.is_drained else "active",
                "Labels": dict(self.node.labels),
            },
            "Description": {
                "Hostname": self.node.name,
                "Platform": {"OS": "linux", "Architecture": "x86_64"},
                "Resources": resources,
                "Engine": {"EngineVersion": version},
            },
            "Status": {"State": "down" if self.is_lost else "ready", "Addr": self.node.name},
            **({} if number else {"ManagerStatus": {"Leader": True, "Reachability": "reachable"}}),
        }

    def run(self, spec: ContainerSpec) -> tuple[str, str]:
        """Create and start a container; return its id, and why it did not start."""
        # A swarm restarts none of our replicas.
        container_id = self.daemon.create(replace(spec, max_restarts=0))
        try:
            self.daemon.start(container_id)
        except EngineError as error:
            return container_id, error.what
        return container_id, ""

    def status(self, container_id: str) -> tuple[int | None, str]:
        """Return the exit code of a container, None while it runs, and when it ended."""
        found = self.daemon.inspect(container_id)
        if found is None or found.state in _LIVE:
            return None, ""
        at = "" if found.finished_at is None else found.finished_at.isoformat()
        return (_NOT_STARTED if found.exit_code is None else found.exit_code), at

    def log(self, container_id: str) -> list[Message]:
        """Return what a container has written; nothing while the node is lost."""
        return [] if self.is_lost else self.daemon.messages(container_id)
