"""What to run: an app, its roles, their resources and mounts.

The names, the order and the defaults are TorchX's. Unlike there, everything is frozen: a spec keeps
read-only copies of the lists and dicts it was given, and `dataclasses.replace` makes a changed one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from airflow_torchx.specs.frozen import freeze_fields

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Stands for a string that must be given and was not, like the entrypoint of a role.
MISSING: Final = "<MISSING>"
#: Stands for an optional string that was not given.
NONE: Final = "<NONE>"


@dataclass(frozen=True, slots=True)
class Resource:
    """What one replica needs of its host.

    Args:
        cpu: CPUs; a fraction such as 0.5 is allowed, -1 means any.
        gpu: number of GPUs; -1 means any.
        memMB: memory in MB; -1 means any.
        capabilities: further properties of the hardware, for the scheduler.
        devices: name of a kind of device, and how many of it.
        tags: notes that no scheduler reads.
    """

    cpu: float
    gpu: int
    memMB: int  # noqa: N815 - TorchX's name
    capabilities: Mapping[str, Any] = field(default_factory=dict)
    devices: Mapping[str, int] = field(default_factory=dict)
    tags: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.cpu, float) and self.cpu.is_integer():
            # 2.0 and 2 are the same wish, so they shall read the same in a plan too.
            object.__setattr__(self, "cpu", int(self.cpu))
        freeze_fields(self, dicts=("capabilities", "devices", "tags"))


#: Asks for nothing in particular.
NULL_RESOURCE: Final = Resource(cpu=-1, gpu=-1, memMB=-1)


class RetryPolicy(StrEnum):
    """What is started again when a replica fails: that replica, its role, or the whole app."""

    REPLICA = "REPLICA"
    APPLICATION = "APPLICATION"
    ROLE = "ROLE"


@dataclass(frozen=True, slots=True)
class BindMount:
    """A path of the host, seen at a path in the container."""

    src_path: str
    dst_path: str
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class VolumeMount:
    """A named volume, seen at a path in the container."""

    src: str
    dst_path: str
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class DeviceMount:
    """A device of the host; ``permissions`` are some of r (read), w (write) and m (mknod)."""

    src_path: str
    dst_path: str
    permissions: str = "rwm"


@dataclass(frozen=True, slots=True)
class Workspace:
    """Local folders whose files the app shall see.

    Args:
        projects: local folder to the folder in the workspace; empty is the workspace itself.
    """

    projects: Mapping[str, str]

    def __post_init__(self) -> None:
        freeze_fields(self, dicts=("projects",))

    def __bool__(self) -> bool:
        return bool(self.projects)

    def __hash__(self) -> int:
        return hash(frozenset(self.projects.items()))


@dataclass(frozen=True, slots=True)
class Role:
    """A number of equal containers: the replicas.

    Args:
        name: name of the role, unique in its app.
        image: image of the container.
        min_replicas: replicas an elastic app can do with; None means all of them.
        entrypoint: program to run, instead of the image's ENTRYPOINT.
        args: arguments of the command.
        env: environment variables.
        num_replicas: number of containers.
        max_retries: how often a failed replica, role or app is started again.
        retry_policy: which of them is started again.
        resource: what each replica needs.
        port_map: name of a port to its number in the container.
        metadata: what only some scheduler understands, under ``scheduler.key``.
        mounts: what each replica sees of its host.
        workspace: local folders that each replica sees.
    """

    name: str
    image: str
    min_replicas: int | None = None
    entrypoint: str = MISSING
    args: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    num_replicas: int = 1
    max_retries: int = 0
    retry_policy: RetryPolicy = RetryPolicy.APPLICATION
    resource: Resource = NULL_RESOURCE
    port_map: Mapping[str, int] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    mounts: Sequence[BindMount | VolumeMount | DeviceMount] = ()
    workspace: Workspace | None = None

    def __post_init__(self) -> None:
        freeze_fields(self, lists=("args", "mounts"), dicts=("env", "port_map", "metadata"))


@dataclass(frozen=True, slots=True)
class AppDef:
    """One or more roles that run and end together.

    Args:
        name: name of the app; its id is made of it.
        roles: the roles; replica 0 of the first is the host that the others meet at.
        metadata: what only some scheduler understands.
    """

    name: str
    roles: Sequence[Role] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        freeze_fields(self, lists=("roles",), dicts=("metadata",))
