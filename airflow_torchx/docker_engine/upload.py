"""A request whose body is a stream of pieces, of which little is held in memory."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from contextlib import AbstractContextManager
    from types import TracebackType

#: The time for an answer is also the time for one send, so a send must not be large.
_SEND_BYTES: Final = 1 << 20


class _SourceError(Exception):
    """What the source of the pieces raised, so that nobody below takes it for an error of theirs.

    A broken pipe of the source, as it is, would make urllib3 wait for the daemon's answer.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


class _Source:
    """Raises what is raised in it as a _SourceError."""

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        if isinstance(exc, Exception):
            raise _SourceError(exc) from exc


def upload(
    client: Any,  # noqa: ANN401 - Docker's SDK has no types
    method: str,
    path: str,
    pieces: Iterable[bytes],
    *,
    asked: AbstractContextManager[None] | None = None,
    **options: Any,  # noqa: ANN401 - as requests takes them
) -> Any:  # noqa: ANN401 - requests has no types of its own
    """Send a tar as the body of a request, and return the answer, whatever its status.

    An answer that comes before the last piece ends the sending. Whatever is raised, also by the
    pieces, comes out as it is and closes the connection, so that the daemon gives up as well.

    Args:
        client: a `docker.APIClient`.
        method: the HTTP method.
        path: path of the Engine API, without the version.
        pieces: the tar in pieces of any size; a generator is closed at the end.
        asked: turns what the request raises into our errors; what the pieces raise passes it by.
        options: what else `requests.Session.request` shall know, like ``params``.
    """
    options = {"headers": {"Content-Type": "application/x-tar"}} | options
    try:
        with asked or nullcontext():
            return client.request(
                method,
                f"{client.base_url}/v{client.api_version}{path}",
                data=_sends(pieces),
                **({"timeout": client.timeout} | options),
            )
    except _SourceError as wrapped:
        error = wrapped.error
    finally:
        if isinstance(pieces, Generator):
            pieces.close()
    raise error  # not in the handler: that would replace its context


def _sends(pieces: Iterable[bytes]) -> Iterator[bytes]:
    with _Source():
        source = iter(pieces)
    while True:
        with _Source():
            piece = next(source, None)
        if piece is None:
            return
        for start in range(0, len(piece), _SEND_BYTES):
            yield piece[start : start + _SEND_BYTES]
