"""Image pushes to a daemon that says what a test wants."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final, NoReturn

import pytest

from airflow_torchx.core.connection.endpoint import Endpoint
from airflow_torchx.docker_engine.connection import open_client, resolve
from airflow_torchx.docker_engine.push import is_published, push
from airflow_torchx.errors import EngineUnreachableError, ImagePushError
from tests.integration.stub import Request, Stub, chunked, failure, json_answer, saying

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

TAG: Final = "h:1/me/app:1.0"
SENT: Final = {"id": "a", "status": "Pushing", "progressDetail": {"current": 1, "total": 2}}
EOF: Final = {"error": "EOF", "errorDetail": {"message": "EOF"}}


def events(*values: dict[str, Any], end: bool = True) -> list[bytes]:
    """Return the stream of a push."""
    return chunked(*(json.dumps(value).encode() + b"\r\n" for value in values), end=end)


def in_turn(*answers: Callable[[], Iterable[bytes]]) -> Callable[[Request], Iterable[bytes]]:
    """Return a daemon that gives one answer after the other."""
    left = iter(answers)
    return lambda _: next(left)()


class Pushing:
    """A push to a stub.

    Args:
        answer: what the stub answers.
        address: where it listens.
    """

    def __init__(self, answer: Callable[[Request], Iterable[bytes]], address: Path) -> None:
        self.told: list[str] = []
        self.slept_s: list[float] = []
        self.stub = Stub(answer, address)
        self._url = f"unix://{address}"

    def push(self) -> None:
        """Push."""
        endpoint = resolve(Endpoint(url=self._url, request_timeout_s=60), {})
        with self.stub, closing(open_client(endpoint)) as client:
            push(client, self._url, TAG, (), self.told.append, self.slept_s.append)

    def is_published(self) -> bool:
        """Tell whether an image is published."""
        endpoint = resolve(Endpoint(url=self._url, request_timeout_s=60), {})
        with self.stub, closing(open_client(endpoint)) as client:
            return is_published(client, self._url, TAG, ())


def cut() -> Iterator[bytes]:
    """Break the connection in the middle of a push."""
    yield from events(SENT, end=False)
    raise ConnectionError


def refuse() -> NoReturn:
    """Break the connection before a push has begun."""
    raise ConnectionError


def test_push(address: Path) -> None:
    """One tag is pushed, and not all of them."""
    pushing = Pushing(saying(events(SENT, {"status": "1.0: digest: sha256:0"})), address)

    pushing.push()

    assert ["POST /images/h:1/me/app/push?tag=1.0"] == pushing.stub.asked


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (failure(400, "bad"), "cannot push image 'h:1/me/app:1.0' to h:1: bad."),
        (events(SENT, {"error": "odd"}), "cannot push image 'h:1/me/app:1.0' to h:1: odd."),
    ],
    ids=["at once", "in the stream"],
)
def test_failed_push(address: Path, answer: list[bytes], expected: str) -> None:
    """A push fails at once if its error will not pass."""
    pushing = Pushing(saying(answer), address)

    with pytest.raises(ImagePushError) as raised:
        pushing.push()

    assert expected == raised.value.what
    assert 1 == len(pushing.stub.asked)


def test_connection_to_the_daemon_that_is_cut(address: Path) -> None:
    """A push is tried again when the connection to the daemon breaks."""
    pushing = Pushing(in_turn(cut, refuse, lambda: events(SENT)), address)

    pushing.push()

    assert [1.0, 2.0] == pushing.slept_s


def test_daemon_that_is_lost(address: Path) -> None:
    """After four attempts it is an error of the daemon, not of the registry."""
    pushing = Pushing(in_turn(cut, cut, cut, cut), address)

    with pytest.raises(EngineUnreachableError, match="cannot push image"):
        pushing.push()

    assert [1.0, 2.0, 4.0] == pushing.slept_s


def test_daemon_that_does_not_begin(address: Path) -> None:
    """A daemon that does not begin a push is an error at once."""
    pushing = Pushing(in_turn(refuse), address)

    with pytest.raises(EngineUnreachableError, match="cannot push image"):
        pushing.push()

    assert [] == pushing.slept_s


def test_what_the_daemon_has_retried_is_not_retried_again(address: Path) -> None:
    """A push that the daemon itself has retried for 50 s is not tried again."""
    retrying = {"id": "a", "status": "Retrying in 1 second", "progressDetail": {}}
    pushing = Pushing(saying(events(SENT, retrying, SENT, EOF)), address)

    with pytest.raises(ImagePushError, match="EOF"):
        pushing.push()

    assert [] == pushing.slept_s


def test_error_after_a_cut(address: Path) -> None:
    """An error that will not pass ends the attempts."""
    pushing = Pushing(
        in_turn(lambda: events(EOF), lambda: events({"error": "denied: no"})), address
    )

    with pytest.raises(ImagePushError, match="denied"):
        pushing.push()

    assert [1.0] == pushing.slept_s


@pytest.mark.parametrize(
    ("answer", "expected"),
    [(json_answer({"Descriptor": {}}), True), (failure(404), False), (failure(500), False)],
)
def test_published(
    address: Path, answer: list[bytes], caplog: pytest.LogCaptureFixture, *, expected: bool
) -> None:
    """An image counts as published only if the registry says so; the reason is logged."""
    caplog.set_level("DEBUG")
    pushing = Pushing(saying(answer), address)

    found = pushing.is_published()

    assert expected == found
    assert ["GET /distribution/h:1/me/app:1.0/json"] == pushing.stub.asked
    assert expected != ("assuming that image h:1/me/app:1.0 is not published" in caplog.text)
