"""The images of a fake daemon and of its registries."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from airflow_torchx.core.engine.images import ImageDetail, ImageRow
from airflow_torchx.errors import (
    EngineConflictError,
    EngineNotFoundError,
    ImagePullError,
    ImagePushError,
)
from airflow_torchx.testing.files import FOLDERS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from airflow_torchx.testing.files import Content

_SHORT_ID: Final = 12


@dataclass(frozen=True, kw_only=True, slots=True)
class FakeImage:
    """One image with all its files; ``parent`` is the id of its parent image, or ""."""

    detail: ImageDetail
    created_s: float
    labels: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, Content] = field(default_factory=lambda: FOLDERS)
    parent: str = ""

    @property
    def id(self) -> str:
        """Return its id."""
        return self.detail.id


class FakeImages:
    """Images and their names; a push adds a name to ``published``. Not thread-safe."""

    def __init__(self, pullable: Iterable[str], published: set[str], created_s: float) -> None:
        self._by_id: dict[str, FakeImage] = {}
        #: Name to id.
        self._ids: dict[str, str] = {}
        self._pullable = {full_name(ref) for ref in pullable}
        self._published = published
        self._pushed: dict[str, FakeImage] = {}
        self._created_s = created_s

    def preload(self, ref: str, detail: ImageDetail | None = None) -> None:
        """Add an image that was not built here."""
        detail = detail or ImageDetail(id="")
        detail = replace(detail, id=detail.id or image_id(ref))
        self.add(FakeImage(detail=detail, created_s=self._created_s), ref)

    def add(self, image: FakeImage, tag: str) -> None:
        """Add an image with a tag; another image with that tag loses it."""
        self._by_id[image.id] = image
        self._ids[full_name(tag)] = image.id

    def find(self, ref: str) -> FakeImage | None:
        """Return an image by name, id, or short id."""
        digits = ref.removeprefix("sha256:")
        if name_id := self._ids.get(full_name(ref)):
            return self._by_id[name_id]
        return next(
            (
                image
                for id_, image in self._by_id.items()
                if len(digits) >= _SHORT_ID and id_.startswith(f"sha256:{digits}")
            ),
            None,
        )

    def get(self, ref: str) -> FakeImage:
        """Return an image.

        Raises:
            EngineNotFoundError: it does not exist.
        """
        found = self.find(ref)
        if found is None:
            what = f"no such image: {ref}."
            raise EngineNotFoundError(what, fix="Pull or build it first.", status=404)
        return found

    def labelled(self, labels: Mapping[str, str | None]) -> Iterator[ImageRow]:
        """Yield the images with all these labels, the newest first; None matches any value.

        As in Docker, untagged parents of other images are not listed.
        """
        for image in sorted(self._by_id.values(), key=lambda image: -image.created_s):
            own, tags = image.labels, self._names(image.id)
            is_listed = tags or not self._has_children(image.id)
            if is_listed and all(k in own and v in (None, own[k]) for k, v in labels.items()):
                yield ImageRow(id=image.id, tags=tags, labels=own, created_s=image.created_s)

    def untag(self, ref: str, used: Collection[str]) -> None:
        """Remove a tag, and the image and its parents if they have no other tag.

        An image with at most one tag can be removed by its id. The images with the ids in ``used``
        have containers.

        Raises:
            EngineConflictError: it is the last tag of an image that has containers.
        """
        image, name = self.find(ref), full_name(ref)
        if image is None:
            return
        names = self._names(image.id)
        if image.id in used and len(names) <= 1:
            what = f"cannot remove image {ref!r}: a container is using it."
            raise EngineConflictError(what, fix="Remove the container first.", status=409)
        if name not in names:
            if len(names) > 1 or self._has_children(image.id):
                what = f"cannot remove image {ref!r}: it has several names, or children."
                raise EngineConflictError(what, fix="Remove those first.", status=409)
            name = next(iter(names), name)
        self._ids.pop(name, None)
        while image and not self._names(image.id) and not self._has_children(image.id):
            if image.id in used:
                return
            del self._by_id[image.id]
            image = self._by_id.get(image.parent)

    def pull(self, ref: str) -> None:
        """Pull an image from a registry.

        Raises:
            ImagePullError: no registry has it.
        """
        name = full_name(ref)
        if name in self._pushed:
            self.add(self._pushed[name], name)
        elif name in self._pullable or self.is_published(name):
            self.preload(ref)
        else:
            what = f"cannot pull image {ref}: manifest for {name} not found."
            raise ImagePullError(what, fix="Add it to FakeEngine(pullable=...).", status=404)

    def push(self, tag: str) -> None:
        """Push an image to its registry.

        Raises:
            ImagePushError: it does not exist.
        """
        image = self.find(tag)
        if image is None:
            what = f"cannot push image {tag}: an image does not exist locally with the tag."
            raise ImagePushError(what, fix="Build or tag it first.", status=404)
        self._pushed[full_name(tag)] = image
        self._published.add(full_name(tag))

    def is_published(self, tag: str) -> bool:
        """Return whether the registry has an image."""
        return full_name(tag) in {full_name(name) for name in self._published}

    def _names(self, id_: str) -> tuple[str, ...]:
        return tuple(sorted(name for name, named in self._ids.items() if named == id_))

    def _has_children(self, id_: str) -> bool:
        return any(image.parent == id_ for image in self._by_id.values())


def full_name(ref: str) -> str:
    """Return an image's name with a tag and without the default registry."""
    name = ref.removeprefix("docker.io/").removeprefix("library/")
    tagged = "@" in name or ":" in name.rpartition("/")[2]
    return name if tagged else f"{name}:latest"


def image_id(ref: str) -> str:
    """Return the id of an image that was not built here."""
    return f"sha256:{hashlib.sha256(full_name(ref).encode()).hexdigest()}"
