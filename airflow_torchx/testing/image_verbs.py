"""The Images protocol in memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from airflow_torchx.core.engine.containers import ContainerSpec
from airflow_torchx.core.engine.images import BuildSpec, ImageDetail
from airflow_torchx.errors import ImageBuildError
from airflow_torchx.testing.container import FakeContainer
from airflow_torchx.testing.files import Content, unpack
from airflow_torchx.testing.images import FakeImage
from airflow_torchx.testing.output import NS_PER_S
from airflow_torchx.testing.program import Program

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from airflow_torchx.core.engine.images import ImageRow
    from airflow_torchx.testing.calls import Calls
    from airflow_torchx.testing.containers import FakeContainers
    from airflow_torchx.testing.images import FakeImages

#: Called in place of a build with its spec and the files of its context; may raise.
Builder: TypeAlias = "Callable[[BuildSpec, dict[str, bytes]], object]"


@dataclass(frozen=True, kw_only=True, eq=False)
class FakeImageVerbs:
    """The images of a fake daemon; implements `core.engine.protocol.Images`."""

    calls: Calls
    store: FakeImages
    containers: FakeContainers
    builder: Callable[[], Builder | None]

    def rows(self, labels: Mapping[str, str | None]) -> tuple[ImageRow, ...]:
        """See `Images.rows`."""
        with self.calls.verb("image_rows"):
            return tuple(self.store.labelled(labels))

    def inspect(self, ref: str) -> ImageDetail | None:
        """See `Images.inspect`."""
        with self.calls.verb("image_inspect", ref):
            found = self.store.find(ref)
            return None if found is None else found.detail

    def pull(self, ref: str, on_progress: Callable[[str], None]) -> None:
        """See `Images.pull`."""
        with self.calls.verb("pull", ref):
            self.store.pull(ref)
        on_progress(f"pulled {ref}")

    def prepare(self, ref: str, name: str, labels: Mapping[str, str]) -> str:
        """See `Images.prepare`."""
        spec = ContainerSpec(
            role="",
            replica=0,
            name=name,
            image=ref,
            entrypoint="",
            args=(),
            env={},
            labels=dict(labels),
            network="none",
        )
        with self.calls.verb("prepare", name):
            id_, image = self.calls.new_id("container"), self.store.get(ref)
            created = FakeContainer(id_, spec, image, (Program(),), self.calls.now_ns())
            self.containers.add(created)
            return created.id

    def put_files(self, container_id: str, files: Iterable[bytes], *, replace: bool = True) -> None:
        """See `Images.put_files`; a tar that fails adds no file."""
        with self.calls.on("put_files", container_id):
            self.containers.get(container_id)
            with self.calls.unlocked():
                archive = b"".join(files)
            container = self.containers.get(container_id)
            container.files = unpack(archive, container.files, replace=replace)

    def read_file(self, container_id: str, path: str, max_bytes: int) -> bytes:
        """See `Images.read_file`."""
        with self.calls.on("read_file", container_id):
            return self.containers.get(container_id).read_file(path, max_bytes)

    def discard(self, container_id: str) -> None:
        """See `Images.discard`."""
        with self.calls.on("remove", container_id) as container:
            if container is not None:
                self.containers.remove(container, self.calls.now_ns())

    def commit(self, container_id: str, tag: str, working_dir: str) -> str:
        """See `Images.commit`."""
        with self.calls.on("commit", container_id):
            container = self.containers.get(container_id)
            base, id_ = container.image, self._new_id()
            image = FakeImage(
                detail=replace(base.detail, id=id_, working_dir=working_dir),
                created_s=self._now_s(),
                labels=container.labels,
                files=container.files,
                parent=base.id,
            )
            self.store.add(image, tag)
            return id_

    def build(
        self, spec: BuildSpec, context: Iterable[bytes], on_line: Callable[[str], None]
    ) -> str:
        """See `Images.build`; calls the test's builder in place of a real build."""
        with self.calls.verb("build", spec.tag):
            with self.calls.unlocked():
                files = unpack(b"".join(context))
                self._run_builder(spec, files)
                on_line(f"built {spec.tag}")
            image = FakeImage(
                detail=ImageDetail(id=self._new_id()),
                created_s=self._now_s(),
                labels=dict(spec.labels),
                files=files,
            )
            self.store.add(image, spec.tag)
            return image.id

    def tag(self, ref: str, tag: str) -> None:
        """See `Images.tag`."""
        with self.calls.verb("tag", ref, tag):
            self.store.add(self.store.get(ref), tag)

    def untag(self, tag: str) -> None:
        """See `Images.untag`."""
        with self.calls.verb("untag", tag):
            self.store.untag(tag, {container.image.id for container in self.containers})

    def push(self, tag: str, on_progress: Callable[[str], None]) -> None:
        """See `Images.push`."""
        with self.calls.verb("push", tag):
            self.store.push(tag)
        on_progress(f"pushed {tag}")

    def is_published(self, tag: str) -> bool:
        """See `Images.is_published`."""
        with self.calls.verb("is_published", tag):
            return self.store.is_published(tag)

    def _run_builder(self, spec: BuildSpec, files: Mapping[str, Content]) -> None:
        run = self.builder()
        if run is None:
            raise ImageBuildError(
                f"cannot build image {spec.tag!r}: a FakeEngine does not run Dockerfiles.",
                fix="Pass FakeEngine(builds=...), or test this on a real daemon.",
            )
        run(spec, {p.lstrip("/"): data for p, data in files.items() if isinstance(data, bytes)})

    def _new_id(self) -> str:
        return f"sha256:{self.calls.new_id('image')}"

    def _now_s(self) -> float:
        return float(self.calls.now_ns() // NS_PER_S)
