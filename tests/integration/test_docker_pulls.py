"""Image pulls, and all the ways in which they fail."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any, Final, NoReturn

import pytest

from airflow_torchx.errors import EngineUnreachableError, ImagePullError
from tests.integration.stub import Request, Stub, chunked, connect, failure, json_answer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path


def events(*values: dict[str, Any], end: bool = True) -> list[bytes]:
    """Return the stream of a pull."""
    return chunked(*(json.dumps(value).encode() + b"\r\n" for value in values), end=end)


def registry(
    pull: list[bytes], image: list[bytes] | None = None
) -> Callable[[Request], list[bytes]]:
    """Return a daemon that pulls an image, and has it or not."""
    here = image or json_answer({"Id": "sha256:1"})
    return lambda request: pull if request.method == "POST" else here


def pull(
    address: Path, answer: Callable[[Request], Iterable[bytes]], ref: str = "app"
) -> list[str]:
    """Pull an image from a stub and return what was asked."""
    with Stub(answer, address) as stub, connect(address) as engine:
        engine.pull(ref, lambda _: None)
    return stub.asked


DONE: Final = {"status": "Status: Downloaded newer image for app:latest"}
HALF: Final = {"id": "a", "status": "Downloading", "progressDetail": {"current": 1, "total": 2}}


@pytest.mark.parametrize(
    ("ref", "expected"),
    [
        ("app", "fromImage=app&tag=latest"),
        ("me/app:1", "fromImage=me%2Fapp&tag=1"),
        ("localhost:5000/app", "fromImage=localhost%3A5000%2Fapp&tag=latest"),
        ("app@sha256:ab", "fromImage=app&tag=sha256%3Aab"),
    ],
)
def test_pull(address: Path, ref: str, expected: str) -> None:
    """An image is pulled by its tag or digest, and never all of its tags."""
    asked = pull(address, registry(events(DONE)), ref)

    assert f"POST /images/create?{expected}" == asked[0]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (registry(failure(404, "pull access denied")), "pull access denied.\nCheck its name"),
        (registry(failure(500, "no such host")), "no such host.\nCheck that a registry"),
        (registry(failure(500, "no idea")), "no idea.\nTry again"),
        (
            registry(events(HALF, {"error": "no space", "errorDetail": {"message": "no space"}})),
            "no space.\nCheck its name",
        ),
        (registry(events(HALF)), "ended before the image was complete"),
        (registry(events(), failure(404)), "ended before the image was complete"),
    ],
    ids=["denied", "no registry", "odd", "in the stream", "in a layer", "no image"],
)
def test_failed_pull(
    address: Path, answer: Callable[[Request], list[bytes]], expected: str
) -> None:
    """A pull that does not bring the image is an error, whatever way the daemon says it."""
    with pytest.raises(ImagePullError, match=expected) as raised:
        pull(address, answer)

    assert raised.value.what.startswith("cannot pull image 'app': ")


@pytest.mark.parametrize("last", [b"", b"5\r\n{", b"3\r\n{]\n\r\n"])
def test_cut_pull(address: Path, last: bytes) -> None:
    """A pull whose connection breaks is an error."""

    def cut(_: Request) -> Iterator[bytes]:
        yield from events(DONE, end=False)
        yield last
        raise ConnectionError

    with pytest.raises(EngineUnreachableError, match="cannot pull image 'app'"):
        pull(address, cut)


def test_pull_that_does_not_begin(address: Path) -> None:
    """A connection that breaks before the first event is the same error."""

    def refuse(_: Request) -> NoReturn:
        raise ConnectionError

    with pytest.raises(EngineUnreachableError, match="cannot pull image 'app'"):
        pull(address, refuse)


def test_pull_given_up(address: Path) -> None:
    """When the caller gives up, the daemon notices."""
    noticed = threading.Event()

    def answer(_: Request) -> Iterator[bytes]:
        head, event = events(HALF)[:2]
        yield head
        try:
            while True:
                yield event
                time.sleep(0.01)
        finally:
            noticed.set()

    def give_up(_: str) -> None:
        raise KeyboardInterrupt

    with Stub(answer, address), connect(address) as engine:
        with pytest.raises(KeyboardInterrupt):
            engine.pull("app", give_up)

        assert noticed.wait(60)
