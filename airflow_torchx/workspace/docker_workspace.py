"""TorchX's Docker workspace, under TorchX's names: code laid over an image.

https://pytorch.org/torchx/latest/workspace.html describes the original.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from airflow_torchx.core.engine.images import WORKSPACE_REPOSITORY
from airflow_torchx.core.plan.options import Opts
from airflow_torchx.core.workspace.recipe import SourceRoot
from airflow_torchx.core.workspace.source import parse_workspace
from airflow_torchx.docker_engine import DockerEngine
from airflow_torchx.errors import EngineUnreachableError, InvalidAppError, Problem
from airflow_torchx.runtime import images
from airflow_torchx.workspace.build import ImageBuilder
from airflow_torchx.workspace.progress import LogReport, counted, reporter, size
from airflow_torchx.workspace.source import find_filesystem, opened

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from types import TracebackType

    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.specs import AppDef, Role, Workspace
    from airflow_torchx.workspace.tree import Project

_MIB: Final = 1 << 20

#: Takes a URL; returns fsspec's file system of it, and the path in it.
Filesystem = Callable[[str], tuple[Any, str]]


@dataclass(frozen=True)
class ImagesToPush(Mapping[str, tuple[str, str]]):
    """Images to push, a mapping as TorchX has it: local name to repository and tag.

    Args:
        app: the app, whose roles name the images as they will be called in the repository.
        names: the mapping.
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
    """Builds workspaces into images, and pushes them.

    Our roles and apps are frozen, so methods return new ones. A role or app that can be changed, as
    TorchX's own, is changed in place as well, which is TorchX's contract.

    Args:
        engine: the daemon; None for the one that the docker command line would use, connected to
            on first use.
        filesystem: opens the storage behind a URL; None for fsspec's.
        terminal: show a bar on the terminal; None to do so where there is one, else in the log.
        defaults: run options that count where ``cfg`` says nothing.
    """

    def __init__(
        self,
        engine: Engine | None = None,
        *,
        filesystem: Filesystem | None = None,
        terminal: bool | None = None,
        defaults: Mapping[str, object] | None = None,
    ) -> None:
        self._defaults = defaults or {}
        self._engine = engine
        self._filesystem = filesystem or find_filesystem
        self._terminal = terminal

    @property
    def engine(self) -> Engine:
        """The daemon, connected to on first use; EngineUnreachableError if none answers."""
        if self._engine is None:
            self._engine = DockerEngine.connect()
        return self._engine

    def close(self) -> None:
        """Give connections back. Apps go on running. Idempotent."""
        if self._engine is not None:
            self._engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()

    def build_workspace_and_update_role(
        self,
        role: Role,
        workspace: str | Mapping[str, str] | Workspace,
        cfg: Mapping[str, object] | Opts | None = None,
    ) -> Role:
        """Return a role whose image is its own with the files of a workspace on top.

        Nothing is built when such an image is on the daemon already, and nothing is pushed.

        Args:
            role: the role; its own workspace is not looked at.
            workspace: a local folder, a URL, or a mapping of such sources to folders.
            cfg: run options; those on images count.

        Raises:
            WorkspaceError: the workspace cannot be read, is empty, or is too large.
            ImageBuildError: a step of its Dockerfile failed.
            ImagePullError: the role's own image cannot be pulled.
            InvalidAppError: an option is wrong.
        """
        opts = replace(Opts.parse(cfg, self._defaults), image_repo=None)
        return _updated(role, self._image(role.image, workspace, opts, _here(), _never))

    def build_workspaces(
        self, roles: Sequence[Role], cfg: Mapping[str, object] | Opts | None = None
    ) -> list[Role]:
        """Return the roles, each that has a workspace with the image of it; nothing is pushed.

        Roles with the same image and workspace share one image.

        Raises:
            AirflowTorchXError: as `build_workspace_and_update_role` does.
        """
        opts = replace(Opts.parse(cfg, self._defaults), image_repo=None)
        return self._built(roles, opts, _here(), _never)

    def dryrun_push_images(
        self, app: AppDef, cfg: Mapping[str, object] | Opts | None = None
    ) -> ImagesToPush:
        """Return which images of an app must be pushed, and the app with their names to be.

        These are the images that this daemon alone has: workspace images, and images given by id.

        Raises:
            InvalidAppError: there is one, and ``image_repo`` is not set.
        """
        repo = Opts.parse(cfg, self._defaults).image_repo
        names: dict[str, tuple[str, str]] = {}
        for index, role in enumerate(app.roles):
            if tag := _local_digest(role.image):
                if repo is None:
                    what = f"{role.image!r} is on one daemon only, and image_repo is not set"
                    fix = "set image_repo to a repository that all daemons can pull from"
                    problem = Problem(f"roles[{index}].image", what, fix)
                    raise InvalidAppError([problem], subject=f"app {app.name!r}")
                names[role.image] = (repo, tag)
        roles = [
            _updated(role, ":".join(names[role.image])) if role.image in names else role
            for role in app.roles
        ]
        return ImagesToPush(replace(app, roles=roles) if _is_frozen(app) else app, names)

    def push_images(self, images: Mapping[str, tuple[str, str]]) -> None:
        """Push images under the names that `dryrun_push_images` gave them.

        One that its registry has already is not pushed.

        Raises:
            ImagePushError: one cannot be pushed.
        """
        with reporter(terminal=self._terminal) as report:
            builder = ImageBuilder(engine=self.engine, opts=Opts(), report=report)
            for local, (repo, tag) in images.items():
                builder.push(local, f"{repo}:{tag}")

    def _built(
        self,
        roles: Iterable[Role],
        opts: Opts,
        source_root: SourceRoot | None,
        should_stop: Callable[[], bool],
    ) -> list[Role]:
        """Return roles with the images of their workspaces, built and pushed as options say."""
        made: dict[tuple[str, frozenset[tuple[str, str]]], str] = {}
        built = []
        for role in roles:
            if not role.workspace:
                built.append(role)
                continue
            same = (role.image, frozenset(role.workspace.projects.items()))
            if same not in made:
                made[same] = self._image(
                    role.image, role.workspace, opts, source_root or _here(), should_stop
                )
            built.append(_updated(role, made[same]))
        return built

    def _image(
        self,
        base: str,
        workspace: str | Mapping[str, str] | Workspace,
        opts: Opts,
        source_root: SourceRoot,
        should_stop: Callable[[], bool],
    ) -> str:
        parts = parse_workspace(workspace)
        if not parts:
            return base
        with reporter(quiet=opts.quiet, terminal=self._terminal) as report:
            images.ensure(self.engine, [base], opts.pull_policy, should_stop=should_stop)
            builder = ImageBuilder(
                engine=self.engine, opts=opts, report=report, should_stop=should_stop
            )
            with self._opened(parts, opts, source_root) as folders:
                base_id = self.engine.find_image(base) or base
                return builder.ensure(builder.recipe(base, base_id, parts, folders, source_root))

    def _preview(
        self, roles: Sequence[Role], opts: Opts, source_root: SourceRoot | None
    ) -> tuple[list[Role], tuple[str, ...]]:
        """Return the roles with the images that their workspaces would get, and what that takes."""
        seen, notes = [], []
        for role in roles:
            if not role.workspace:
                seen.append(role)
                continue
            image, note = self._foreseen(role, role.workspace, opts, source_root or _here())
            seen.append(replace(role, image=image, workspace=None))
            notes.append(f"role {role.name}: {note}")
        return seen, tuple(notes)

    def _foreseen(
        self, role: Role, workspace: Workspace, opts: Opts, source_root: SourceRoot
    ) -> tuple[str, str]:
        parts = parse_workspace(workspace)
        try:
            base_id = self.engine.find_image(role.image)
        except EngineUnreachableError:
            return role.image, "the workspace image is not known: no daemon answers"
        if base_id is None:
            return role.image, f"the workspace image is not known before {role.image} is pulled"
        report = LogReport(quiet=True)
        with self._opened(parts, opts, source_root) as folders:
            builder = ImageBuilder(engine=self.engine, opts=opts, report=report)
            recipe = builder.recipe(role.image, base_id, parts, folders, source_root)
            files = f"{counted(len(recipe.entries), 'file')}, {size(recipe.size_bytes)}"
            is_there = builder.find(recipe) is not None
        image = f"{opts.image_repo or WORKSPACE_REPOSITORY}:{recipe.key}"
        if is_there:
            return image, f"nothing changed, nothing to build ({files})"
        return image, f"to be built over {role.image} ({files})"

    def _opened(
        self, parts: Sequence[tuple[str, str]], opts: Opts, source_root: SourceRoot
    ) -> AbstractContextManager[tuple[Project, ...]]:
        return opened(
            parts,
            relative_to=Path(source_root.folder),
            filesystem=self._filesystem,
            max_bytes=opts.max_context_mb * _MIB,
        )


def _here() -> SourceRoot:
    return SourceRoot(str(Path.cwd()), str(Path.cwd()))


def _never() -> bool:
    return False


def _is_frozen(value: object) -> bool:
    params = getattr(type(value), "__dataclass_params__", None)
    return params is not None and bool(params.frozen)


def _updated(role: Role, image: str) -> Role:
    if _is_frozen(role):
        return replace(role, image=image, workspace=None)
    role.image = image  # type: ignore[misc] # TorchX's own role
    return role


def _local_digest(image: str) -> str | None:
    """Return what tells an image of this daemon from all others; None for one of a registry."""
    for prefix in ("sha256:", f"{WORKSPACE_REPOSITORY}:"):
        if image.startswith(prefix):
            return image.removeprefix(prefix)
    return None
