"""What passes through the Docker door: frozen values, in Docker's nouns and with units in names."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from airflow_torchx.specs import BindMount, DeviceMount, VolumeMount

#: The events after which a container's row is another one; health checks make many others.
EVENT_ACTIONS: Final = ("create", "start", "pause", "unpause", "rename", "die", "destroy")


@dataclass(frozen=True, kw_only=True, slots=True)
class Ulimit:
    """One resource limit, as `docker run --ulimit` knows them; -1 is unlimited."""

    name: str
    soft: int
    hard: int


@dataclass(frozen=True, kw_only=True, slots=True)
class HostOptions:
    """Settings that go to the Engine as they are, the same for every replica of an app.

    None, False and empty all mean: what the daemon does by default.
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
    """GPUs of one container: these ``device_ids``, or any ``count`` when no id is known."""

    count: int
    device_ids: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class PortBinding:
    """A published port; ``host_port`` 0 lets the daemon choose a free one."""

    container_port: int
    host_port: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ContainerSpec:
    """One replica's container, fully decided.

    Args:
        name: container name, host name and network alias in one, so that peers resolve it even
            after a rename.
        entrypoint: replaces the entrypoint of the image.
        nano_cpus: cpu cap in billionths of a cpu; None for no cap.
        memory_mib: memory limit, and the size of ``/dev/shm``, in MiB; None for Docker's defaults.
        max_restarts: how often the daemon restarts it after a failure; 0 for never.
        stop_grace_s: seconds between SIGTERM and SIGKILL when anybody stops it.
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
    stop_grace_s: float = 10.0
    host: HostOptions = field(default_factory=HostOptions)


@dataclass(frozen=True, kw_only=True, slots=True)
class ContainerRow:
    """One line of the Engine's container list.

    Args:
        state: Docker's word, like ``running`` or ``exited``.
        status: Docker's sentence, like ``Exited (137) 2 seconds ago``: it carries the exit code.
    """

    id: str
    name: str
    image: str
    state: str
    status: str
    labels: Mapping[str, str]
    created_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class ContainerDetail:
    """What only an inspect of one container tells.

    Args:
        exit_code: of the last run; None while it runs or if it never ran.
        error: the Engine's words when it could not start the container, else empty.
        started_at: start of the last run; None if it never ran.
        finished_at: end of the last run; None while it runs or if it never ran.
    """

    id: str
    state: str
    exit_code: int | None
    oom_killed: bool
    error: str
    restarts: int
    started_at: datetime | None
    finished_at: datetime | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ContainerEvent:
    """Something that happened to a container of an app.

    Args:
        app_id: the app.
        app_name: the app's name as its launch wrote it; empty where it wrote none.
        container_id: the container.
        action: Docker's word: one of `EVENT_ACTIONS`.
        time_ns: when, by the daemon's clock, in nanoseconds since 1970.
        exit_code: of the run that a ``die`` ended, else None.
    """

    app_id: str
    app_name: str
    container_id: str
    action: str
    time_ns: int
    exit_code: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkRow:
    """One network of the daemon."""

    id: str
    name: str
    created_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineInfo:
    """What a daemon says about itself.

    Args:
        id: the daemon's own identity, the same for every client.
        url: how this client reaches it.
        is_local: the daemon sees the file system that this process sees.
        cpus: number of cpus containers can use.
        memory_bytes: memory of the host.
        gpu_ids: GPU ids that ``device_ids`` takes; empty when the daemon does not tell.
        runtimes: OCI runtimes that it knows, like ``runc`` and ``nvidia``.
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
    runtimes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class LogQuery:
    """Which part of a container's log to read.

    Args:
        streams: ``stdout``, ``stderr`` or ``both``.
        since_ns: nanoseconds since 1970, inclusive; None for the beginning.
        until_ns: nanoseconds since 1970, inclusive; None for no end.
        follow: stay until the container's current run ends.
        timestamps: begin every message with its RFC 3339 time and a space.
        tail: only the last this many messages; None for all.
    """

    streams: Literal["stdout", "stderr", "both"] = "both"
    since_ns: int | None = None
    until_ns: int | None = None
    follow: bool = False
    timestamps: bool = False
    tail: int | None = None
