"""The Engine protocol in memory."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self

from airflow_torchx.core.containers import EngineInfo, NetworkRow
from airflow_torchx.errors import EngineNotFoundError, EngineUnreachableError
from airflow_torchx.testing.container import FakeContainer
from airflow_torchx.testing.containers import FakeContainers
from airflow_torchx.testing.faults import Fault, Faults, Verb
from airflow_torchx.testing.images import FakeImages
from airflow_torchx.testing.networks import FakeNetworks
from airflow_torchx.testing.output import NS_PER_S, moment
from airflow_torchx.testing.program import Program, Programs, choose
from airflow_torchx.testing.stream import FakeStream, Look

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from types import TracebackType

    from airflow_torchx.core.containers import (
        ContainerDetail,
        ContainerRow,
        ContainerSpec,
        LogQuery,
    )

_TICK_S: Final = 0.01
_INFO: Final = EngineInfo(
    id="FAKE:ENGINE",
    url="fake://engine",
    is_local=True,
    version="20.10.24",
    api_version="1.41",
    os="Debian GNU/Linux 12 (bookworm)",
    cpus=64,
    memory_bytes=256 * 1024**3,
)


@dataclass(kw_only=True, eq=False)
class FakeEngine:
    """A Docker daemon in memory, which keeps the promises of `airflow_torchx.engine.Engine`.

    It has no threads: what would have happened meanwhile is worked out at every call. Only ``stop``
    and followed logs wait.

    Args:
        images: names of the images that it holds.
        pullable: names of the images that it can pull.
        programs: what containers do; by default they end with 0 at once.
        clock: returns seconds since 1970; see `ManualClock`.
        sleep: waits that many seconds on ``clock``.
        engine_info: what ``info`` returns.
        unique_networks: refuse a second network of one name, as newer Engines do.
        chunk_bytes: size of the chunks of logs at most.
        before: called at the start of every call with its verb and the container's name (or the
            image, or the network; empty if none): raise in it, block in it, or use the engine in
            it, as somebody else would at that moment.
    """

    images: Iterable[str] = ()
    pullable: Iterable[str] = ()
    programs: Programs = field(default_factory=Program)
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    engine_info: EngineInfo = _INFO
    unique_networks: bool = True
    chunk_bytes: int = 4096
    before: Callable[[Verb, str], object] | None = None
    #: The verbs that were called, in their order: what would have been Engine API calls.
    calls: list[Verb] = field(default_factory=list, init=False)
    closed: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self._lock = threading.RLock()
        self._images = FakeImages(self.images, self.pullable)
        self._containers = FakeContainers()
        self._networks = FakeNetworks.built_in(moment(self._now_ns()))
        self._faults = Faults()
        self._numbers = itertools.count(1)
        self._down = False
        self._outages = 0

    @property
    def down(self) -> bool:
        """Whether nobody answers; set it. Logs that are being read break off."""
        return self._down

    @down.setter
    def down(self, value: bool) -> None:
        with self._lock:
            self._outages += value
            self._down = value

    def fail_next(
        self, verb: Verb, error: BaseException, *, on: str = "", times: int = 1, after: bool = False
    ) -> None:
        """Make the next calls of a verb fail.

        Args:
            verb: the verb.
            error: what it raises.
            on: only for this container name, ``role/replica``, image or network; empty for any.
            times: how many calls.
            after: do what was asked before failing, as if only the answer was lost.
        """
        with self._lock:
            fault = Fault(verb=verb, error=error, on=on, times=times, after=after)
            self._faults.plan(fault)

    def end(self, container: str, exit_code: int = 0, *, oom_killed: bool = False) -> None:
        """End the current run of a container, given its id, name or ``role/replica``."""
        with self._lock:
            self._containers.settle(self._now_ns())
            found = self._containers.get(container)
            found.end(self._now_ns(), exit_code, oom_killed=oom_killed)

    def specs(self) -> dict[str, ContainerSpec]:
        """Return what the containers that are there were created from, by their names."""
        with self._lock:
            return {container.name: container.spec for container in self._containers}

    def info(self) -> EngineInfo:
        """See `Engine.info`."""
        with self._verb("info"):
            return self.engine_info

    def find_image(self, ref: str) -> str | None:
        """See `Engine.find_image`."""
        with self._verb("find_image", ref):
            return self._images.find(ref)

    def pull(self, ref: str, on_progress: Callable[[str], None]) -> None:
        """See `Engine.pull`."""
        with self._verb("pull", ref):
            self._images.pull(ref)
        on_progress(f"pulled {ref}")

    def networks(self, name: str) -> tuple[NetworkRow, ...]:
        """See `Engine.networks`."""
        with self._verb("networks", name):
            return self._networks.named(name)

    def create_network(self, name: str) -> str:
        """See `Engine.create_network`."""
        with self._verb("create_network", name):
            row = NetworkRow(
                id=self._new_id("network"), name=name, created_at=moment(self._now_ns())
            )
            self._networks.create(row, unique=self.unique_networks)
            return row.id

    def remove_network(self, network_id: str) -> None:
        """See `Engine.remove_network`."""
        with self._verb("remove_network", network_id):
            now_ns = self._now_ns()
            running = [c for c in self._containers if c.state(now_ns) == "running"]
            self._networks.remove(network_id, (c.spec.network for c in running))

    def create(self, spec: ContainerSpec) -> str:
        """See `Engine.create`; a missing network is found out by ``start``."""
        with self._verb("create", spec.name, f"{spec.role}/{spec.replica}"):
            if self._images.find(spec.image) is None:
                what = f"cannot create container {spec.name}: no such image: {spec.image}."
                raise EngineNotFoundError(what, fix="Pull or build it first.", status=404)
            programs = choose(self.programs, spec)
            created = FakeContainer(self._new_id("container"), spec, programs, self._now_ns())
            self._containers.add(created)
            return created.id

    def start(self, container_id: str) -> None:
        """See `Engine.start`."""
        with self._on("start", container_id):
            container = self._containers.get(container_id)
            container.start(self._now_ns(), self._networks.attach)

    def rename(self, container_id: str, name: str) -> None:
        """See `Engine.rename`."""
        with self._on("rename", container_id):
            self._containers.rename(container_id, name)

    def stop(self, container_id: str, grace_s: float) -> None:
        """See `Engine.stop`."""
        with self._on("stop", container_id) as container:
            if container is None:
                return
            container.terminate(self._now_ns(), grace_s)
            run = container.runs - 1
        while container.runs_on(run, self._now_ns()):
            if self._down:
                raise _no_answer()
            self.sleep(_TICK_S)

    def remove(self, container_id: str) -> None:
        """See `Engine.remove`."""
        with self._on("remove", container_id) as container:
            if container is not None:
                container.kill(self._now_ns())
                self._containers.remove(container)

    def rows(self, labels: Mapping[str, str | None]) -> tuple[ContainerRow, ...]:
        """See `Engine.rows`."""
        with self._verb("rows"):
            now_ns = self._now_ns()
            return tuple(container.row(now_ns) for container in self._containers.labelled(labels))

    def inspect(self, container_id: str) -> ContainerDetail | None:
        """See `Engine.inspect`."""
        with self._on("inspect", container_id) as container:
            return None if container is None else container.detail(self._now_ns())

    def logs(self, container_id: str, query: LogQuery) -> FakeStream:
        """See `Engine.logs`."""
        with self._on("logs", container_id):
            container, outages = self._containers.get(container_id), self._outages
            runs = container.runs
            follow = query.follow and container.runs_on(runs - 1, self._now_ns())

        def look() -> Look:
            with self._lock:
                if self._outages != outages:
                    raise _no_answer()
                now_ns = self._now_ns()
                self._containers.settle(now_ns)
                live = follow and container.runs_on(runs - 1, now_ns)
                return Look(container.log(runs, now_ns), live)

        return FakeStream(query, look, lambda: self.sleep(_TICK_S), self.chunk_bytes)

    def read_file(self, container_id: str, path: str, max_bytes: int) -> bytes:
        """See `Engine.read_file`: files are those that programs left."""
        with self._on("read_file", container_id):
            return self._containers.get(container_id).read_file(path, max_bytes)

    def close(self) -> None:
        """See `Engine.close`; the fake goes on answering."""
        self.closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()

    @contextlib.contextmanager
    def _on(self, verb: Verb, container_id: str) -> Iterator[FakeContainer | None]:
        """Begin a verb on a container; it may be gone."""
        with self._lock:
            known = self._containers.find(container_id)
        names = (container_id,) if known is None else (known.name, known.place, known.id)
        with self._verb(verb, *names):
            yield self._containers.find(container_id)

    @contextlib.contextmanager
    def _verb(self, verb: Verb, *names: str) -> Iterator[None]:
        """Count a call, let planned faults happen, and hold the lock meanwhile."""
        self.calls.append(verb)
        if self.before is not None:
            self.before(verb, names[0] if names else "")
        with self._lock:
            if self._down:
                raise _no_answer()
            self._containers.settle(self._now_ns())
            fault = self._faults.take(verb, names)
            if fault is not None and not fault.after:
                raise fault.error
            yield
            if fault is not None:
                raise fault.error

    def _new_id(self, kind: str) -> str:
        return hashlib.sha256(f"{kind} {next(self._numbers)}".encode()).hexdigest()

    def _now_ns(self) -> int:
        return round(self.clock() * NS_PER_S)


def _no_answer() -> EngineUnreachableError:
    return EngineUnreachableError("no Docker Engine answers: the fake one is down.", fix="Wait.")
