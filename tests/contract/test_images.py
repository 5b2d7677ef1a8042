"""Images that are made of containers, and their names."""

from __future__ import annotations

import time
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
    """Return a bench for images, of which none is left at the end."""
    made = ImageBench(bench)
    yield made
    made.clear()


# Finding them.


def test_rows(images: ImageBench) -> None:
    """An image is found by its labels, and its row tells its names, labels and age."""
    before = time.time()
    image_id = images.make("a", {}, more={KEY: "1"})

    row = images.rows()[image_id]

    assert (images.name("a"),) == row.tags
    assert "1" == row.labels[KEY]
    assert before - 1 <= row.created_s <= time.time()


def test_rows_by_label(images: ImageBench) -> None:
    """Labels are asked for with their value or without; all of them must be there."""
    one, two = (images.make(value, {}, more={KEY: value}) for value in ("1", "2"))
    label = images.label

    assert {one, two} == {row.id for row in images.images.rows({**label, KEY: None})}
    assert [one] == [row.id for row in images.images.rows({**label, KEY: "1"})]
    assert () == images.images.rows({**label, KEY: "3"})
    assert () == images.images.rows({**label, KEY: "1", OTHER: None})


def test_inspect(images: ImageBench) -> None:
    """An image is inspected by its name or id."""
    image_id = images.make("a", {})

    for ref in (images.name("a"), image_id, image_id.removeprefix("sha256:")[:12]):
        assert image_id == images.detail(ref).id


def test_inspect_nothing(images: ImageBench) -> None:
    """An image that is not there is None."""
    assert images.images.inspect(images.name("missing")) is None


def test_find_image(images: ImageBench) -> None:
    """An image that was made is found like one that was pulled."""
    image_id = images.make("a", {})

    assert image_id == images.engine.find_image(images.name("a"))
    assert image_id == images.engine.find_image(image_id)


# Making them.


def test_prepare(images: ImageBench) -> None:
    """A container is prepared under its labels, and does not run."""
    container_id = images.prepare(more={KEY: "1"})

    row = images.bench.row(container_id)

    assert ("created", "1") == (row.state, row.labels[KEY])


def test_prepare_by_id(images: ImageBench) -> None:
    """A container is prepared from an image without a name as well."""
    image_id = images.make("a", {"x": b"1"})
    images.make("a", {"x": b"2"})

    assert b"1" == images.engine.read_file(images.prepare(image_id), "/x", 10)


def test_prepare_twice(images: ImageBench) -> None:
    """A second container of a name is refused."""
    name = f"{images.bench.app_id}-same"
    images.images.prepare(images.bench.image, name, images.label)

    with pytest.raises(EngineConflictError, match=name):
        images.images.prepare(images.bench.image, name, images.label)

    assert [name] == [row.name for row in images.bench.rows()]


def test_prepare_from_nothing(images: ImageBench) -> None:
    """There is no container of an image that is not there."""
    with pytest.raises(EngineNotFoundError, match="missing"):
        images.prepare(images.name("missing"))

    assert () == images.bench.rows()


def test_put_files(images: ImageBench) -> None:
    """Files are in their container at once, whatever folders they need."""
    container_id = images.prepare()

    images.images.put_files(container_id, [tar({"x": b"1", "deep/down/y": b"\xff\x00"})])

    assert b"1" == images.engine.read_file(container_id, "/x", 10)
    assert b"\xff\x00" == images.engine.read_file(container_id, "/deep/down/y", 10)
    with pytest.raises(ValueError, match="/deep"):
        images.engine.read_file(container_id, "/deep", 10)


@pytest.mark.parametrize("size", [100, 512, 100_000, 10_000_000])
def test_pieces(images: ImageBench, size: int) -> None:
    """A tar may come in pieces of any size, and an empty one does not end it."""
    content = bytes(range(256)) * 10_000
    container_id = images.prepare()
    archive = tar({"x": content if size > 1000 else content[:50_000], "y": b"1"})

    images.images.put_files(container_id, pieces(archive, size))

    found = images.engine.read_file(container_id, "/x", len(content))
    assert content[: len(found)] == found
    assert b"1" == images.engine.read_file(container_id, "/y", 10)


def test_many_files(images: ImageBench) -> None:
    """Ten thousand files arrive."""
    files = {f"many/{number % 100}/{number}": b"%d" % number for number in range(10_000)}

    images.make("many", files)

    container_id = images.container(images.name("many"))
    for number in (0, 4_711, 9_999):
        path = f"/many/{number % 100}/{number}"
        assert b"%d" % number == images.engine.read_file(container_id, path, 10)


def test_no_files(images: ImageBench) -> None:
    """A tar of nothing is one."""
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
    """What the pieces raise comes out as it is, and the daemon does not wait for the rest."""
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


def test_no_tar(images: ImageBench) -> None:
    """What is no tar is refused."""
    with pytest.raises(EngineError) as caught:
        images.images.put_files(images.prepare(), [b"what is no tar " * 100])

    assert 500 == caught.value.status


