"""Images as they pass through the Docker door: frozen values, with units in names."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Workspace images are named so on the daemon that built them; no registry knows the name.
WORKSPACE_REPOSITORY: Final = "airflow-torchx/workspace"


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageRow:
    """One image of a daemon, as a list of images tells it.

    Args:
        id: ``sha256:…``.
        tags: its names, like ``repo:tag``; empty for an image that has none.
        labels: its labels.
        created_s: when it was made, in seconds since 1970.
    """

    id: str
    tags: tuple[str, ...]
    labels: Mapping[str, str]
    created_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageDetail:
    """What an inspect tells of one image.

    Args:
        id: ``sha256:…``.
        user: what its containers run as, like ``jovyan`` or ``1000:100``; empty for root.
        working_dir: where they start; empty for ``/``.
        volumes: folders that it declares as volumes.
        on_build: instructions that wait for the next build.
    """

    id: str
    user: str = ""
    working_dir: str = ""
    volumes: tuple[str, ...] = ()
    on_build: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildSpec:
    """One build of a Dockerfile, fully decided.

    Args:
        tag: the name that the image gets, ``repo:tag``.
        dockerfile: path of the Dockerfile in the context.
        args: build arguments.
        labels: labels of the image.
        target: the stage to build; None for the last.
        secrets: what BuildKit's ``RUN --mount=type=secret`` sees, each in the form of the docker
            command line: ``id=NAME,src=PATH`` or ``id=NAME,env=VARIABLE``.
        buildkit: why the Dockerfile needs BuildKit; None where the Engine's own builder will do.
    """

    tag: str
    dockerfile: str
    args: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    target: str | None = None
    secrets: tuple[str, ...] = ()
    buildkit: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RegistryLogin:
    """A user of a registry.

    Args:
        registry: its host, with the port if it has one; ``docker.io`` for Docker Hub.
        username: the user.
        password: the password or token, shown nowhere.
    """

    registry: str
    username: str
    password: str = field(repr=False)
