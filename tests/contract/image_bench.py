"""A bench for the contract tests of an engine's images, fake or real."""

from __future__ import annotations

import io
import itertools
import tarfile
from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_torchx.core.engine import labels
from tests.contract.script import Script

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from airflow_torchx.core.engine.images import ImageDetail, ImageRow
    from tests.contract.bench import Bench


class ImageBench:
    """Creates images that are removed when the test ends."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.engine = bench.engine
        self.images = bench.engine.images
        self.label = {labels.APP_ID: bench.app_id}
        self._numbers = itertools.count()

    def name(self, word: str) -> str:
        """Return an image name that is unique to this test."""
        return f"airflow-torchx/{self.bench.app_id}:{word}"

    def prepare(self, ref: str = "", more: Mapping[str, str] | None = None) -> str:
        """Prepare a container of an image, by default of the image of all tests."""
        name = f"{self.bench.app_id}-prepared-{next(self._numbers)}"
        return self.images.prepare(ref or self.bench.image, name, {**self.label, **(more or {})})

    def make(
        self,
        word: str,
        files: Mapping[str, bytes],
        ref: str = "",
        more: Mapping[str, str] | None = None,
    ) -> str:
        """Build an image from another one and some files, and return its id."""
        container_id = self.prepare(ref, more)
        self.images.put_files(container_id, [tar(files)])
        image_id = self.images.commit(container_id, self.name(word), "/")
        self.engine.remove(container_id)
        return image_id

    def container(self, ref: str) -> str:
        """Create a container of an image as an app does."""
        return self.bench.create(replace(self.bench.spec(Script()), image=ref))

    def read(self, ref: str, path: str) -> bytes:
        """Return the content of a file of an image."""
        container_id = self.container(ref)
        content = self.engine.read_file(container_id, path, 1_000_000)
        self.engine.remove(container_id)
        return content

    def rows(self) -> dict[str, ImageRow]:
        """Return the rows of the images of this test by id."""
        return {row.id: row for row in self.images.rows(self.label)}

    def detail(self, ref: str) -> ImageDetail:
        """Return the detail of an existing image."""
        found = self.images.inspect(ref)
        assert found is not None
        return found

    def clear(self) -> None:
        """Remove everything that the test created, and check that nothing remains."""
        for container in self.bench.rows():
            self.engine.remove(container.id)
        for row in self.rows().values():
            for name in row.tags or (row.id,):
                self.images.untag(name)

        assert {} == self.rows()


def tar(files: Mapping[str, bytes | str | None]) -> bytes:
    """Return a tar of files; a str is the target of a link, None creates a folder."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for path, content in files.items():
            member = tarfile.TarInfo(path)
            if content is None:
                member.type, member.mode = tarfile.DIRTYPE, 0o755
            elif isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
            else:
                member.size = len(content)
            data = content if isinstance(content, bytes) else b""
            archive.addfile(member, io.BytesIO(data))
    return packed.getvalue()


def pieces(archive: bytes, size: int) -> Iterator[bytes]:
    """Yield an archive in pieces, some of them empty."""
    for start in range(0, len(archive), size):
        yield archive[start : start + size]
        yield b""


def broken(archive: bytes, error: BaseException) -> Iterable[bytes]:
    """Yield the first half of an archive, then raise an error."""
    yield archive[: len(archive) // 2]
    raise error
