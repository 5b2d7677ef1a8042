"""Containers, networks, events and daemons, as frozen values with Docker's names."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from airflow_torchx.core.engine.labels import APP_ID, APP_NAME

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from airflow_torchx.specs import BindMount, DeviceMount, VolumeMount

#: Default seconds between SIGTERM and SIGKILL, as in Docker.
DEFAULT_STOP_GRACE_S: Final = 10.0
#: Networks that every daemon has. Docker allows no aliases on them.
BUILT_IN_NETWORKS: Final = frozenset({"bridge", "default", "host", "none"})
#: NVIDIA's GPUs in CDI, the Container Device Interface.
NVIDIA_GPU: Final = "nvidia.com/gpu"
#: Beginning of the name of a container that is being discarded; its id follows.
DISCARDED_PREFIX: Final = "airflow-torchx-discarded-"
#: The events that change a container's row; health checks emit many others.
EVENT_ACTIONS: Final = ("create", "start", "pause", "unpause", "rename", "die", "destroy")


def has_own_address(network: str) -> bool:
    """Return whether each container on a network has an address of its own, unlike its host's."""
    return network not in {"host", "none"} and not network.startswith("container:")


@dataclass(frozen=True, kw_only=True, slots=True)
class Ulimit:
    """One resource limit of `docker run --ulimit`; -1 means unlimited."""

    name: str
    soft: int
    hard: int


@dataclass(frozen=True, kw_only=True, slots=True)
class HostOptions:
    """Settings that are passed to the Engine unchanged, equal for all replicas of an app.

    None, False and empty values mean the daemon's default.
    """

    privileged: bool = False
    user: str | None = None
    ipc_mode: str | None = None
    ulimits: tuple[Ulimit, ...] = ()
    cap_add: tuple[str, ...] = ()
    init: bool | None = None
    extra_hosts: Mapping[str, str] = field(default_factory=dict)
    dns: tuple[str, ...] = ()
    log_driver: str | None = None
    log_options: Mapping[str, str] = field(default_factory=dict)
    runtime: str | None = None
    security_opt: tuple[str, ...] = ()
    tmpfs: Mapping[str, str] = field(default_factory=dict)
    working_dir: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuRequest:
    """GPUs of one container: these ``device_ids``, or the first ``count`` if no ids are known.

    Args:
        count: number of GPUs; -1 for all of the daemon.
        driver: ``cdi``, or empty for the daemon's choice. CDI needs ids.
        kind: the ids' vendor and class in CDI.
    """

    count: int
    device_ids: tuple[str, ...] = ()
    driver: Literal["", "cdi"] = ""
    kind: str = NVIDIA_GPU


