"""Defines an app, its roles, their resources and mounts.

Names, order and defaults are TorchX's. Unlike TorchX's, these types are frozen: a spec keeps
read-only copies of its lists and dicts. Use `dataclasses.replace` to change a field.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, ClassVar, Final

from airflow_torchx.specs.frozen import freeze_fields

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: A required string that was not given, like the entrypoint of a role.
MISSING: Final = "<MISSING>"
#: An optional string that was not given.
NONE: Final = "<NONE>"
#: TorchX's tags for the name of a resource, and for a part of one.
NAME_TAG: Final = "torchx/named_resources.name"
FRACTION_TAG: Final = "torchx/named_resources.is_fractional"


@dataclass(frozen=True, slots=True)
class Resource:
    """Describes the hardware that one replica needs.

    Args:
        cpu: CPUs; fractions such as 0.5 are allowed, -1 means any.
        gpu: number of GPUs; -1 means any.
        memMB: memory in MB; -1 means any.
        capabilities: further hardware properties, for the scheduler.
        devices: number of devices by kind.
        tags: notes that no scheduler reads.
    """

    cpu: float
    gpu: int
    memMB: int  # noqa: N815 - TorchX's name
    capabilities: Mapping[str, Any] = field(default_factory=dict)
    devices: Mapping[str, int] = field(default_factory=dict)
    tags: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        freeze_fields(self, dicts=("capabilities", "devices", "tags"))
        if isinstance(self.cpu, float) and self.cpu.is_integer():
            # A plan must print 2.0 and 2 alike.
            object.__setattr__(self, "cpu", int(self.cpu))

    @staticmethod
    def copy(original: Resource, **capabilities: Any) -> Resource:  # noqa: ANN401 - JSON values
        """Return a resource with more capabilities, or with other values of some."""
        return replace(original, capabilities={**original.capabilities, **capabilities})

    def get_resource_name(self) -> str | None:
        """Return the name under which it is registered; None if it has none."""
        name = self.tags.get(NAME_TAG)
        return None if name is None else str(name)

    def is_fractional(self) -> bool:
        """Return whether it is a part of a named resource."""
        return bool(self.tags.get(FRACTION_TAG))


#: Requests nothing in particular.
NULL_RESOURCE: Final = Resource(cpu=-1, gpu=-1, memMB=-1)


class RetryPolicy(StrEnum):
    """Selects what restarts when a replica fails: the replica, its role, or the whole app."""

    REPLICA = "REPLICA"
    APPLICATION = "APPLICATION"
    ROLE = "ROLE"


@dataclass(frozen=True, slots=True)
class BindMount:
    """Mounts a host path at a path in the container."""

    src_path: str
    dst_path: str
    read_only: bool = False

    def __post_init__(self) -> None:
        freeze_fields(self)


@dataclass(frozen=True, slots=True)
class VolumeMount:
    """Mounts a named volume at a path in the container."""

    src: str
    dst_path: str
    read_only: bool = False

    def __post_init__(self) -> None:
        freeze_fields(self)


@dataclass(frozen=True, slots=True)
class DeviceMount:
    """Exposes a host device; ``permissions`` combines r (read), w (write) and m (mknod)."""

    src_path: str
    dst_path: str
    permissions: str = "rwm"

    def __post_init__(self) -> None:
        freeze_fields(self)


@dataclass(frozen=True, slots=True)
class Workspace:
    """Lists local folders to copy into the app's image.

    Args:
        projects: target folder in the workspace by local folder; an empty target is the
            workspace itself.
    """

    projects: Mapping[str, str]

    def __post_init__(self) -> None:
        freeze_fields(self, dicts=("projects",))

    def __bool__(self) -> bool:
        return bool(self.projects)

    def __hash__(self) -> int:
        return hash(frozenset(self.projects.items()))

    def __str__(self) -> str:
        """Return a text for logs; `from_str` cannot read it."""
        return ";".join(f"{src}:{dst}" if dst else src for src, dst in self.projects.items())

    @staticmethod
    def from_str(workspace: str | None) -> Workspace:
        """Return the workspace in a text: a folder, or a mapping of folders as YAML."""
        import yaml

        text = (workspace or "").strip()
        try:
            loaded = yaml.safe_load(text)
        except yaml.YAMLError:
            loaded = text
        if not isinstance(loaded, dict):
            # YAML reads some paths as other types, like "~" as None.
            loaded = {text: ""} if text else {}
        return Workspace({src: "" if dst is None else dst for src, dst in loaded.items()})

    def is_unmapped_single_project(self) -> bool:
        """Return whether it is one folder, for the workspace itself."""
        return [*self.projects.values()] == [""]

    def merge_into(self, outdir: str | Path) -> None:
        """Copy each folder or file to its target below ``outdir``; a later one replaces files."""
        for src, dst in self.projects.items():
            source, target = Path(src).expanduser(), Path(outdir, dst)
            if source.is_file():
                shutil.copy2(source, target)
            else:
                shutil.copytree(source, target, dirs_exist_ok=True)


@dataclass(frozen=True, slots=True)
class Role:
    """Describes a group of identical containers, its replicas.

    Args:
        name: name of the role, unique in its app.
        image: image of the containers.
        min_replicas: replicas that an elastic app needs at least; None means all.
        entrypoint: program to run instead of the image's ENTRYPOINT.
        args: arguments of the program.
        env: environment variables.
        num_replicas: number of containers.
        max_retries: how often ``retry_policy`` restarts after a failure.
        retry_policy: what restarts: the replica, the role or the app.
        resource: hardware that each replica needs.
        port_map: port number in the container by name.
        metadata: settings that only some schedulers understand, as ``scheduler.key``.
        mounts: bind mounts, volumes and devices of each replica.
        workspace: local folders to copy into the image; a ``Path`` is one folder.
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
        workspace: object = self.workspace
        if isinstance(workspace, PurePath):
            object.__setattr__(self, "workspace", Workspace({str(workspace): ""}))


@dataclass(frozen=True, slots=True)
class AppDef:
    """Describes an app: one or more roles that run and end together.

    Args:
        name: name of the app, from which its id is derived.
        roles: the roles; replica 0 of the first is the rendezvous host.
        metadata: settings that only some schedulers understand.
    """

    name: str
    roles: Sequence[Role] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)

    #: Python otherwise iterates by `__getitem__`.
    __iter__: ClassVar[None] = None

    def __post_init__(self) -> None:
        freeze_fields(self, lists=("roles",), dicts=("metadata",))

    def get_role(self, name: str) -> Role:
        """Return the first role of that name, or raise KeyError with the names of all roles."""
        for role in self.roles:
            if role.name == name:
                return role
        known = ", ".join(role.name for role in self.roles) or "none"
        what = f"app {self.name!r} has no role {name!r}; its roles: {known}"
        raise KeyError(what)

    def __getitem__(self, name: str) -> Role:
        """Return the role of that name, as `get_role` does."""
        return self.get_role(name)

    def __contains__(self, name: object) -> bool:
        """Return whether a role has that name."""
        return any(role.name == name for role in self.roles)
