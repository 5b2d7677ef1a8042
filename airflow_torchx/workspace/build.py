"""Workspace images: found if nothing changed, else one small layer, else built; then pushed."""

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
from airflow_torchx.workspace.context import tar_stream
from airflow_torchx.workspace.dockerignore import IGNORE_FILE
from airflow_torchx.workspace.layers import Layers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_torchx.core.engine.images import ImageDetail
    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.core.plan.options import Opts
    from airflow_torchx.workspace.progress import Report

_log = logging.getLogger(__name__)

#: A Dockerfile of ours, for a base that cannot be layered.
_COPY_DOCKERFILE: Final = ".airflow-torchx.Dockerfile"


@dataclass(frozen=True, kw_only=True)
class ImageBuilder:
    """Makes the workspace images of one daemon.

    Args:
        engine: the daemon.
        opts: the run options; those on images count.
        report: takes what there is to say.
        daemon_id: the daemon's own identity.
        should_stop: asked several times a second; True raises `StopRequested`, and nothing is left.
    """

    engine: Engine
    opts: Opts
    report: Report
    daemon_id: str = ""
    should_stop: Callable[[], bool] = lambda: False

    def find(self, recipe: core.Recipe) -> str | None:
        """Return the name of an image that is made of exactly this; None if there is none."""
        names = [core.local_tag(recipe.key), *self._published_names(recipe)]
        return next((name for name in names if self.engine.find_image(name)), None)

    def ensure(self, recipe: core.Recipe, base: ImageDetail, found: str | None) -> str:
        """Return the name of an image that is made of exactly this, after making it if need be.

        With ``image_repo`` it is in that repository, and the name is the one it has there.

        Args:
            recipe: what it is made of.
            base: the image below.
            found: what `find` returned.

        Raises:
            ImageBuildError: a step of the workspace's Dockerfile failed.
            ImagePushError: it cannot be pushed; it stays on this daemon.
            WorkspaceError: a file changed meanwhile.
            StopRequested: ``should_stop`` returned True.
        """
        name = found
        published = self._published_names(recipe)
        if name is not None:
            self.report.tell(f"workspace image {name}: nothing changed, nothing to build")
        elif self.opts.pull_policy != "never" and self._any_published(published):
            self.report.tell(f"workspace image {published[0]} is in its registry: nothing to build")
            return published[0]
        else:
            name = self._make_once(recipe, base)
        return self.push(name, published[0]) if published else name

    def push(self, local: str, name: str) -> str:
        """Push an image under a name, unless the registry has that name; return the name.

        Raises:
            ImagePushError: it cannot be pushed; the image keeps the names it had.
        """
        images = self.engine.images
        is_new = self.engine.find_image(name) is None
        if images.is_published(name):
            if is_new:
                images.tag(local, name)
            self.report.tell(f"image {name} is in its registry: nothing to push")
            return name
        self.report.step(f"pushing image {name}")
        images.tag(local, name)
        try:
            images.push(name, self._moved(f"pushing image {name}"))
        except BaseException:
            if is_new:
                with contextlib.suppress(EngineError):
                    images.untag(name)
            raise
        self.report.tell(f"pushed image {name}")
        return name

    def _published_names(self, recipe: core.Recipe) -> tuple[str, ...]:
        return (f"{self.opts.image_repo}:{recipe.key}",) if self.opts.image_repo else ()

    def _any_published(self, names: Sequence[str]) -> bool:
        return any(self.engine.images.is_published(name) for name in names)

    def _make_once(self, recipe: core.Recipe, base: ImageDetail) -> str:
        """Make an image unless somebody else does; this host makes one of a workspace at a time."""
        own, same = (f"{self.daemon_id}\0{one}" for one in (recipe.workspace_id, recipe.key))
        tag = core.local_tag(recipe.key)
        with (
            host_lock.held("workspace", own, should_stop=self.should_stop) as locked,
            # Another workspace may have the same content: two images of one name, one of them lost.
            host_lock.held("image", same, should_stop=self.should_stop),
        ):
            if self.find(recipe):
                self.report.tell(f"workspace image {tag}: somebody else has just built it")
                return tag
            name = f"torchx-build-{host_lock.scope()}-{recipe.workspace_id}"
            self._make(recipe, base, name if locked else f"{name}-{secrets.token_hex(4)}")
            self._prune(recipe)
        held = f"{counted(len(recipe.entries), 'file')}, {size(recipe.size_bytes)}"
        self.report.tell(f"built workspace image {tag}: {held}")
        return tag

    def _make(self, recipe: core.Recipe, base: ImageDetail, name: str) -> None:
        layers = Layers(
            engine=self.engine, name=name, report=self.report, should_stop=self.should_stop
        )
        if recipe.dockerfile is not None:
            self._build(recipe, recipe.dockerfile, core.DOCKERFILE)
        elif core.can_be_layered(base, recipe.directory):
            layers.make(recipe, base)
        else:
            text = core.copy_dockerfile(recipe.directory, *layers.owner(base))
            self._build(recipe, text, _COPY_DOCKERFILE)

    def _build(self, recipe: core.Recipe, dockerfile: bytes, path: str) -> None:
        """Build a Dockerfile, the workspace's own or ours."""
        is_own = path == core.DOCKERFILE
        secrets_ = tuple(self.opts.build_secrets) if is_own else ()
        self.report.step(f"building {path}, {size(recipe.size_bytes)} of context")
        done = 0

        def moved(count: int) -> None:
            nonlocal done
            done += count
            if self.should_stop():
                raise StopRequested
            self.report.move("sending the context", done, recipe.size_bytes)

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
            tar_stream(recipe.entries, extra=_extra(recipe, path, dockerfile), on_bytes=moved),
            self._moved("building"),
        )

    def _prune(self, recipe: core.Recipe) -> None:
        """Remove old images of the workspace; one that a container uses stays."""
        rows = self.engine.images.rows({labels.WORKSPACE_ID: recipe.workspace_id})
        for row in core.surplus(rows, self.opts.keep_images, recipe.key):
            for tag in core.own_tags(row):
                try:
                    self.engine.images.untag(tag)
                except EngineConflictError:
                    _log.debug("image %s is in use and stays", tag)
                except EngineError as why:
                    _log.warning("cannot remove old workspace image %s: %s", tag, why)
                else:
                    self.report.step(f"removed old workspace image {tag}")

    def _moved(self, what: str) -> Callable[[str], None]:
        """Return what takes a line of the daemon's progress."""

        def moved(line: str) -> None:
            if self.should_stop():
                raise StopRequested
            if line:
                self.report.move(f"{what}: {line}")

        return moved


def _extra(recipe: core.Recipe, path: str, dockerfile: bytes) -> dict[str, bytes]:
    """Return what the context has besides the files: a Dockerfile that is none of them.

    The Engine takes it out of the context again if ``.dockerignore`` says so, as it does for files
    that the docker command line sends although they are ignored.
    """
    paths = {entry.path for entry in recipe.entries}
    if path in paths:
        return {path: dockerfile}
    ignore = {} if IGNORE_FILE in paths else {IGNORE_FILE: f"{IGNORE_FILE}\n{path}\n".encode()}
    return {path: dockerfile, **ignore}
