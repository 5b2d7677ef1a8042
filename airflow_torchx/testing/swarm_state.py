"""Configuration and state of a fake swarm, and what a test does to it."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar, cast

from airflow_torchx.core.connection.endpoint import Endpoint
from airflow_torchx.core.connection.swarm import Swarm
from airflow_torchx.core.engine.labels import APP_ID
from airflow_torchx.core.swarm.changes import changes
from airflow_torchx.core.swarm.tasks import Replica, replicas
from airflow_torchx.errors import EngineNotFoundError
from airflow_torchx.swarm_engine import SwarmEngine
from airflow_torchx.swarm_engine.nodes import Nodes
from airflow_torchx.testing.daemon import new_info
from airflow_torchx.testing.fake_engine import FakeEngine
from airflow_torchx.testing.manager import FakeManager
from airflow_torchx.testing.nodes import FakeNode, Host
from airflow_torchx.testing.program import choose
from airflow_torchx.testing.tasks import FakeTasks, labels_of, name_on_node, without_task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from airflow_torchx.core.engine.containers import (
        ContainerEvent,
        ContainerSpec,
        EngineInfo,
    )
    from airflow_torchx.core.engine.images import ImageDetail
    from airflow_torchx.docker_engine.engine import DockerEngine
    from airflow_torchx.testing.faults import Verb

    Json = dict[str, Any]

_T = TypeVar("_T")


def _swarm_info() -> EngineInfo:
    return replace(
        new_info(),
        url="fake://swarm",
        version="28.0.0",
        api_version="1.48",
        is_local=False,
        is_swarm=True,
    )


class _Daemons(Nodes):
    """The daemons of the nodes, as `SwarmEngine` asks for them."""

    def __init__(self, hosts: Mapping[str, Host]) -> None:
        self._hosts = hosts

    def engine_of(self, node_id: str) -> DockerEngine:
        """Return the daemon of a node, which may be down."""
        return cast("DockerEngine", self._hosts[node_id].daemon)

    def close(self) -> None:
        """Close nothing."""


class _Engine(SwarmEngine):
    """The engine of a real swarm, on a manager in memory."""

    def __init__(
        self, manager: FakeManager, swarm: FakeSwarmState, hosts: Mapping[str, Host]
    ) -> None:
        endpoint = Endpoint(swarm=swarm.swarm)
        super().__init__(manager, endpoint, clock=swarm.clock, sleep=swarm.pause)
        self._nodes = _Daemons(hosts)

    def forget(self) -> None:
        """Forget the lists by which apps are placed, as a test's clock may stand still."""
        self._services.changes = object()

    def _pin(self, spec: ContainerSpec) -> str:
        return spec.image

    def _login(self, image: str) -> dict[str, str]:
        del image
        return {}


