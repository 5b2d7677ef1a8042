"""Images, builds and registry logins, as frozen values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Repository of workspace images on the daemon that built them; it is never pushed.
WORKSPACE_REPOSITORY: Final = "airflow-torchx/workspace"


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageRow:
    """One row of the Engine's image list.

    Args:
        id: ``sha256:…``.
        tags: like ``repo:tag``; empty for a dangling image.
        created_s: creation time, in seconds since 1970.
    """

    id: str
    tags: tuple[str, ...]
    labels: Mapping[str, str]
    created_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageDetail:
    """What `docker image inspect` returns for an image.

    Args:
        id: ``sha256:…``.
        user: user of its containers, like ``jovyan`` or ``1000:100``; empty for root.
        working_dir: working directory; empty for ``/``.
    """

    id: str
    user: str = ""
    working_dir: str = ""
    volumes: tuple[str, ...] = ()
    on_build: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildSpec:
    """Everything the Engine needs for one build of a Dockerfile.

    Args:
        tag: name of the image, ``repo:tag``.
        dockerfile: path of the Dockerfile in the context.
        target: the stage to build; None for the last.
        secrets: secrets for ``RUN --mount=type=secret``, in the form of `docker build --secret`:
            ``id=NAME,src=PATH`` or ``id=NAME,env=VARIABLE``.
        buildkit: why the Dockerfile needs BuildKit; None if the classic builder is enough.
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
    """A login for a registry.

    Args:
        registry: host, with its port if it has one; ``docker.io`` for Docker Hub.
        password: or token; never shown.
    """

    registry: str
    username: str
    password: str = field(repr=False)
