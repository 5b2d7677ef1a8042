"""TorchX's Docker workspace: builds images with source code on top of a base image.

https://pytorch.org/torchx/latest/workspace.html describes the original.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from airflow_torchx.core.engine import labels
from airflow_torchx.core.engine.images import WORKSPACE_REPOSITORY, ImageDetail
from airflow_torchx.core.plan.options import Opts
from airflow_torchx.core.plan.run_opts import runopts
from airflow_torchx.core.workspace.recipe import SourceRoot
from airflow_torchx.core.workspace.source import parse_workspace
from airflow_torchx.errors import MissingOptionError, Problem
from airflow_torchx.runtime import images
from airflow_torchx.runtime.engines import connect
from airflow_torchx.specs import Role, Workspace
from airflow_torchx.workspace.build import ImageBuilder
from airflow_torchx.workspace.progress import LogReport, reporter
from airflow_torchx.workspace.reading import (
    Filesystem,
    Key,
    ReadWorkspace,
    WorkspaceImage,
    key_of,
    read_workspace,
)
from airflow_torchx.workspace.source import find_filesystem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from airflow_torchx.core.connection.endpoint import Endpoint
    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.specs import AppDef

_IMAGE_OPTIONS: Final = frozenset(
    {
        "image_repo",
        "quiet",
        "build_args",
        "target",
        "build_secrets",
        "max_context_mb",
        "keep_images",
    }
)


# Without an own `__eq__`, it equals any mapping with the same names, as TorchX's dict does.
@dataclass(frozen=True, eq=False)
class ImagesToPush(Mapping[str, tuple[str, str]]):
    """The images of an app to push, as a mapping of local name to repository and tag.

    ``app`` is the app with the images' names in the repository.
    """

    app: Any
    names: Mapping[str, tuple[str, str]]

    def __getitem__(self, local: str) -> tuple[str, str]:
        return self.names[local]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


class DockerWorkspaceMixin:
    """Builds and pushes workspace images.

    Our roles and apps are frozen, so methods return new ones. TorchX's mutable roles and apps are
    also changed in place, as TorchX does.

    Args:
        engine: the daemon; None for the one that the docker CLI would use, connected on first use.
        filesystem: opens the storage behind a URL; None for fsspec's.
        terminal: whether to show a progress bar on the terminal instead of logging; None for
            automatic.
        defaults: run options for those that ``cfg`` does not set.
        endpoint: the daemon to connect to on first use, in place of that one.
    """

    LABEL_VERSION: Final = labels.VERSION

    def __init__(
        self,
        engine: Engine | None = None,
        *,
        filesystem: Filesystem | None = None,
        terminal: bool | None = None,
        defaults: Mapping[str, object] | None = None,
        endpoint: Endpoint | None = None,
    ) -> None:
        self._defaults = defaults or {}
        self._endpoint = endpoint
        self._engine = engine
        self._filesystem = filesystem or find_filesystem
        self._terminal = terminal

    @property
    def engine(self) -> Engine:
        """Return the daemon; connects on first use and may raise EngineUnreachableError."""
        if self._engine is None:
            self._engine = self._connected()
        return self._engine

    def _connected(self) -> Engine:
        return connect(self._endpoint)

    def close(self) -> None:
        """Close all connections; apps keep running. Idempotent."""
        if self._engine is not None:
            self._engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def workspace_opts(self) -> runopts:
        """Return the run options of workspace images."""
        return runopts(_IMAGE_OPTIONS)

    def build_workspace_and_update_role(
        self,
        role: Role,
        workspace: str | Mapping[str, str] | Workspace,
        cfg: Mapping[str, object] | Opts | None = None,
    ) -> Role:
        """Return a role whose image has the files of a workspace on top of the role's image.

        The image is built unless the daemon has it; it is not pushed.

        Args:
            role: the role; its own workspace is ignored.
            workspace: a local folder, a URL, or a mapping of such sources to folders.
            cfg: run options; only those for images are used.

        Raises:
            WorkspaceError: the workspace cannot be read, is empty, or is too large.
            ImageBuildError: a step of its Dockerfile failed.
            ImagePullError: the role's image cannot be pulled.
            InvalidAppError: an option is invalid.
        """
        projects = dict(parse_workspace(workspace))
        own = Role("", role.image, workspace=Workspace(projects) if projects else None)
        (built,) = self.build_workspaces([own], cfg)
        return _with_image(role, built.image)

    def build_workspaces(
        self, roles: Sequence[Role], cfg: Mapping[str, object] | Opts | None = None
    ) -> list[Role]:
        """Build the images of all roles with a workspace, and return the roles with these images.

        Roles with the same image and workspace share one image. Nothing is pushed.

        Raises:
            AirflowTorchXError: see `build_workspace_and_update_role`.
        """
        opts = replace(Opts.parse(cfg, self._defaults), image_repo=None)
        read = self._read_workspaces(roles, opts)
        if not read:
            return list(roles)
        bases = {base: self.engine.images.inspect(base) for base, _ in read}
        found = self._find_images(read, opts, bases)
        return with_images(roles, self._ensure_images(found, opts, self.engine.info().id))

    def dryrun_push_images(
        self, app: AppDef, cfg: Mapping[str, object] | Opts | None = None
    ) -> ImagesToPush:
        """Return the images of an app that must be pushed, and the app with their new names.

        These are the images that exist only on this daemon: workspace images and images by id.

        Raises:
            MissingOptionError: the app has such an image, and ``image_repo`` is not set.
        """
        repo = Opts.parse(cfg, self._defaults).image_repo
        names: dict[str, tuple[str, str]] = {}
        for role in app.roles:
            if tag := _local_digest(role.image):
                if repo is None:
                    what = f"not set, and {role.image!r} exists only on this daemon"
                    fix = "set it to a repository that all daemons can pull from"
                    problem = Problem("options.image_repo", what, fix)
                    raise MissingOptionError([problem], subject=f"app {app.name!r}")
                names[role.image] = (repo, tag)
        roles = [
            _with_image(role, ":".join(names[role.image])) if role.image in names else role
            for role in app.roles
        ]
        return ImagesToPush(replace(app, roles=roles) if _is_frozen(app) else app, names)

    def push_images(self, images: Mapping[str, tuple[str, str]]) -> None:
        """Push the images of `dryrun_push_images`, except those that their registry has.

        Raises:
            ImagePushError: a push failed.
        """
        with reporter(terminal=self._terminal) as report:
            builder = ImageBuilder(engine=self.engine, opts=Opts(), report=report)
            for local, (repo, tag) in images.items():
                builder.push(local, f"{repo}:{tag}")

    def _read_workspaces(
        self,
        roles: Iterable[Role],
        opts: Opts,
        source_root: SourceRoot | None = None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> dict[Key, ReadWorkspace]:
        """Read the workspaces of all roles, each once, without a request to the daemon."""
        read: dict[Key, ReadWorkspace] = {}
        for role in roles:
            if role.workspace and (key := key_of(role.image, role.workspace)) not in read:
                read[key] = read_workspace(
                    role.image,
                    role.workspace,
                    opts,
                    source_root or _current_folder(),
                    filesystem=self._filesystem,
                    should_stop=should_stop,
                )
        return read

    def _find_images(
        self,
        read: Mapping[Key, ReadWorkspace],
        opts: Opts,
        bases: Mapping[str, ImageDetail | None],
    ) -> dict[Key, WorkspaceImage]:
        """Look up the images of workspaces, without a pull or build."""
        builder = ImageBuilder(engine=self.engine, opts=opts, report=LogReport(quiet=True))
        found = {}
        for key, one in read.items():
            base = bases.get(one.content.base)
            recipe = None if base is None else one.content.over(base)
            name = None if recipe is None else builder.find(recipe)
            found[key] = WorkspaceImage(read=one, base=base, recipe=recipe, found=name)
        return found

    def _ensure_images(
        self,
        found: Mapping[Key, WorkspaceImage],
        opts: Opts,
        daemon_id: str,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> dict[Key, str]:
        """Build and push the images of workspaces as configured, and return their names."""
        return {
            key: self._ensure_image(image, opts, daemon_id, should_stop)
            for key, image in found.items()
        }

    def _ensure_image(
        self, image: WorkspaceImage, opts: Opts, daemon_id: str, should_stop: Callable[[], bool]
    ) -> str:
        content = image.read.content
        with reporter(quiet=opts.quiet, terminal=self._terminal) as report:
            builder = ImageBuilder(
                engine=self.engine,
                opts=opts,
                report=report,
                daemon_id=daemon_id,
                should_stop=should_stop,
            )
            base, recipe, found = image.base, image.recipe, image.found
            if base is None or recipe is None or opts.pull_policy in {"always", "if_possible"}:
                images.ensure_base(
                    self.engine.images,
                    content.base,
                    opts.pull_policy,
                    is_there=base is not None,
                    should_stop=should_stop,
                )
                base = self.engine.images.inspect(content.base) or ImageDetail(id=content.base)
                if recipe != (recipe := content.over(base)):
                    found = builder.find(recipe)
            return builder.ensure(recipe, base, found)


def with_images(roles: Iterable[Role], images: Mapping[Key, str]) -> list[Role]:
    """Return the roles with the images of their workspaces."""
    return [
        _with_image(role, images[key_of(role.image, role.workspace)]) if role.workspace else role
        for role in roles
    ]


def _current_folder() -> SourceRoot:
    return SourceRoot(str(Path.cwd()), str(Path.cwd()))


def _is_frozen(value: object) -> bool:
    params = getattr(type(value), "__dataclass_params__", None)
    return params is not None and bool(params.frozen)


def _with_image(role: Role, image: str) -> Role:
    if _is_frozen(role):
        return replace(role, image=image, workspace=None)
    role.image = image  # type: ignore[misc] # TorchX's own role
    return role


def _local_digest(image: str) -> str | None:
    """Return the digest of an image that exists only on this daemon; None for other images."""
    for prefix in ("sha256:", f"{WORKSPACE_REPOSITORY}:"):
        if image.startswith(prefix):
            return image.removeprefix(prefix)
    return None