@dataclass(kw_only=True, eq=False)
class FakeSwarmState(FakeEngine):
    """Configuration and state of a `FakeSwarm`, which documents the arguments."""

    nodes: int | Sequence[FakeNode] = 3
    swarm: Swarm = field(default_factory=Swarm)
    engine_info: EngineInfo = field(default_factory=_swarm_info)

    def __post_init__(
        self,
        images: Iterable[str],
        image_details: Mapping[str, ImageDetail] | None,
        gpus: int | Sequence[str],
        reports_gpus: bool,
    ) -> None:
        if gpus:
            raise ValueError('give GPUs to nodes, like FakeSwarm(nodes=[FakeNode("box1", gpus=2)])')
        super().__post_init__(images, image_details, gpus, reports_gpus)
        self._specs: dict[str, ContainerSpec] = {}
        self._seen: dict[str, Replica] = {}
        self._journal: list[ContainerEvent] = []
        self._hosts = {host.id: host for host in map(self._host, self._named_nodes())}
        self._tasks = FakeTasks(self._hosts, self._node_rows, self._spec_of, self._now_ns)
        self._manager = FakeManager(
            self._tasks,
            self._node_rows,
            lambda name: len(self._networks.named(name)),
            self._calls.new_id,
            self._now_ns,
            self._observe,
        )
        self._engine = _Engine(self._manager, self, self._hosts)

    def lose(self, node: str) -> None:
        """Let a node not answer any more; what runs on it runs on, and is given up."""
        with self._settled():
            host = self._named(node)
            host.daemon.down = True
            self._tasks.lose(host)
            self._engine.forget()

    def drain(self, node: str) -> None:
        """Stop what runs on a node, which takes no more replicas."""
        with self._settled():
            host = self._named(node)
            host.is_drained = True
            if not host.is_lost:
                self._tasks.drain(host)
            self._engine.forget()

    def bring_back(self, node: str) -> None:
        """Let a node that was lost or drained take replicas again; it stops what was given up."""
        with self._settled():
            host = self._named(node)
            host.daemon.down = host.is_drained = False
            self._tasks.stop_on(host)
            self._engine.forget()

    def placed(self) -> dict[str, str]:
        """Return the node of each replica that was placed, by the name of its container."""
        with self._settled():
            return {
                one.name: self._hosts[one.node_id].node.name
                for one in self._replicas()
                if one.node_id
            }

    def gpus_of(self, container: str) -> tuple[str, ...]:
        """Return the ids of the GPUs of the replica with this id, name or ``role/replica``."""
        with self._settled():
            return self._tasks.gpus(self._task(container))

    def pause(self, seconds: float) -> None:
        """Sleep, and let other threads use the swarm meanwhile."""
        with self._calls.unlocked():
            self.sleep(seconds)

    def end(self, container: str, exit_code: int = 0, *, oom_killed: bool = False) -> None:
        """End the replica with this id, name or ``role/replica``."""
        with self._settled():
            task = self._task(container)
            host = self._hosts[task["NodeID"]]
            found = task["Status"]["ContainerStatus"]["ContainerID"]
            host.daemon.end(found, exit_code, oom_killed=oom_killed)

    def specs(self) -> dict[str, ContainerSpec]:
        """Return the specs of the existing containers by name."""
        with self._settled():
            return {one.name: self._specs[one.service_id] for one in self._replicas()}

    def signals(self) -> dict[str, tuple[str, ...]]:
        """Return what `signal` has sent to the containers that were started, by name."""
        return self._of_daemons(FakeEngine.signals)

    def sigterms(self) -> dict[str, int]:
        """Return how often SIGTERM was sent to the containers that were started, by name."""
        return self._of_daemons(FakeEngine.sigterms)

    @contextmanager
    def _on(self, verb: Verb, ref: str) -> Iterator[str]:
        """Record a call on a container, and yield how the manager finds it."""
        with self._calls.lock:
            found = self._find(ref)
        if found is None:
            with self._calls.verb(verb, ref):
                yield ref
            return
        spec = self._specs[found.service_id]
        replica = f"{spec.role}/{spec.replica}"
        with self._calls.verb(verb, found.name, replica, found.service_id):
            yield found.service_id if ref == replica else ref

    @contextmanager
    def _settled(self) -> Iterator[None]:
        """Hold the lock, with what happened before and what the block changes recorded."""
        with self._calls.lock:
            self._manager.settle()
            yield
            self._manager.settle()

    def _observe(self) -> None:
        """Record the events since the last time."""
        tasks = [one for one in self._tasks.snapshot() if APP_ID in labels_of(one)]
        before, self._seen = self._seen, {one.service_id: one for one in replicas(tasks)}
        if found := list(changes(before, self._seen, self._now_ns())):
            self._journal += found
            self._engine.forget()

    def _replicas(self) -> list[Replica]:
        down = {host.id for host in self._hosts.values() if host.is_lost}
        services = [
            self._manager.services[one] for one in self._specs if one in self._manager.services
        ]
        tasks = [
            task
            for task in self._tasks.rows.values()
            if task["ServiceID"] in self._manager.services
        ]
        return replicas(tasks, services, down)

    def _find(self, ref: str) -> Replica | None:
        """Return the newest replica with this id, name or ``role/replica``; None if none has."""
        for one in reversed(self._replicas()):
            spec = self._specs[one.service_id]
            if ref in (one.service_id, one.name, f"{spec.role}/{spec.replica}"):
                return one
        return None

    def _task(self, ref: str) -> Json:
        found = self._find(ref)
        if found is None or found.task is None or not found.node_id:
            what = f"container {ref} does not run."
            raise EngineNotFoundError(what, fix="Start it first.", status=404)
        return self._tasks.rows[found.task["ID"]]

    def _of_daemons(self, ask: Callable[[FakeEngine], Mapping[str, _T]]) -> dict[str, _T]:
        with self._settled():
            found = {
                name: value
                for host in self._hosts.values()
                for name, value in ask(host.daemon).items()
            }
            names = {
                name_on_node(self._specs[one.service_id], one.task): one.name
                for one in self._replicas()
                if one.task and one.node_id
            }
            return {names[name]: value for name, value in found.items() if name in names}

    def _spec_of(self, service_id: str) -> ContainerSpec:
        return self._specs[service_id]

    def _node_rows(self) -> list[Json]:
        kind, version = self.swarm.gpu_resource, self.engine_info.version
        return [
            host.json(number, kind, version) for number, host in enumerate(self._hosts.values())
        ]

    def _named_nodes(self) -> Sequence[FakeNode]:
        if isinstance(self.nodes, int):
            return [FakeNode(f"box{number}") for number in range(1, self.nodes + 1)]
        return self.nodes

    def _named(self, node: str) -> Host:
        found = next((one for one in self._hosts.values() if one.node.name == node), None)
        if found is None:
            names = ", ".join(one.node.name for one in self._hosts.values())
            raise ValueError(f"the swarm has no node {node!r}, only {names}")
        return found

    def _host(self, node: FakeNode) -> Host:
        daemon = FakeEngine(
            clock=self.clock,
            sleep=self.sleep,
            gpus=node.gpu_ids,
            programs=lambda spec: choose(self.programs, without_task(spec)),
        )
        daemon.share(images=self._images, networks=self._networks, volumes=self._volumes)
        return Host(node, self._calls.new_id("node")[:25], daemon)