def test_commit(images: ImageBench) -> None:
    """An image has the files that were put onto its base, and those of the base."""
    image_id = images.make("a", {"x": b"1"})

    assert image_id == images.engine.find_image(images.name("a"))
    assert b"1" == images.read(image_id, "/x")
    assert images.engine.find_image(images.bench.image) != image_id
    with pytest.raises(EngineNotFoundError):
        images.read(images.bench.image, "/x")


def test_commit_on_files(images: ImageBench) -> None:
    """Files of a new image go before those of its base, which keeps its own."""
    below = images.make("a", {"x": b"1", "y": b"2", "f/z": b"3"})
    above = images.make("b", {"y": b"22", "f/w": b"4"}, ref=images.name("a"))

    found = [images.read(above, path) for path in ("/x", "/y", "/f/z", "/f/w")]

    assert [b"1", b"22", b"3", b"4"] == found
    assert b"2" == images.read(below, "/y")


def test_commit_replaces(images: ImageBench) -> None:
    """A file or a link takes the place of a folder and of all in it; a folder that of a file."""
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


def test_commit_forgets(images: ImageBench) -> None:
    """What was in a folder does not come back with it."""
    container_id = images.prepare()
    for archive in (tar({"f/x": b"1"}), tar({"f": b"2"}), tar({"f": None, "f/y": b"3"})):
        images.images.put_files(container_id, [archive])
    images.images.commit(container_id, images.name("a"), "/")

    assert b"3" == images.read(images.name("a"), "/f/y")
    with pytest.raises(EngineNotFoundError):
        images.read(images.name("a"), "/f/x")


def test_commit_ids(images: ImageBench) -> None:
    """Every commit makes an image of its own, also of the same files; the name goes to the last."""
    container_id = images.prepare()

    first, last = (images.images.commit(container_id, images.name("a"), "/") for _ in range(2))

    assert first != last
    assert {first: (), last: (images.name("a"),)} == {
        row.id: row.tags for row in images.rows().values()
    }


def test_commit_working_dir(images: ImageBench) -> None:
    """Containers of the new image start where it was said, and those of the base where they did."""
    before = images.detail(images.bench.image)
    image_id = images.images.commit(images.prepare(), images.name("a"), "/work/here")

    assert "/work/here" == images.detail(image_id).working_dir
    assert before == images.detail(images.bench.image)


def test_commit_labels(images: ImageBench) -> None:
    """An image has the labels of its base as well, and its own before them."""
    images.make("a", {}, more={KEY: "1", OTHER: "1"})
    image_id = images.make("b", {}, ref=images.name("a"), more={KEY: "2"})

    assert {**images.label, KEY: "2", OTHER: "1"} == images.rows()[image_id].labels


def test_commit_gone(images: ImageBench) -> None:
    """There is no image of a container that is gone."""
    with pytest.raises(EngineNotFoundError):
        images.images.commit("f" * 64, images.name("a"), "/")

    assert {} == images.rows()


def test_labels_of_containers(images: ImageBench) -> None:
    """Containers carry the labels of their image, and their own before them."""
    images.make("a", {}, more={KEY: "1", labels.REPLICA_ID: "image"})

    container_id = images.container(images.name("a"))

    found = images.engine.rows({**images.label, KEY: "1"})
    assert [container_id] == [row.id for row in found]
    assert "0" == found[0].labels[labels.REPLICA_ID]


# Names.


def test_tag(images: ImageBench) -> None:
    """An image can have two names."""
    image_id = images.make("a", {})

    images.images.tag(images.name("a"), images.name("b"))
    images.images.tag(image_id, images.name("b"))

    assert {images.name("a"), images.name("b")} == set(images.rows()[image_id].tags)
    assert image_id == images.engine.find_image(images.name("b"))


def test_tag_moves(images: ImageBench) -> None:
    """A name that another image has goes over to the new one."""
    first, second = images.make("a", {}), images.make("b", {})

    images.images.tag(second, images.name("a"))

    assert second == images.engine.find_image(images.name("a"))
    assert () == images.rows()[first].tags


def test_tag_nothing(images: ImageBench) -> None:
    """An image that is not there gets no name."""
    with pytest.raises(EngineNotFoundError, match="missing"):
        images.images.tag(images.name("missing"), images.name("b"))

    assert {} == images.rows()


def test_untag(images: ImageBench) -> None:
    """An image is gone with its last name, and not before; untagging it again is no error."""
    image_id = images.make("a", {})
    images.images.tag(image_id, images.name("b"))

    images.images.untag(images.name("a"))
    assert (images.name("b"),) == images.rows()[image_id].tags
    images.images.untag(images.name("b"))
    images.images.untag(images.name("b"))

    assert {} == images.rows()
    assert images.images.inspect(image_id) is None


def test_untag_by_id(images: ImageBench) -> None:
    """An image that has lost its name is removed by its id; one that has two names is not."""
    first, second = images.make("a", {}), images.make("a", {})
    images.images.tag(second, images.name("b"))

    images.images.untag(first)
    with pytest.raises(EngineConflictError):
        images.images.untag(second)

    assert [second] == list(images.rows())


def test_untag_in_use(images: ImageBench) -> None:
    """The last name of an image that has a container stays, running or not; others do not."""
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


def test_untag_below(images: ImageBench) -> None:
    """What other images stand on stays for them, without a name, and goes with the last of them."""
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
