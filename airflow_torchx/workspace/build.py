"""Finding, building and pushing workspace images."""

from __future__ import annotations

import contextlib
import logging
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from airflow_torchx.concurrency import host_lock
from airflow_torchx.concurrency.parallel import StopRequested
from airflow_torchx.core.engine import labels
from airflow_torchx.core.engine.amounts import counted, size
from airflow_torchx.core.engine.images import BuildSpec
from airflow_torchx.core.workspace import recipe as core
from airflow_torchx.core.workspace.dockerfile import buildkit_reason
from airflow_torchx.errors import EngineConflictError, EngineError
from airflow_torchx.runtime.phases import phase
from airflow_torchx.workspace.content import read_small_file
from airflow_torchx.workspace.context import tar_stream
from airflow_torchx.workspace.dockerignore import IGNORE_FILE, Ignore
from airflow_torchx.workspace.layers import Layers
from airflow_torchx.workspace.progress import byte_counter

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_torchx.core.engine.images import ImageDetail
    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.core.plan.options import Opts
    from airflow_torchx.workspace.progress import Report

_log = logging.getLogger(__name__)

#: A generated Dockerfile, for a base to which files cannot be added by a commit.
_COPY_DOCKERFILE: Final = ".airflow-torchx.Dockerfile"


@dataclass(frozen=True, kw_only=True)
class ImageBuilder:
    """Builds the workspace images of one daemon.

    ``should_stop`` is called several times a second; True cancels a build with `StopRequested`.
    """

    engine: Engine
    opts: Opts
    report: Report
    daemon_id: str = ""
    should_stop: Callable[[], bool] = lambda: False

    def find(self, recipe: core.Recipe) -> str | None:
        """Return the name of the local image of a recipe; None if there is none."""
        names = (core.local_tag(recipe.key), self._published_name(recipe))
        return next((name for name in names if name and self.engine.images.inspect(name)), None)

    def ensure(self, recipe: core.Recipe, base: ImageDetail, found: str | None) -> str:
        """Return the name of the image of a recipe, and build and push it if necessary.

        With ``image_repo``, the image is in that repository, and this is its name there. ``found``
        is the result of `find`.

        Raises:
            ImageBuildError: a step of the workspace's Dockerfile failed.
            ImagePushError: the push failed; the image stays on this daemon.
            WorkspaceError: a file has changed since it was hashed.
            StopRequested: ``should_stop`` returned True.
        """
        published = self._published_name(recipe)
        if found is not None:
            self.report.tell(f"workspace image {found} is up to date")
        elif (
            published
            and self.opts.pull_policy != "never"
            and self.engine.images.is_published(published)
        ):
            self.report.tell(f"workspace image {published} is already in its registry")
            return published
        name = found or self._build_once(recipe, base)
        return self.push(name, published) if published else name

    def push(self, local: str, name: str) -> str:
        """Push an image with a name, unless the registry has it, and return the name.

        Raises:
            ImagePushError: the push failed; the image keeps its previous names.
        """
        images = self.engine.images
        is_new = images.inspect(name) is None
        if images.is_published(name):
            if is_new:
                images.tag(local, name)
            self.report.tell(f"image {name} is already in its registry")
            return name
        step = f"pushing image {name}"
        self.report.step(step)
        images.tag(local, name)
        try:
            with phase("push", image=name):
                images.push(name, self._on_line(lambda line: self.report.move(f"{step}: {line}")))
        except BaseException:
            if is_new:
                with contextlib.suppress(EngineError):
                    images.untag(name)
            raise
        self.report.tell(f"pushed image {name}")
        return name

    def _published_name(self, recipe: core.Recipe) -> str | None:
        return f"{self.opts.image_repo}:{recipe.key}" if self.opts.image_repo else None

    def _build_once(self, recipe: core.Recipe, base: ImageDetail) -> str:
        """Build an image unless another process does; one at a time per workspace and host."""
        own_key, same_key = (
            f"{self.daemon_id}\0{one}" for one in (recipe.workspace_id, recipe.key)
        )
        tag = core.local_tag(recipe.key)
        with (
            host_lock.held("workspace", own_key, should_stop=self.should_stop) as locked,
            # Two workspaces with the same content give two images with one name.
            host_lock.held("image", same_key, should_stop=self.should_stop),
        ):
            if self.find(recipe):
                self.report.tell(f"workspace image {tag} was just built by another process")
                return tag
            name = f"{core.BUILD_PREFIX}{host_lock.scope()}-{recipe.workspace_id}"
            name = name if locked else f"{name}-{secrets.token_hex(4)}"
            with phase("build", image=tag):
                self._build_image(recipe, base, name)
            self._prune(recipe)
        files = f"{counted(recipe.file_count, 'file')}, {size(recipe.size_bytes)}"
        self.report.tell(f"built workspace image {tag}: {files}")
        return tag

    def _build_image(self, recipe: core.Recipe, base: ImageDetail, name: str) -> None:
        layers = Layers(
            engine=self.engine, name=name, report=self.report, should_stop=self.should_stop
        )
        if recipe.dockerfile is not None:
            self._run_build(recipe, recipe.dockerfile, core.DOCKERFILE)
        elif core.can_be_layered(base, recipe.directory):
            layers.build(recipe, base)
        else:
            text = core.copy_dockerfile(recipe.directory, *layers.owner(base))
            self._run_build(recipe, text, _COPY_DOCKERFILE)

    def _run_build(self, recipe: core.Recipe, dockerfile: bytes, path: str) -> None:
        """Build a Dockerfile, either the workspace's own or a generated one."""
        is_own = path == core.DOCKERFILE
        secrets_ = tuple(self.opts.build_secrets) if is_own else ()
        self.report.step(f"building {path}, {size(recipe.size_bytes)} of context")
        on_bytes = byte_counter(
            self.report, "sending the context", recipe.size_bytes, self.should_stop
        )
        self.engine.images.build(
            BuildSpec(
                tag=core.local_tag(recipe.key),
                dockerfile=path,
                args={"IMAGE": recipe.base, **(recipe.build_args if is_own else {})},
                labels=recipe.labels(0),
                target=recipe.target if is_own else None,
                secrets=secrets_,
                buildkit=buildkit_reason(dockerfile.decode("utf-8", "replace"), secrets_),
            ),
            tar_stream(recipe.entries, extra=_extra(recipe, path, dockerfile), on_bytes=on_bytes),
            self._on_line(lambda line: self.report.line(f"building: {line}")),
        )

    def _prune(self, recipe: core.Recipe) -> None:
        """Remove old images of the workspace that have no containers."""
        rows = self.engine.images.rows({labels.WORKSPACE_ID: recipe.workspace_id})
        for row in core.surplus(rows, self.opts.keep_images, recipe.key):
            for tag in core.own_tags(row):
                try:
                    self.engine.images.untag(tag)
                except EngineConflictError:
                    _log.debug("keeping old workspace image %s: it is in use", tag)
                except EngineError as error:
                    _log.warning("cannot remove old workspace image %s: %s", tag, error)
                else:
                    self.report.step(f"removed old workspace image {tag}")

    def _on_line(self, show: Callable[[str], None]) -> Callable[[str], None]:
        """Return a callback for the daemon's lines, which raises `StopRequested` when asked to."""

        def on_line(line: str) -> None:
            if self.should_stop():
                raise StopRequested
            if line:
                show(line)

        return on_line


def _extra(recipe: core.Recipe, path: str, dockerfile: bytes) -> dict[str, bytes]:
    """Return the files to add to the context: the Dockerfile, and a ``.dockerignore`` if needed.

    The Engine itself removes what the ``.dockerignore`` in the root ignores. That must be neither
    less, or the Dockerfile gets into the image, nor more, as files of other parts.
    """
    entries = {entry.path: entry for entry in recipe.entries}
    rules = entries.get(IGNORE_FILE)
    not_in_image = [] if path in entries else [path]
    if rules is None:
        needs_own = bool(not_in_image)
    else:
        ignore = Ignore(read_small_file(rules.source))
        needs_own = any(ignore.ignores(one.path) for one in recipe.entries if one.kind != "dir")
    own = "\n".join([IGNORE_FILE, *not_in_image, ""]).encode()
    return {path: dockerfile, **({IGNORE_FILE: own} if needs_own else {})}
