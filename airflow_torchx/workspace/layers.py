"""Adding files by a commit: all files to the base, or changed files to the last image."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from airflow_torchx.core.engine import labels
from airflow_torchx.core.engine.amounts import counted, size
from airflow_torchx.core.workspace import recipe as core
from airflow_torchx.core.workspace.tree import Entry
from airflow_torchx.errors import EngineConflictError, EngineError, EngineNotFoundError
from airflow_torchx.workspace import manifests
from airflow_torchx.workspace.context import tar_stream
from airflow_torchx.workspace.progress import byte_counter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from airflow_torchx.core.engine.images import ImageDetail, ImageRow
    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.workspace.progress import Report

# 100,000 files take about 12 MB. With a larger manifest, all files are added to the base.
_MAX_MANIFEST_BYTES: Final = 64 << 20
_MAX_ACCOUNTS_BYTES: Final = 16 << 20


@dataclass(frozen=True, kw_only=True)
class Layers:
    """Adds the files of one workspace to an image.

    The temporary container is called ``name``; an existing one with this name is removed.
    """

    engine: Engine
    name: str
    report: Report
    should_stop: Callable[[], bool]

    def build(self, recipe: core.Recipe, base: ImageDetail) -> None:
        """Create the image of a recipe, as a small layer on the last image if possible.

        Raises:
            WorkspaceError: a file has changed since it was hashed.
            StopRequested: ``should_stop`` returned True.
        """
        if self._add_to_last(recipe, base):
            return
        files = f"{counted(recipe.file_count, 'file')} ({size(recipe.size_bytes)})"
        self.report.step(f"adding {files} to {recipe.base}")
        with self._container(recipe.base_id, recipe.labels(1)) as container_id:
            self._commit_files(container_id, recipe, base, recipe.entries)

    def owner(self, base: ImageDetail) -> tuple[int, int]:
        """Return the user id and group id that containers of an image run as."""
        with self._container(base.id, {}) as container_id:
            return self._owner(container_id, base)

    def _add_to_last(self, recipe: core.Recipe, base: ImageDetail) -> bool:
        rows = self.engine.images.rows({labels.WORKSPACE_ID: recipe.workspace_id})
        last = core.parent_of(rows, recipe)
        if last is None:
            return False
        depth = core.depth_of(last) + 1
        with self._container(last.id, recipe.labels(depth)) as container_id:
            before = self._manifest_of(last, recipe, container_id)
            changed = None if before is None else core.changes(before, recipe.entries)
            if changed is None or not core.is_small(changed, recipe):
                return False
            count = core.count_files(changed)
            what = counted(count, "changed file") if count else "changed folders"
            self.report.step(f"adding {what} to the last workspace image")
            self._commit_files(container_id, recipe, base, changed)
        return True

    def _manifest_of(self, image: ImageRow, recipe: core.Recipe, container_id: str) -> bytes | None:
        """Return the manifest of the last image, from the cache or from a container of it."""
        known = manifests.load(recipe.workspace_id)
        if known and recipe.is_manifest_of(known, image.labels[labels.WORKSPACE_KEY]):
            return known
        try:
            return self.engine.images.read_file(
                container_id, f"/{core.MANIFEST}", _MAX_MANIFEST_BYTES
            )
        except (EngineNotFoundError, ValueError):
            return None

    def _commit_files(
        self,
        container_id: str,
        recipe: core.Recipe,
        base: ImageDetail,
        entries: Sequence[Entry],
    ) -> None:
        """Add files to a container, and commit it."""
        uid, gid = self._owner(container_id, base)
        total = sum(entry.size_bytes for entry in entries)
        manifest = core.manifest(recipe.entries)
        root = () if base.working_dir.strip("/") else (Entry(path="", kind="dir", mode=0o755),)
        files = tar_stream(
            (*root, *entries),
            prefix=recipe.directory.strip("/"),
            uid=uid,
            gid=gid,
            extra={core.MANIFEST: manifest},
            on_bytes=byte_counter(self.report, "sending files", total, self.should_stop),
        )
        self.engine.images.put_files(container_id, files)
        tag = core.local_tag(recipe.key)
        # A process that does not share our locks may have been faster, and would lose the tag.
        if self.engine.images.inspect(tag) is None:
            self.engine.images.commit(container_id, tag, recipe.directory)
        manifests.save(recipe.workspace_id, manifest)

    def _owner(self, container_id: str, base: ImageDetail) -> tuple[int, int]:
        if not base.user:
            return 0, 0
        texts = []
        for path in ("/etc/passwd", "/etc/group"):
            try:
                content = self.engine.images.read_file(container_id, path, _MAX_ACCOUNTS_BYTES)
            except (EngineNotFoundError, ValueError):
                content = b""
            texts.append(content.decode("utf-8", "replace"))
        return core.owner(base.user, *texts) or (0, 0)

    @contextlib.contextmanager
    def _container(self, ref: str, image_labels: Mapping[str, str]) -> Iterator[str]:
        """Create a container of an image, and remove it on exit."""
        try:
            container_id = self.engine.images.prepare(ref, self.name, image_labels)
        except EngineConflictError:
            # Left behind by a killed process; we hold the lock.
            self.engine.images.discard(self.name)
            container_id = self.engine.images.prepare(ref, self.name, image_labels)
        try:
            yield container_id
        except BaseException:
            with contextlib.suppress(EngineError):
                self.engine.images.discard(container_id)
            raise
        self.engine.images.discard(container_id)
