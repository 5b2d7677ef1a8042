"""A Docker Swarm in memory: the Engine protocol on several nodes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from airflow_torchx.core.swarm.capacity import largest
from airflow_torchx.testing.calls import unreachable
from airflow_torchx.testing.fake_engine import TICK_S
from airflow_torchx.testing.output import NS_PER_S, to_datetime
from airflow_torchx.testing.stream import FakeEvents, FakeStream, LogSnapshot
from airflow_torchx.testing.swarm_state import FakeSwarmState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_torchx.core.engine.containers import (
        ContainerDetail,
        ContainerEvent,
        ContainerRow,
        ContainerSpec,
        EngineInfo,
        LogQuery,
        VolumeRow,
    )
    from airflow_torchx.core.engine.protocol import ByteStream
    from airflow_torchx.core.engine.usage import ContainerUsage, Execution
    from airflow_torchx.core.swarm.gpus import SwarmGpus


_OVER: Final = frozenset({"created", "exited", "dead"})


class FakeSwarm(FakeSwarmState):
    """A Docker Swarm in memory that implements `core.engine.protocol.Engine`.

    Replicas are placed, wait, and are lost as on a real one: it runs the code of `SwarmEngine` on a
    manager in memory. It takes the arguments of `FakeEngine`, except those of GPUs, and these:

    Args:
        nodes: its nodes, or how many it has. The managers answer whatever node is lost.
        swarm: as a connection has it, like constraints for all apps.
    """

    def info(self) -> EngineInfo:
        """See `Engine.info`; it has the largest node that takes replicas."""
        cpus, memory_bytes = largest(self._node_rows())
        return replace(super().info(), cpus=cpus, memory_bytes=memory_bytes)

    def create(self, spec: ContainerSpec) -> str:
        """See `Engine.create`."""
        with self._calls.verb("create", spec.name, f"{spec.role}/{spec.replica}"):
            self._images.get(spec.image)
            service_id = self._engine.create(spec)
            self._specs[service_id] = spec
            self._volumes.create_for(spec, to_datetime(self._now_ns() // NS_PER_S * NS_PER_S))
            return service_id

    def clone(
        self, container_id: str, *, name: str, labels: Mapping[str, str], env: Mapping[str, str]
    ) -> str:
        """See `Engine.clone`."""
        with self._on("clone", container_id) as found:
            made = self._engine.clone(container_id, name=name, labels=labels, env=env)
            old = self._specs[self._manager.find(found, "clone")["ID"]]
            own, more = {**old.labels, **labels}, {**old.env, **env}
            self._specs[made] = replace(old, name=name, labels=own, env=more)
            return made

    def start(self, container_id: str) -> None:
        """See `Engine.start`; a replica that does not fit waits."""
        with self._on("start", container_id) as found:
            self._engine.start(found)

    def place(self, app_id: str) -> str:
        """Start all replicas of an app if they fit, and return why they wait; else empty."""
        with self._calls.verb("place", app_id):
            return self._engine.place(app_id)

    def gpus(self) -> SwarmGpus:
        """Return the GPUs of all nodes, and what holds them."""
        with self._calls.verb("gpus"):
            return self._engine.gpus()

    @property
    def gpu_resource(self) -> str:
        """The name of the generic resource that is a GPU."""
        return self._engine.gpu_resource

    def never_fits(self, specs: Sequence[ContainerSpec]) -> str:
        """Return why replicas do not fit even if nothing runs; empty if they may."""
        with self._calls.verb("never_fits"):
            return self._engine.never_fits(specs)

    def rename(self, container_id: str, name: str) -> None:
        """See `Engine.rename`; a name that says that a replica ends also stops it."""
        with self._on("rename", container_id) as found:
            self._engine.rename(found, name)

    def stop(self, container_id: str, grace_s: float) -> None:
        """See `Engine.stop`; a replica has the grace period of its launch."""
        with self._on("stop", container_id) as found:
            self._engine.stop(found, grace_s)

    def signal(self, container_id: str, name: str) -> None:
        """See `Engine.signal`."""
        with self._on("signal", container_id) as found:
            self._engine.signal(found, name)

    def remove(self, container_id: str) -> None:
        """See `Engine.remove`."""
        with self._on("remove", container_id) as found:
            self._engine.remove(found)

    def discard(self, container_id: str) -> bool:
        """See `Engine.discard`."""
        with self._on("discard", container_id) as found:
            return self._engine.discard(found)

    def rows(self, labels: Mapping[str, str | None]) -> tuple[ContainerRow, ...]:
        """See `Engine.rows`."""
        with self._calls.verb("rows"):
            return self._engine.rows(labels)

    def sizes(self, labels: Mapping[str, str | None]) -> dict[str, int]:
        """Return nothing, as a real swarm."""
        with self._calls.verb("sizes"):
            return dict(self._engine.sizes(labels))

    def unused_volumes(self, labels: Mapping[str, str | None]) -> tuple[VolumeRow, ...]:
        """Return nothing, as a real swarm."""
        with self._calls.verb("unused_volumes"):
            return self._engine.unused_volumes(labels)

    def remove_volume(self, name: str) -> bool:
        """Remove nothing, as a real swarm."""
        with self._calls.verb("remove_volume", name):
            return self._engine.remove_volume(name)

    def inspect(self, container_id: str) -> ContainerDetail | None:
        """See `Engine.inspect`."""
        with self._on("inspect", container_id) as found:
            return self._engine.inspect(found)

    def logs(self, container_id: str, query: LogQuery) -> FakeStream:
        """See `Engine.logs`; the log of a replica on a lost node has nothing more."""
        with self._on("logs", container_id) as found:
            service_id = self._manager.find(found, "read the log")["ID"]
            outages, written = self._calls.outages, self._tasks.log(service_id)

        def read() -> LogSnapshot:
            nonlocal written
            with self._settled():
                if self._calls.outages != outages:
                    raise unreachable()
                live = query.follow and any(
                    one.service_id == service_id and one.state not in _OVER
                    for one in self._replicas()
                )
                # Of one that is removed, or on a node that is lost, what was read is all.
                written = max(written, self._tasks.log(service_id), key=len)
                return LogSnapshot(written, live)

        return FakeStream(query, read, lambda: self.sleep(TICK_S), self.chunk_bytes)

    def events(self, *, all_containers: bool = False) -> FakeEvents:
        """See `Engine.events`; a replica is created when it is started."""
        with self._calls.verb("events"):
            outages = self._calls.outages

        def read() -> list[ContainerEvent]:
            with self._settled():
                if self._calls.outages != outages:
                    raise unreachable()
            return self._journal

        return FakeEvents(read, lambda: self.sleep(TICK_S), all_containers=all_containers)

    def read_file(self, container_id: str, path: str, max_bytes: int) -> bytes:
        """See `Engine.read_file`."""
        with self._on("read_file", container_id) as found:
            return self._engine.read_file(found, path, max_bytes)

    def archive(self, container_id: str, path: str) -> ByteStream:
        """See `Engine.archive`."""
        with self._on("archive", container_id) as found:
            return self._engine.archive(found, path)

    def usage(self, container_id: str) -> ContainerUsage | None:
        """See `Engine.usage`."""
        with self._on("usage", container_id) as found:
            return self._engine.usage(found)

    def execute(
        self, container_id: str, command: Sequence[str], *, timeout_s: float, max_bytes: int
    ) -> Execution:
        """See `Engine.execute`."""
        with self._on("execute", container_id) as found:
            return self._engine.execute(found, command, timeout_s=timeout_s, max_bytes=max_bytes)
