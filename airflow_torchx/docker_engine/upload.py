"""Requests whose body is streamed."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from contextlib import AbstractContextManager
    from types import TracebackType

#: The request timeout also limits each send, so sends must be small.
_SEND_BYTES: Final = 1 << 20


class _SourceError(Exception):
    """Wraps an error of the source, so that urllib3 does not take it for its own.

    After a BrokenPipeError, for example, urllib3 would wait for the response.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


class _Source:
    """Wraps every error raised in its block in a _SourceError."""

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
    errors: AbstractContextManager[None] | None = None,
    **options: Any,  # noqa: ANN401 - as requests takes them
) -> Any:  # noqa: ANN401 - requests has no types of its own
    """Send a tar as the body of a request and return the response, whatever its status.

    A response that arrives before the last piece ends the upload. Any error, including those of the
    pieces, closes the connection, which cancels the request on the daemon.

    Args:
        client: a `docker.APIClient`.
        method: the HTTP method.
        path: path of the Engine API, without the version.
        pieces: the tar in pieces of any size; a generator is closed at the end.
        errors: translates errors of the request; errors of the pieces are raised unchanged.
        options: further arguments of `requests.Session.request`, for example ``params``.
    """
    options = {"headers": {"Content-Type": "application/x-tar"}} | options
    try:
        with errors or nullcontext():
            return client.request(
                method,
                f"{client.base_url}/v{client.api_version}{path}",
                data=_blocks(pieces),
                **({"timeout": client.timeout} | options),
            )
    except _SourceError as wrapped:
        error = wrapped.error
    finally:
        if isinstance(pieces, Generator):
            pieces.close()
    raise error  # outside the handler, which would replace its context


def _blocks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    with _Source():
        source = iter(pieces)
    while True:
        with _Source():
            piece = next(source, None)
        if piece is None:
            return
        for start in range(0, len(piece), _SEND_BYTES):
            yield piece[start : start + _SEND_BYTES]
