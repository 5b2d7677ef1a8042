"""Creating images from containers, and tagging them."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from airflow_torchx.core.engine import labels
from airflow_torchx.errors import (
    EngineConflictError,
    EngineError,
    EngineNotFoundError,
    WorkspaceError,
)
from tests.contract.image_bench import ImageBench, broken, pieces, tar

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.contract.bench import Bench

KEY = "airflow-torchx.test/key"
OTHER = "airflow-torchx.test/other"


@pytest.fixture
def images(bench: Bench) -> Iterator[ImageBench]:
    """Return a bench for images that removes all of them at the end."""
    made = ImageBench(bench)
    yield made
    made.clear()


# Finding images.


def test_rows(images: ImageBench) -> None:
    """An image is found by its labels, and its row has its tags, labels and creation time."""
    before = time.time()
    image_id = images.make("a", {}, more={KEY: "1"})

    row = images.rows()[image_id]

    assert (images.name("a"),) == row.tags
    assert "1" == row.labels[KEY]
    assert before - 1 <= row.created_s <= time.time()


def test_rows_by_label(images: ImageBench) -> None:
    """Images are filtered by all given labels, by value or by presence."""
    one, two = (images.make(value, {}, more={KEY: value}) for value in ("1", "2"))
    label = images.label

    assert {one, two} == {row.id for row in images.images.rows({**label, KEY: None})}
    assert [one] == [row.id for row in images.images.rows({**label, KEY: "1"})]
    assert () == images.images.rows({**label, KEY: "3"})
    assert () == images.images.rows({**label, KEY: "1", OTHER: None})


def test_inspect(images: ImageBench) -> None:
    """An image can be inspected by name or id."""
    image_id = images.make("a", {})

    for ref in (images.name("a"), image_id, image_id.removeprefix("sha256:")[:12]):
        assert image_id == images.detail(ref).id


def test_inspect_missing_image(images: ImageBench) -> None:
    """Inspecting a missing image gives None."""
    assert images.images.inspect(images.name("missing")) is None


def test_find_image(images: ImageBench) -> None:
    """A committed image is found like a pulled one."""
    image_id = images.make("a", {})

    assert image_id == images.engine.find_image(images.name("a"))
    assert image_id == images.engine.find_image(image_id)


# Creating images.


def test_prepare(images: ImageBench) -> None:
    """A prepared container has its labels and does not run."""
    container_id = images.prepare(more={KEY: "1"})

    row = images.bench.row(container_id)

    assert ("created", "1") == (row.state, row.labels[KEY])


def test_prepare_by_id(images: ImageBench) -> None:
    """A container can be prepared from an untagged image."""
    image_id = images.make("a", {"x": b"1"})
    images.make("a", {"x": b"2"})

    assert b"1" == images.engine.read_file(images.prepare(image_id), "/x", 10)


def test_prepare_twice(images: ImageBench) -> None:
    """A second container with the same name is refused."""
    name = f"{images.bench.app_id}-same"
    images.images.prepare(images.bench.image, name, images.label)

    with pytest.raises(EngineConflictError, match=name):
        images.images.prepare(images.bench.image, name, images.label)

    assert [name] == [row.name for row in images.bench.rows()]


def test_prepare_from_missing_image(images: ImageBench) -> None:
    """A container cannot be prepared from a missing image."""
    with pytest.raises(EngineNotFoundError, match="missing"):
        images.prepare(images.name("missing"))

    assert () == images.bench.rows()


def test_put_files(images: ImageBench) -> None:
    """Uploaded files are in the container, including missing parent folders."""
    container_id = images.prepare()

    images.images.put_files(container_id, [tar({"x": b"1", "deep/down/y": b"\xff\x00"})])

    assert b"1" == images.engine.read_file(container_id, "/x", 10)
    assert b"\xff\x00" == images.engine.read_file(container_id, "/deep/down/y", 10)
    with pytest.raises(ValueError, match="/deep"):
        images.engine.read_file(container_id, "/deep", 10)


@pytest.mark.parametrize("size", [100, 512, 100_000, 10_000_000])
def test_pieces(images: ImageBench, size: int) -> None:
    """A tar may be sent in pieces of any size, and an empty piece does not end it."""
    content = bytes(range(256)) * 10_000
    container_id = images.prepare()
    archive = tar({"x": content if size > 1000 else content[:50_000], "y": b"1"})

    images.images.put_files(container_id, pieces(archive, size))

    found = images.engine.read_file(container_id, "/x", len(content))
    assert content[: len(found)] == found
    assert b"1" == images.engine.read_file(container_id, "/y", 10)


def test_many_files(images: ImageBench) -> None:
    """Ten thousand files can be uploaded at once."""
    files = {f"many/{number % 100}/{number}": b"%d" % number for number in range(10_000)}

    images.make("many", files)

    container_id = images.container(images.name("many"))
    for number in (0, 4_711, 9_999):
        path = f"/many/{number % 100}/{number}"
        assert b"%d" % number == images.engine.read_file(container_id, path, 10)


def test_no_files(images: ImageBench) -> None:
    """An empty tar is accepted."""
    image_id = images.make("a", {})

    assert image_id in images.rows()


@pytest.mark.parametrize(
    "error",
    [
        WorkspaceError("changed"),
        PermissionError(13, "denied"),
        BrokenPipeError(32, "theirs"),
        TimeoutError("theirs"),
        ValueError("no JSON"),
        KeyboardInterrupt(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_source_breaks(images: ImageBench, error: BaseException) -> None:
    """An error of the pieces is raised unchanged, and ends the upload."""
    cause = OSError("why")
    error.__cause__ = cause
    container_id = images.prepare()
    archive = tar({"x": bytes(3_000_000)})

    with pytest.raises(type(error)) as caught:
        images.images.put_files(container_id, broken(archive, error))

    assert error is caught.value
    assert cause is error.__cause__
    images.images.put_files(container_id, [tar({"x": b"1"})])
    assert b"1" == images.engine.read_file(container_id, "/x", 10)
    assert {} == images.rows()


def test_invalid_tar(images: ImageBench) -> None:
    """An upload that is not a tar is refused."""
    with pytest.raises(EngineError) as caught:
        images.images.put_files(images.prepare(), [b"this is not a tar" * 100])

    assert 500 == caught.value.status


def test_commit(images: ImageBench) -> None:
    """A committed image has the uploaded files and those of its base."""
    image_id = images.make("a", {"x": b"1"})

    assert image_id == images.engine.find_image(images.name("a"))
    assert b"1" == images.read(image_id, "/x")
    assert images.engine.find_image(images.bench.image) != image_id
    with pytest.raises(EngineNotFoundError):
        images.read(images.bench.image, "/x")


def test_commit_on_files(images: ImageBench) -> None:
    """A committed image overrides files of its base, which stays unchanged."""
    below = images.make("a", {"x": b"1", "y": b"2", "f/z": b"3"})
    above = images.make("b", {"y": b"22", "f/w": b"4"}, ref=images.name("a"))

    found = [images.read(above, path) for path in ("/x", "/y", "/f/z", "/f/w")]

    assert [b"1", b"22", b"3", b"4"] == found
    assert b"2" == images.read(below, "/y")


def test_commit_replaces(images: ImageBench) -> None:
    """A file or link replaces a folder with its contents, and a folder replaces a file."""
    below = {"f/x": b"1", "g/x": b"1", "h": b"1", "i/x": b"1"}
    container_id = images.prepare()
    images.images.put_files(container_id, [tar(below)])

    images.images.put_files(container_id, [tar({"f": b"2", "g": "/h", "h": None, "i": None})])
    images.images.commit(container_id, images.name("a"), "/")

    ref = images.name("a")
    assert b"2" == images.read(ref, "/f")
    assert b"1" == images.read(ref, "/i/x")
    for path in ("/g", "/h"):
        with pytest.raises(ValueError, match=path):
            images.read(ref, path)


@pytest.mark.parametrize("path", ["file", "link"])
def test_a_folder_replaces_nothing_if_that_is_refused(images: ImageBench, path: str) -> None:
    """Without ``replace``, a folder over a file or a link is an error that names its path."""
    container_id = images.prepare()
    images.images.put_files(container_id, [tar({"f/x": b"1", "file": b"2", "link": "f"})])
    images.images.put_files(container_id, [tar({"f": None, "f/y": None})], replace=False)

    with pytest.raises(EngineError, match=f"/{path}"):
        images.images.put_files(container_id, [tar({path: None})], replace=False)
    with pytest.raises(EngineError, match="/f"):
        images.images.put_files(container_id, [tar({"f": b"3"})], replace=False)
    images.images.commit(container_id, images.name("a"), "/")

    assert b"2" == images.read(images.name("a"), "/file")
    assert b"1" == images.read(images.name("a"), "/f/x")
    with pytest.raises(ValueError, match="link"):
        images.read(images.name("a"), "/link")


def test_commit_forgets(images: ImageBench) -> None:
    """The contents of a replaced folder do not return with a new folder."""
    container_id = images.prepare()
    for archive in (tar({"f/x": b"1"}), tar({"f": b"2"}), tar({"f": None, "f/y": b"3"})):
        images.images.put_files(container_id, [archive])
    images.images.commit(container_id, images.name("a"), "/")

    assert b"3" == images.read(images.name("a"), "/f/y")
    with pytest.raises(EngineNotFoundError):
        images.read(images.name("a"), "/f/x")


def test_commit_ids(images: ImageBench) -> None:
    """Each commit creates a new image, even with the same files, and moves the tag to it."""
    container_id = images.prepare()

    first, last = (images.images.commit(container_id, images.name("a"), "/") for _ in range(2))

    assert first != last
    assert {first: (), last: (images.name("a"),)} == {
        row.id: row.tags for row in images.rows().values()
    }


def test_commit_working_dir(images: ImageBench) -> None:
    """Containers of the new image start in its working directory, those of the base in theirs."""
    before = images.detail(images.bench.image)
    image_id = images.images.commit(images.prepare(), images.name("a"), "/work/here")

    assert "/work/here" == images.detail(image_id).working_dir
    assert before == images.detail(images.bench.image)


def test_commit_labels(images: ImageBench) -> None:
    """An image inherits the labels of its base, and its own labels override them."""
    images.make("a", {}, more={KEY: "1", OTHER: "1"})
    image_id = images.make("b", {}, ref=images.name("a"), more={KEY: "2"})

    assert {**images.label, KEY: "2", OTHER: "1"} == images.rows()[image_id].labels


def test_commit_gone(images: ImageBench) -> None:
    """A removed container cannot be committed."""
    with pytest.raises(EngineNotFoundError):
        images.images.commit("f" * 64, images.name("a"), "/")

    assert {} == images.rows()


def test_labels_of_containers(images: ImageBench) -> None:
    """Containers inherit the labels of their image, and their own labels override them."""
    images.make("a", {}, more={KEY: "1", labels.REPLICA_ID: "image"})

    container_id = images.container(images.name("a"))

    found = images.engine.rows({**images.label, KEY: "1"})
    assert [container_id] == [row.id for row in found]
    assert "0" == found[0].labels[labels.REPLICA_ID]


# Tags.


def test_tag(images: ImageBench) -> None:
    """An image can have two tags."""
    image_id = images.make("a", {})

    images.images.tag(images.name("a"), images.name("b"))
    images.images.tag(image_id, images.name("b"))

    assert {images.name("a"), images.name("b")} == set(images.rows()[image_id].tags)
    assert image_id == images.engine.find_image(images.name("b"))


def test_tag_moves(images: ImageBench) -> None:
    """Tagging an image takes the tag from the image that had it."""
    first, second = images.make("a", {}), images.make("b", {})

    images.images.tag(second, images.name("a"))

    assert second == images.engine.find_image(images.name("a"))
    assert () == images.rows()[first].tags


def test_tag_missing_image(images: ImageBench) -> None:
    """A missing image cannot be tagged."""
    with pytest.raises(EngineNotFoundError, match="missing"):
        images.images.tag(images.name("missing"), images.name("b"))

    assert {} == images.rows()


def test_untag(images: ImageBench) -> None:
    """An image is removed with its last tag, and untagging it again is allowed."""
    image_id = images.make("a", {})
    images.images.tag(image_id, images.name("b"))

    images.images.untag(images.name("a"))
    assert (images.name("b"),) == images.rows()[image_id].tags
    images.images.untag(images.name("b"))
    images.images.untag(images.name("b"))

    assert {} == images.rows()
    assert images.images.inspect(image_id) is None


def test_untag_by_id(images: ImageBench) -> None:
    """An untagged image can be removed by id; one with two tags cannot."""
    first, second = images.make("a", {}), images.make("a", {})
    images.images.tag(second, images.name("b"))

    images.images.untag(first)
    with pytest.raises(EngineConflictError):
        images.images.untag(second)

    assert [second] == list(images.rows())


def test_untag_in_use(images: ImageBench) -> None:
    """The last tag of an image with a container cannot be removed; other tags can."""
    image_id = images.make("a", {})
    images.images.tag(image_id, images.name("b"))
    container_id = images.container(images.name("a"))

    images.images.untag(images.name("a"))
    with pytest.raises(EngineConflictError, match=images.name("b")):
        images.images.untag(images.name("b"))

    assert (images.name("b"),) == images.rows()[image_id].tags
    images.engine.remove(container_id)
    images.images.untag(images.name("b"))
    assert {} == images.rows()


def test_untag_parent(images: ImageBench) -> None:
    """An untagged parent image remains until the last image based on it is removed."""
    below = images.make("a", {"x": b"1"})
    above = images.make("b", {"y": b"2"}, ref=below)

    images.images.untag(images.name("a"))
    assert [above] == list(images.rows())
    assert b"1" == images.read(above, "/x")
    assert images.images.inspect(below) is not None
    images.images.untag(images.name("b"))

    assert images.images.inspect(above) is None
    assert images.images.inspect(below) is None
    assert images.images.inspect(images.bench.image) is not None


# Labels that containers inherit.


def test_labels_of_an_image_that_was_committed_from_an_app(images: ImageBench) -> None:
    """A container inherits labels of others and of workspaces, and no others that are reserved."""
    more = {
        labels.ROUND: "1",
        labels.DAG_ID: "nightly",
        labels.GPUS: "0",
        labels.ROLE_NAME: "of the image",
        labels.WORKSPACE_KEY: "key",
        KEY: "1",
    }
    images.make("a", {}, more=more)
    engine, image = images.engine, images.name("a")

    created = images.container(image)
    prepared = images.prepare(image)
    (row,) = (row for row in engine.rows(images.label) if row.id == created)
    clone = engine.clone(created, name=f"{row.name}-r1", labels={}, env={})

    rows = {row.id: row.labels for row in engine.rows(images.label)}
    for one in (created, clone):
        inherited = {name for name in more if rows[one].get(name) == more[name]}
        assert {labels.WORKSPACE_KEY, KEY} == inherited
        assert not {labels.ROUND, labels.DAG_ID} & rows[one].keys()
    assert {labels.WORKSPACE_KEY, KEY} == more.keys() & rows[prepared].keys()
    assert {images.detail(image).id} == {
        row.image_id for row in engine.rows(images.label) if row.id != prepared
    }
    assert () == engine.rows({**images.label, labels.ROUND: None})


def test_events_of_a_container_of_a_committed_image(images: ImageBench) -> None:
    """An event has no label that the image has and the container does not."""
    images.make("a", {}, more={labels.ROUND: "1"})
    with closing(images.engine.events()) as events:
        created = images.container(images.name("a"))
        event = next(one for one in events if one.container_id == created)

    assert images.bench.app_id == event.app_id
    assert labels.ROUND not in event.labels