@dataclass(frozen=True, kw_only=True, slots=True)
class PortBinding:
    """A published port; the daemon picks a free one for ``host_port`` 0."""

    container_port: int
    host_port: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ContainerSpec:
    """Everything the Engine needs to create the container of one replica.

    Args:
        name: container name, host name and network alias, so that peers resolve it even after the
            container was renamed.
        entrypoint: replaces the image's entrypoint.
        nano_cpus: CPU limit in billionths of a CPU; None for no limit.
        memory_mib: memory limit and size of ``/dev/shm``, in MiB; None for Docker's defaults.
        max_restarts: how often the daemon restarts the container after a failure.
        stop_grace_s: seconds between SIGTERM and SIGKILL.
        volume_labels: labels of volumes that the daemon creates for the mounts, by their names.
    """

    role: str
    replica: int
    name: str
    image: str
    entrypoint: str
    args: tuple[str, ...]
    env: Mapping[str, str] = field(repr=False)  # some values are secret
    labels: Mapping[str, str]
    network: str
    mounts: tuple[BindMount | VolumeMount, ...] = ()
    devices: tuple[DeviceMount, ...] = ()
    nano_cpus: int | None = None
    memory_mib: int | None = None
    gpus: GpuRequest | None = None
    max_restarts: int = 0
    ports: tuple[PortBinding, ...] = ()
    stop_grace_s: float = DEFAULT_STOP_GRACE_S
    host: HostOptions = field(default_factory=HostOptions)
    volume_labels: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class ContainerRow:
    """One row of the Engine's container list.

    Args:
        state: like ``running`` or ``exited``.
        status: like ``Exited (137) 2 seconds ago``, with the exit code.
        image: the name by which it was created, if that is still its image.
        image_id: ``sha256:…``.
        node: name of the node of a swarm that it is on; empty for none.
    """

    id: str
    name: str
    image: str
    state: str
    status: str
    labels: Mapping[str, str]
    created_at: datetime
    image_id: str = ""
    node: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class ContainerDetail:
    """What `docker inspect` returns for a container, beyond its row.

    Args:
        exit_code: of the last run; None before its end.
        error: the Engine's message if the container could not be started, else empty.
        started_at: start of the last run; None if it never ran.
        finished_at: end of the last run; None before its end.
        gpus: the GPUs that it requested, from any client.
        restart_policy: when the daemon restarts it, like ``on-failure``; empty for never.
        max_restarts: how often it does so after a failure; 0 for no limit.
        created_at: when it was created, to the microsecond; a row has whole seconds.
        nano_cpus: its CPU limit in billionths of a CPU; None for no limit.
        memory_bytes: its memory limit; None for no limit.
    """

    id: str
    state: str
    exit_code: int | None
    oom_killed: bool
    error: str
    restarts: int
    started_at: datetime | None
    finished_at: datetime | None
    gpus: tuple[GpuRequest, ...] = ()
    restart_policy: str = ""
    max_restarts: int = 0
    created_at: datetime | None = None
    nano_cpus: int | None = None
    memory_bytes: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ContainerEvent:
    """An event of the Engine about a container.

    Args:
        name: the container's name after the event.
        labels: its labels with a prefix of TorchX or this package.
        action: one of `EVENT_ACTIONS`.
        time_ns: time on the daemon's clock, in nanoseconds since 1970.
        exit_code: for ``die``, else None.
    """

    container_id: str
    name: str
    labels: Mapping[str, str]
    action: str
    time_ns: int
    exit_code: int | None = None

    @property
    def app_id(self) -> str:
        """The app's id; empty for a container of no app."""
        return self.labels.get(APP_ID, "")

    @property
    def app_name(self) -> str:
        """The app's name; empty without one."""
        return self.labels.get(APP_NAME, "")


@dataclass(frozen=True, kw_only=True, slots=True)
class VolumeRow:
    """One volume of the daemon."""

    name: str
    labels: Mapping[str, str]
    created_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkRow:
    """One network of the daemon."""

    id: str
    name: str
    created_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineInfo:
    """What `docker info` returns for a daemon.

    Args:
        id: id of the daemon, the same for every client.
        url: URL by which this client reaches it.
        is_local: the daemon and this process share a file system.
        gpu_ids: GPU ids for ``device_ids``, UUIDs rather than indices; empty if the daemon does
            not report them.
        gpus_are_indexed: these are all its GPUs, in the order of their indices.
        gpu_kind: their vendor and class in CDI, like ``nvidia.com/gpu``; empty if it is unknown.
        has_cdi: it can give devices to containers by their names in CDI.
        runtimes: OCI runtimes, like ``runc`` and ``nvidia``.
        is_podman: the daemon is Podman's, which speaks Docker's API.
        swarm_nodes: number of nodes of the swarm that it manages; 0 if it does not manage one.
        is_swarm: it is a manager, and its swarm runs the containers; the largest node has these
            ``cpus`` and ``memory_bytes``.
        host: name of its host.
        system_time: its clock at the time of the answer; None if it does not report it.
    """

    id: str
    url: str
    is_local: bool
    version: str
    api_version: str
    os: str
    cpus: int
    memory_bytes: int
    gpu_ids: tuple[str, ...] = ()
    gpus_are_indexed: bool = False
    gpu_kind: str = ""
    has_cdi: bool = False
    runtimes: tuple[str, ...] = ()
    is_podman: bool = False
    swarm_nodes: int = 0
    is_swarm: bool = False
    host: str = ""
    system_time: datetime | None = field(default=None, compare=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class LogQuery:
    """Selects a part of a container's log.

    Args:
        streams: ``stdout``, ``stderr`` or ``both``.
        since_ns: nanoseconds since 1970, inclusive; None for the beginning.
        until_ns: nanoseconds since 1970, inclusive; None for no end.
        follow: read until the container's current run ends.
        timestamps: prefix every message with its RFC 3339 time and a space.
        tail: read only this many messages from the end; None for all.
    """

    streams: Literal["stdout", "stderr", "both"] = "both"
    since_ns: int | None = None
    until_ns: int | None = None
    follow: bool = False
    timestamps: bool = False
    tail: int | None = None
