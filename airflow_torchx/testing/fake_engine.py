"""The Engine protocol in memory."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, Self

from airflow_torchx.core.engine.containers import DISCARDED_PREFIX, NetworkRow
from airflow_torchx.errors import EngineConflictError
from airflow_torchx.testing.calls import unreachable
from airflow_torchx.testing.container import FakeContainer
from airflow_torchx.testing.daemon import FakeDaemon
from airflow_torchx.testing.faults import Fault, Verb
from airflow_torchx.testing.output import NS_PER_S, to_datetime
from airflow_torchx.testing.program import choose
from airflow_torchx.testing.stream import FakeArchive, FakeEvents, FakeStream, LogSnapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

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
    from airflow_torchx.testing.image_verbs import FakeImageVerbs
    from airflow_torchx.testing.images import FakeImage
    from airflow_torchx.testing.output import Message

#: Seconds between two looks of a call that waits.
TICK_S: Final = 0.01


class FakeEngine(FakeDaemon):
    """A Docker daemon in memory that implements `core.engine.protocol.Engine`.

    It has no threads: each call first computes what happened since the last one. ``stop``, followed
    logs and events are the only calls that wait.

    Args:
        images: names of the local images.
        image_details: further local images, as name to result of an inspect; an empty id is
            replaced by a generated one.
        pullable: names of the images that can be pulled.
        published: names of the images for which `images.is_published` is True; they can be pulled
            too. A push adds a name.
        builds: called in place of a build, with the `BuildSpec` and the files of the context by
            path; it may raise. The built image has the files of the context. With None, each build
            fails.
        programs: the behaviour of containers; by default they exit at once with code 0.
        clock: returns seconds since 1970; see `ManualClock`.
        sleep: waits that many seconds on ``clock``.
        engine_info: the result of ``info``; by default, each daemon has another id.
        gpus: the ids of its GPUs, or how many it has: ``gpus=2`` are ``GPU-0`` and ``GPU-1``. Those
            that a container requests are in its detail. Without GPUs, a container that requests
            some cannot start.
        reports_gpus: whether the result of ``info`` has the ids of its GPUs.
        proxy_env: environment variables with the proxies of a docker configuration.
        unique_networks: refuse a second network with the same name, as newer Engines do.
        chunk_bytes: maximum size of the chunks of a log.
        before: called at the start of each call with its verb and the name of the container, image
            or network, or "". It may raise, block, or use the engine like another client.
    """

    @property
    def down(self) -> bool:
        """Whether the daemon is unreachable; can be set. Open logs and events then fail."""
        return self._calls.down

    @down.setter
    def down(self, value: bool) -> None:
        self._calls.down = value

    @property
    def images(self) -> FakeImageVerbs:
        """See `Engine.images`."""
        return self._image_verbs

    def fail_next(
        self, verb: Verb, error: BaseException, *, on: str = "", times: int = 1, after: bool = False
    ) -> None:
        """Make the next calls of a verb fail.

        Args:
            verb: the verb.
            error: the error that it raises.
            on: container name, ``role/replica``, image or network of the call; "" for any.
            times: how many calls fail.
            after: execute the call before it fails, as if the response was lost.
        """
        self._calls.plan(Fault(verb=verb, error=error, on=on, times=times, after=after))

    def end(self, container: str, exit_code: int = 0, *, oom_killed: bool = False) -> None:
        """End the current run of the container with this id, name or ``role/replica``."""
        with self._calls.lock:
            self._containers.settle(self._calls.now_ns())
            found = self._containers.get(container)
            found.end(self._calls.now_ns(), exit_code, oom_killed=oom_killed)

    def terminate(self, container: str, grace_s: float) -> None:
        """Begin to stop a container, as `stop` does, and do not wait for its end."""
        with self._calls.lock:
            self._containers.settle(self._calls.now_ns())
            self._containers.get(container).terminate(self._calls.now_ns(), grace_s)

    def messages(self, container: str) -> list[Message]:
        """Return what a container has written in all its runs."""
        with self._calls.lock:
            now_ns = self._calls.now_ns()
            self._containers.settle(now_ns)
            found = self._containers.get(container)
            return found.log(found.runs, now_ns)

    def specs(self) -> dict[str, ContainerSpec]:
        """Return the specs of the existing containers by name."""
        with self._calls.lock:
            return {container.name: container.spec for container in self._containers}

    def info(self) -> EngineInfo:
        """See `Engine.info`."""
        with self._calls.verb("info"):
            now = to_datetime(self._calls.now_ns())
            return replace(self.engine_info, system_time=now)

    def find_image(self, ref: str) -> str | None:
        """See `Engine.find_image`."""
        with self._calls.verb("find_image", ref):
            found = self._images.find(ref)
            return None if found is None else found.id

    def pull(self, ref: str, on_progress: Callable[[str], None]) -> None:
        """See `Engine.pull`."""
        self.images.pull(ref, on_progress)

    def networks(self, name: str) -> tuple[NetworkRow, ...]:
        """See `Engine.networks`."""
        with self._calls.verb("networks", name):
            return self._networks.named(name)

    def create_network(self, name: str) -> str:
        """See `Engine.create_network`."""
        with self._calls.verb("create_network", name):
            row = NetworkRow(
                id=self._calls.new_id("network"),
                name=name,
                created_at=to_datetime(self._calls.now_ns()),
            )
            self._networks.create(row, unique=self.unique_networks)
            return row.id

    def remove_network(self, network_id: str) -> None:
        """See `Engine.remove_network`."""
        with self._calls.verb("remove_network", network_id):
            now_ns = self._calls.now_ns()
            running = [c for c in self._containers if c.state(now_ns) == "running"]
            self._networks.remove(network_id, (c.spec.network for c in running))

    def create(self, spec: ContainerSpec) -> str:
        """See `Engine.create`; a missing network raises in ``start`` instead."""
        with self._calls.verb("create", spec.name, f"{spec.role}/{spec.replica}"):
            return self._add(spec, self._images.get(spec.image))

    def clone(
        self, container_id: str, *, name: str, labels: Mapping[str, str], env: Mapping[str, str]
    ) -> str:
        """See `Engine.clone`; a missing network raises in ``start`` instead."""
        with self._calls.on("clone", container_id):
            found = self._containers.get(container_id)
            own = {**found.labels, **labels}
            spec = replace(found.spec, name=name, labels=own, env={**found.spec.env, **env})
            return self._add(spec, found.image)

    def _add(self, spec: ContainerSpec, image: FakeImage) -> str:
        now_ns, container_id = self._calls.now_ns(), self._calls.new_id("container")
        created = FakeContainer(container_id, spec, image, choose(self.programs, spec), now_ns)
        self._containers.add(created)
        self._volumes.create_for(spec, to_datetime(now_ns // NS_PER_S * NS_PER_S))
        self._containers.journal.append(created.event("create", now_ns))
        return created.id

    def start(self, container_id: str) -> None:
        """See `Engine.start`."""
        with self._calls.on("start", container_id):
            container = self._containers.get(container_id)
            now_ns, attach = self._calls.now_ns(), self._networks.attach
            container.start(now_ns, attach, has_gpu_driver=self._has_gpu_driver)

    def rename(self, container_id: str, name: str) -> None:
        """See `Engine.rename`."""
        with self._calls.on("rename", container_id):
            renamed = self._containers.rename(container_id, name)
            self._containers.journal.append(renamed.event("rename", self._calls.now_ns()))

    def stop(self, container_id: str, grace_s: float) -> None:
        """See `Engine.stop`."""
        with self._calls.on("stop", container_id) as container:
            if container is None:
                return
            container.terminate(self._calls.now_ns(), grace_s)
            run = container.runs - 1
        while container.is_in_run(run, self._calls.now_ns()):
            if self.down:
                raise unreachable()
            self.sleep(TICK_S)

    def signal(self, container_id: str, name: str) -> None:
        """See `Engine.signal`."""
        with self._calls.on("signal", container_id) as container:
            if container is not None:
                container.signal(self._calls.now_ns(), name)

    def signals(self) -> dict[str, tuple[str, ...]]:
        """Return what `signal` has sent to the existing containers, by name."""
        with self._calls.lock:
            return {one.name: tuple(one.signals) for one in self._containers}

    def sigterms(self) -> dict[str, int]:
        """Return how often `stop` has sent SIGTERM to the existing containers, by name."""
        with self._calls.lock:
            return {one.name: one.sigterms for one in self._containers}

    def remove(self, container_id: str) -> None:
        """See `Engine.remove`."""
        with self._calls.on("remove", container_id) as container:
            if container is not None:
                now_ns = self._calls.now_ns()
                container.kill(now_ns)
                self._containers.settle(now_ns)
                self._containers.remove(container, now_ns)

    def discard(self, container_id: str) -> bool:
        """See `Engine.discard`."""
        with self._calls.on("discard", container_id) as container:
            if container is None:
                return False
            now_ns = self._calls.now_ns()
            if container.is_live(now_ns):
                what = f"cannot discard container {container.name}: it is running."
                fix = f"Stop it first, or remove it: `docker rm --force {container.name}`."
                raise EngineConflictError(what, fix=fix, status=409)
            container.name = f"{DISCARDED_PREFIX}{container.id}"
            self._containers.journal.append(container.event("rename", now_ns))
            self._containers.remove(container, now_ns)
            return True

    def rows(self, labels: Mapping[str, str | None]) -> tuple[ContainerRow, ...]:
        """See `Engine.rows`."""
        with self._calls.verb("rows"):
            now_ns = self._calls.now_ns()
            return tuple(container.row(now_ns) for container in self._containers.labelled(labels))

    def sizes(self, labels: Mapping[str, str | None]) -> dict[str, int]:
        """See `Engine.sizes`; it counts the files of programs."""
        with self._calls.verb("sizes"):
            return {one.id: one.written_bytes for one in self._containers.labelled(labels)}

    def unused_volumes(self, labels: Mapping[str, str | None]) -> tuple[VolumeRow, ...]:
        """See `Engine.unused_volumes`."""
        with self._calls.verb("unused_volumes"):
            return self._volumes.unused(labels, (one.spec for one in self._containers))

    def remove_volume(self, name: str) -> bool:
        """See `Engine.remove_volume`."""
        with self._calls.verb("remove_volume", name):
            return self._volumes.remove(name, (one.spec for one in self._containers))

    def inspect(self, container_id: str) -> ContainerDetail | None:
        """See `Engine.inspect`."""
        with self._calls.on("inspect", container_id) as container:
            return None if container is None else container.detail(self._calls.now_ns())

    def logs(self, container_id: str, query: LogQuery) -> FakeStream:
        """See `Engine.logs`."""
        with self._calls.on("logs", container_id):
            container, outages = self._containers.get(container_id), self._calls.outages
            runs = container.runs
            follow = query.follow and container.is_in_run(runs - 1, self._calls.now_ns())

        def read() -> LogSnapshot:
            with self._calls.lock:
                if self._calls.outages != outages:
                    raise unreachable()
                now_ns = self._calls.now_ns()
                self._containers.settle(now_ns)
                live = follow and container.is_in_run(runs - 1, now_ns)
                return LogSnapshot(container.log(runs, now_ns), live)

        return FakeStream(query, read, lambda: self.sleep(TICK_S), self.chunk_bytes)

    def events(self, *, all_containers: bool = False) -> FakeEvents:
        """See `Engine.events`."""
        with self._calls.verb("events"):
            outages = self._calls.outages

        def read() -> list[ContainerEvent]:
            with self._calls.lock:
                if self._calls.outages != outages:
                    raise unreachable()
                self._containers.settle(self._calls.now_ns())
                return self._containers.journal

        return FakeEvents(read, lambda: self.sleep(TICK_S), all_containers=all_containers)

    def read_file(self, container_id: str, path: str, max_bytes: int) -> bytes:
        """See `Engine.read_file`; files come from images, uploads and programs."""
        with self._calls.on("read_file", container_id):
            return self._containers.get(container_id).read_file(path, max_bytes)

    def archive(self, container_id: str, path: str) -> ByteStream:
        """See `Engine.archive`; the times in it are 0. It is read at once, like a small one."""
        with self._calls.on("archive", container_id):
            content = self._containers.get(container_id).archive(path)
            return FakeArchive(content, self.chunk_bytes)

    def usage(self, container_id: str) -> ContainerUsage | None:
        """See `Engine.usage`; a program uses what it says."""
        with self._calls.on("usage", container_id) as container:
            return None if container is None else container.usage(self._calls.now_ns())

    def execute(
        self, container_id: str, command: Sequence[str], *, timeout_s: float, max_bytes: int
    ) -> Execution:
        """See `Engine.execute`; the programs of a container say what commands do in it."""
        del timeout_s  # a fake command ends at once
        with self._calls.on("execute", container_id):
            container = self._containers.get(container_id)
            ended = container.execute(tuple(command), self._calls.now_ns())
            return replace(ended, output=ended.output[:max_bytes])

    def close(self) -> None:
        """See `Engine.close`; the fake engine stays usable."""
        self.closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
