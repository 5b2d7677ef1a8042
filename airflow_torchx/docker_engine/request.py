"""Requests to the Engine API for which Docker's SDK has no method."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from contextlib import AbstractContextManager

#: A `docker.APIClient`; Docker's SDK has no types.
Client: TypeAlias = Any
#: A `requests.Response`; requests has no types of its own.
Response: TypeAlias = Any

#: The request timeout also limits each send, so sends must be small.
_SEND_BYTES: Final = 1 << 20


class _SourceError(Exception):
    """Wraps an error of the source, so that urllib3 does not take it for its own.

    After a BrokenPipeError, for example, urllib3 would wait for the response.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


def request(
    client: Client,
    method: str,
    path: str,
    **options: Any,  # noqa: ANN401 - as requests takes them
) -> Response:
    """Send a request and return the response; a status of 400 or more raises requests' HTTPError.

    The path has no version. The options are those of `requests.Session.request`.
    """
    url = f"{client.base_url}/v{client.api_version}{path}"
    response = client.request(method, url, **({"timeout": client.timeout} | options))
    response.raise_for_status()
    return response


def upload(
    client: Client,
    method: str,
    path: str,
    pieces: Iterable[bytes],
    *,
    errors: AbstractContextManager[None] | None = None,
    **options: Any,  # noqa: ANN401 - see request
) -> Response:
    """Send a tar, in pieces of any size, as the body of a `request`.

    A response that arrives before the last piece ends the upload. Any error, including those of the
    pieces, closes the connection, which cancels the request on the daemon. A generator of pieces is
    closed at the end. ``errors`` translates errors of the request; errors of the pieces are raised
    unchanged.
    """
    options = {"headers": {"Content-Type": "application/x-tar"}} | options
    try:
        with errors or nullcontext():
            return request(client, method, path, data=_blocks(pieces), **options)
    except _SourceError as wrapped:
        error = wrapped.error
    finally:
        if isinstance(pieces, Generator):
            pieces.close()
    raise error  # outside the handler, which would replace its context


def _blocks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    try:
        for piece in pieces:
            for start in range(0, len(piece), _SEND_BYTES):
                yield piece[start : start + _SEND_BYTES]
    except Exception as error:
        raise _SourceError(error) from error
