"""The Engine protocol on a Docker Swarm: a container is a service with one task.

What a manager cannot do, because a container is on another node, the daemon of that node does. So
files, usage and commands need a way to each node; the life of a replica does not.
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeVar

from airflow_torchx.core.connection.swarm import Swarm
from airflow_torchx.core.engine.containers import EngineInfo
from airflow_torchx.core.engine.labels import LAUNCH_ID
from airflow_torchx.core.swarm.capacity import largest, oldest_manager
from airflow_torchx.core.swarm.gpus import SwarmGpus
from airflow_torchx.core.swarm.service_spec import cloned, service_json
from airflow_torchx.docker_engine.engine import DockerEngine
from airflow_torchx.docker_engine.spec import log_params
from airflow_torchx.docker_engine.stream import LogStream
from airflow_torchx.errors import (
    EngineError,
    EngineNotFoundError,
)
from airflow_torchx.swarm_engine import networks
from airflow_torchx.swarm_engine.events import SwarmEvents
from airflow_torchx.swarm_engine.logs import Endings, NoLog, TaskLog, Until
from airflow_torchx.swarm_engine.managers import Managers
from airflow_torchx.swarm_engine.nodes import Nodes
from airflow_torchx.swarm_engine.pinning import (
    FailedPulls,
    Pins,
    login_headers,
    pinned,
    published,
)
from airflow_torchx.swarm_engine.placing import Placing
from airflow_torchx.swarm_engine.services import Services, name_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow_torchx.core.connection.endpoint import Endpoint
    from airflow_torchx.core.engine.containers import (
        ContainerDetail,
        ContainerRow,
        ContainerSpec,
        LogQuery,
        NetworkRow,
        VolumeRow,
    )
    from airflow_torchx.core.engine.images import RegistryLogin
    from airflow_torchx.core.engine.protocol import ByteStream
    from airflow_torchx.core.engine.usage import ContainerUsage, Execution
    from airflow_torchx.core.swarm.tasks import Replica
    from airflow_torchx.docker_engine.images import DockerImages

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

Json = dict[str, Any]


class SwarmEngine:
    """A Docker Swarm as an `Engine`; use `connect` to create one.

    Args:
        managers: the managers of the swarm.
        endpoint: how they are reached, and the swarm.
        logins: for pulls and pushes.
        clock: returns seconds that never decrease.
        sleep: waits that many seconds on ``clock``.
    """

    def __init__(
        self,
        managers: Managers,
        endpoint: Endpoint,
        logins: Sequence[RegistryLogin] = (),
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._managers = managers
        self._endpoint = endpoint
        self._swarm = endpoint.swarm or Swarm()
        self._logins = tuple(logins)
        self._services = Services(managers, clock, sleep)
        self._placing = Placing(self._services)
        self._endings = Endings(self._services.live, lambda: self._managers.unanswered)
        self._pins = Pins(self._resolved)
        self._pulls = FailedPulls(self._published)
        self._nodes = Nodes(self._services.node, lambda: managers.engine, self._swarm)
        self._events: SwarmEvents | None = None

    @classmethod
    def connect(cls, endpoint: Endpoint, logins: Sequence[RegistryLogin] = ()) -> Self:
        """Connect to the first manager that answers, and return the swarm.

        Args:
            endpoint: a manager, and the swarm.
            logins: for pulls and pushes; for other registries, those of the docker CLI are used.

        Raises:
            EngineUnreachableError: no manager answers, or the daemon is not one.
        """
        swarm = endpoint.swarm or Swarm()
        urls = dict.fromkeys((endpoint.url, *swarm.managers))
        connects = [
            partial(DockerEngine.connect, replace(endpoint, url=url), logins) for url in urls
        ]
        made = cls(Managers(connects), endpoint, logins)
        try:
            found = made._managers.json("GET", "/swarm", "connect to the swarm")
        except EngineError:
            made.close()
            raise
        made._managers.expect(found["ID"])
        return made

    @property
    def endpoint(self) -> Endpoint:
        """Return how the swarm is reached."""
        return self._endpoint

    @property
    def images(self) -> DockerImages:
        """Return the images of the manager, which builds and pushes; nodes pull from a registry."""
        return self._managers.engine.images

    @property
    def proxy_env(self) -> Mapping[str, str]:
        """Return the environment variables for the proxies of the docker configuration."""
        return self._managers.engine.proxy_env

    def info(self) -> EngineInfo:
        """Describe the swarm: id, and the largest node that takes replicas."""
        manager = self._managers.engine.info()
        swarm = self._managers.json("GET", "/swarm", "describe the swarm")
        nodes = self._services.nodes()
        cpus, memory_bytes = largest(nodes)
        return EngineInfo(
            id=swarm["ID"],
            url=manager.url,
            is_local=False,
            is_swarm=True,
            version=oldest_manager(nodes) or manager.version,
            api_version=manager.api_version,
            os=manager.os,
            cpus=cpus,
            memory_bytes=memory_bytes,
            host=manager.host,
            system_time=manager.system_time,
        )

    def find_image(self, ref: str) -> str | None:
        """Return what a service of this image is made of; None if no place has the image."""
        try:
            return self._pins.find(ref)
        except EngineNotFoundError:
            return None

    def pull(self, ref: str, on_progress: Callable[[str], None]) -> None:
        """Ask the registry which image this is; the nodes pull it when a replica starts there."""
        image = self._published(ref)
        self._pins.put(ref, image)
        on_progress(f"is {image}; each node pulls it")

    def networks(self, name: str) -> tuple[NetworkRow, ...]:
        """Return the networks of the whole swarm with exactly this name."""
        return networks.named(self._managers, name)

    def create_network(self, name: str) -> str:
        """Create an overlay network and return its id."""
        return networks.create(self._managers, name, self._swarm)

    def remove_network(self, network_id: str) -> None:
        """Remove a network by id, if it still exists."""
        networks.remove(self._managers, network_id)

    def create(self, spec: ContainerSpec) -> str:
        """Create a service that does not run yet, and return its id."""
        body = service_json(spec, self._swarm)
        body["TaskTemplate"]["ContainerSpec"]["Image"] = image = self._pin(spec)
        return self._services.create(body, spec.name, self._login(image))

    def clone(
        self, container_id: str, *, name: str, labels: Mapping[str, str], env: Mapping[str, str]
    ) -> str:
        """Create a service like another one, and return its id."""
        spec = self._services.find(container_id)["Spec"]
        body = cloned(spec, self._swarm, name=name, labels=labels, env=env)
        image = body["TaskTemplate"]["ContainerSpec"]["Image"]
        return self._services.create(body, name, self._login(image))

    def start(self, container_id: str) -> None:
        """Start the replica of a service; do nothing if it was started."""
        self._services.start(container_id)

    def place(self, app_id: str) -> str:
        """Start all replicas of an app if they fit, and return why they wait; see `Placing`."""
        return self._placing.place(app_id)

    def gpus(self) -> SwarmGpus:
        """Return the GPUs of all nodes, what holds them, and the apps that wait for some."""
        found = self._services
        return SwarmGpus.of(found.nodes(), found.tasks({}), found.every(), self.gpu_resource)

    @property
    def gpu_resource(self) -> str:
        """The name of the generic resource that is a GPU."""
        return self._swarm.gpu_resource

    def never_fits(self, specs: Sequence[ContainerSpec]) -> str:
        """Return why replicas do not fit even if nothing runs; empty if they may."""
        return self._placing.never_fits(specs, self._swarm)

    def rename(self, container_id: str, name: str) -> None:
        """Give a container another name; one that says that it ends also stops its replica."""
        self._services.rename(container_id, name)

    def stop(self, container_id: str, grace_s: float) -> None:
        """Stop a replica and wait for its end; it has the grace period of its launch.

        A swarm takes no other one, so ``grace_s`` is not used.
        """
        del grace_s
        with suppress(EngineNotFoundError):
            self._services.stop(container_id)

    def signal(self, container_id: str, name: str) -> None:
        """Send a signal to the container of a replica, through the daemon of its node."""
        with suppress(EngineNotFoundError):
            self._on_node(container_id, lambda engine, found: engine.signal(found, name))

    def remove(self, container_id: str) -> None:
        """Remove a service, and wait until its container is gone.

        A replica that runs has the grace period of its launch: a swarm kills none at once.
        """
        with suppress(EngineNotFoundError):
            self._services.remove(container_id)

    def discard(self, container_id: str) -> bool:
        """Remove a service whose replica does not run, and return whether this call did."""
        return self._services.discard(container_id)

    def rows(self, labels: Mapping[str, str | None]) -> tuple[ContainerRow, ...]:
        """Return the containers that have all these labels; see `Services.replicas`."""
        found = self._services.replicas(labels)
        names = self._services.node_names({one.node_id for one in found if one.node_id})
        return tuple(one.row(names.get(one.node_id, "")) for one in found)

    def sizes(self, labels: Mapping[str, str | None]) -> Mapping[str, int]:
        """Return nothing: a manager does not know what containers on other nodes have written."""
        del labels
        return {}

    def unused_volumes(self, labels: Mapping[str, str | None]) -> tuple[VolumeRow, ...]:
        """Return nothing: volumes are of nodes, not of the swarm."""
        del labels
        return ()

    def remove_volume(self, name: str) -> bool:
        """Remove nothing; see `unused_volumes`."""
        del name
        return False

    def inspect(self, container_id: str) -> ContainerDetail | None:
        """Return what is known of a replica; None if its service does not exist.

        The daemon of its node, if that answers, adds when it started and ended, and whether it ran
        out of memory, which a manager does not know.
        """
        try:
            found = self._services.replica(container_id)
        except EngineNotFoundError:
            return None
        if found.state == "dead":
            detail = found.detail(self._services.node_name(found.node_id))
            return replace(detail, error=self._pulls.explained(detail.error))
        detail = found.detail()
        with suppress(EngineError):
            on_node = self._nodes.ask(found, lambda engine, one: engine.inspect(one))
            if on_node is not None:
                return replace(
                    detail,
                    oom_killed=on_node.oom_killed,
                    started_at=on_node.started_at,
                    finished_at=on_node.finished_at,
                )
        return detail

    def logs(self, container_id: str, query: LogQuery) -> ByteStream:
        """Open the log of a replica, through the manager; empty while its node does not answer."""
        service = self._services.find(container_id)
        what = f"read the log of {name_of(service)}"
        if node := self._services.node_that_is_down(service):
            # The manager would wait for it: a reader hung until its timeout, 25 s (measured).
            _log.warning("cannot %s: node %s does not answer", what, node)
            return NoLog()
        path = f"/services/{service['ID']}/logs"
        until = query.until_ns and Until(query.until_ns, timestamps=query.timestamps)
        params = log_params(replace(query, timestamps=True) if until else query)
        headers = {"Accept-Encoding": "identity"}
        options: Json = {"params": params, "headers": headers, "stream": True}
        response = self._managers.send("GET", path, what, **options)
        url = str(self._managers.engine.endpoint.url)
        stream = LogStream(response.raw, what=what, url=url, follow=query.follow)
        return TaskLog(
            stream, service["ID"], self._endings if query.follow else None, until or None
        )

    def events(self, *, all_containers: bool = False) -> SwarmEvents:
        """Follow the changes of the containers of all apps, from now on."""
        del all_containers
        self._events = made = SwarmEvents(self._managers, self._services)
        return made

    def read_file(self, container_id: str, path: str, max_bytes: int) -> bytes:
        """Read one regular file of a container, through the daemon of its node."""
        found = self._seen(container_id)
        return self._nodes.ask(found, lambda engine, one: engine.read_file(one, path, max_bytes))

    def archive(self, container_id: str, path: str) -> ByteStream:
        """Open a tar of a file or a folder, through the daemon of its node."""
        return self._on_node(container_id, lambda engine, found: engine.archive(found, path))

    def usage(self, container_id: str) -> ContainerUsage | None:
        """Return what a container uses, through the daemon of its node; None if it is on none."""
        with suppress(EngineNotFoundError):
            return self._nodes.ask(self._seen(container_id), lambda engine, one: engine.usage(one))
        return None

    def execute(
        self, container_id: str, command: Sequence[str], *, timeout_s: float, max_bytes: int
    ) -> Execution:
        """Run a command in a container, through the daemon of its node."""
        return self._on_node(
            container_id,
            lambda engine, found: engine.execute(
                found, command, timeout_s=timeout_s, max_bytes=max_bytes
            ),
        )

    def close(self) -> None:
        """Close all connections. Idempotent."""
        self._endings.close()
        self._nodes.close()
        self._managers.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _published(self, ref: str) -> str:
        return self._managers.ask(lambda one: published(one, ref, self._logins))

    def _pin(self, spec: ContainerSpec) -> str:
        """Return the image of a replica by its digest or its id; see `Pins.of`."""
        return self._pins.of(spec.image, spec.labels.get(LAUNCH_ID, ""))

    def _resolved(self, ref: str) -> str:
        return self._managers.ask(lambda one: pinned(one, ref, self._logins))

    def _login(self, image: str) -> dict[str, str]:
        return login_headers(image, self._logins)

    def _on_node(self, container_id: str, question: Callable[[DockerEngine, str], _T]) -> _T:
        """Ask the daemon of the node of a container.

        Raises:
            EngineNotFoundError: it has not been placed on a node.
            NodeUnreachableError: the daemon of its node does not answer.
        """
        return self._nodes.ask(self._services.replica(container_id), question)

    def _seen(self, container_id: str) -> Replica:
        """Return a replica; one that runs as the events of this engine have shown it last.

        What is read from it again and again would take two requests more each time.
        """
        running = self._events.running(container_id) if self._events is not None else None
        return running or self._services.replica(container_id)
