"""One table from what Docker's SDK and the libraries below it raise to our errors."""

from __future__ import annotations

import contextlib
import errno
import http.client
import json
import os
import re
import socket
import ssl
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import urllib3.exceptions

from airflow_torchx.core.engine import full_disk
from airflow_torchx.errors import (
    EngineConflictError,
    EngineError,
    EngineNotFoundError,
    EngineUnreachableError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

_ELSEWHERE: Final = "set the host of the connection, or DOCKER_HOST."


class _Refusal(NamedTuple):
    """What a status of the Engine means."""

    error: type[EngineError]
    fix: str


_REFUSALS: Final[dict[int, _Refusal]] = {
    HTTPStatus.BAD_REQUEST: _Refusal(EngineError, "Change what the daemon objects to."),
    HTTPStatus.NOT_FOUND: _Refusal(
        EngineNotFoundError, "Check the name; somebody may have removed it."
    ),
    HTTPStatus.CONFLICT: _Refusal(
        EngineConflictError, "Use another name, or remove what stands in the way."
    ),
}
_REFUSED: Final = _Refusal(EngineError, "See the daemon's own log, like `journalctl -u docker`.")


#: What to do about words of the Engine, or of what it runs, that have no status of their own.
_TOLD: Final = (
    (full_disk.PATTERN, full_disk.ADVICE),
    (
        "could not select device driver",
        "Ask for no GPUs, or install a GPU runtime there, like NVIDIA's container toolkit.",
    ),
    (
        "executable file not found|exec: .*no such file or directory",
        "Give a program that is in the image as the entrypoint of the role.",
    ),
    ("marked for removal", "Somebody is removing it."),
    ("port is already allocated", "Give another host port, or end what has it: `docker ps`."),
)


class _Cause(NamedTuple):
    """Why no whole answer came: the first row of which a type is in the error's chain."""

    of: tuple[type[BaseException], ...]
    what: str
    fix: str


#: Most specific first.
_CAUSES: Final = (
    _Cause(
        (ssl.SSLError, urllib3.exceptions.SSLError),
        "no Docker daemon at {url}: TLS failed ({detail}).",
        "Check that the daemon speaks TLS there, and the certificates: tls_ca, tls_cert and "
        "tls_private_key of the connection, or DOCKER_CERT_PATH.",
    ),
    _Cause(
        (socket.gaierror, urllib3.exceptions.NameResolutionError),
        "no Docker daemon at {url}: its host name is unknown.",
        f"Check the name, or {_ELSEWHERE}",
    ),
    _Cause(
        (FileNotFoundError,),
        "no Docker daemon at {url}: {detail}.",
        f"Start Docker, or {_ELSEWHERE}",
    ),
    _Cause(
        (PermissionError,),
        "no Docker daemon at {url}: permission denied.",
        f"Add the user to group `docker` and log in again, or {_ELSEWHERE}",
    ),
    _Cause(
        (ConnectionRefusedError,),
        "no Docker daemon at {url}: connection refused.",
        f"Start Docker there, check the port, or {_ELSEWHERE}",
    ),
    _Cause(
        (TimeoutError, urllib3.exceptions.TimeoutError),
        "cannot {what}: the Docker daemon at {url} gave no answer in time.",
        "Check that it is not stuck (`docker version`), or raise request_timeout_s of the "
        "connection.",
    ),
    _Cause(
        (json.JSONDecodeError,),
        "cannot {what}: what answers at {url} is no Docker daemon.",
        f"Check host and port, or {_ELSEWHERE}",
    ),
    _Cause(
        (OSError, http.client.HTTPException, urllib3.exceptions.HTTPError),
        "cannot {what}: the connection to the Docker daemon at {url} broke ({detail}).",
        "Check whether the daemon was restarted (`docker version`), then try again.",
    ),
)


@contextlib.contextmanager
def asking(what: str, url: str) -> Iterator[None]:
    """Turn whatever a request to the Engine raises into an EngineError.

    Args:
        what: what is asked, after "cannot", like ``start container 'a'``.
        url: the daemon.

    Raises:
        EngineNotFoundError: status 404.
        EngineConflictError: status 409.
        EngineError: any other status, or what the SDK itself refuses.
        EngineUnreachableError: no answer, or only a part of one.
    """
    from docker.errors import DockerException, StreamParseError

    try:
        yield
    except (
        DockerException,
        StreamParseError,
        OSError,
        http.client.HTTPException,
        urllib3.exceptions.HTTPError,
        json.JSONDecodeError,
    ) as error:
        raise translate(error, what, url) from error


def translate(error: BaseException, what: str, url: str) -> EngineError:
    """Return our error for one of the SDK, of requests, urllib3 or the system."""
    response = getattr(error, "response", None)
    if response is not None:
        status = int(response.status_code)
        refusal, why = _REFUSALS.get(status, _REFUSED), _explanation(response)
        told = (advice for words, advice in _TOLD if re.search(words, why))
        fix = next(told, refusal.fix)
        return refusal.error(f"cannot {what}: {why}", fix=fix, status=status)
    chain = list(_chain(error))
    for cause in _CAUSES:
        found = [link for link in chain if isinstance(link, cause.of)]
        if found:
            text = cause.what.format(url=url, what=what, detail=_detail(found[-1]))
            return EngineUnreachableError(text, fix=cause.fix)
    why = str(error).rstrip(".") or type(error).__name__
    return EngineError(
        f"cannot {what} on {url}: {why}.", fix="Change what Docker's SDK objects to."
    )


def _explanation(response: Any) -> str:  # noqa: ANN401 - requests has no types of its own
    """Return the Engine's own words."""
    try:
        words = response.json()["message"]
    except (ValueError, KeyError, TypeError):
        words = response.text
    return f"{str(words).strip().rstrip('.') or response.reason}."


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and everything it wraps, outermost first.

    The libraries wrap each other's errors as causes, as arguments and as a ``reason``.
    """
    seen: set[int] = set()
    queue: list[object] = [error]
    while queue:
        link = queue.pop(0)
        if isinstance(link, BaseException) and id(link) not in seen:
            seen.add(id(link))
            yield link
            inner = (link.__cause__, link.__context__, getattr(link, "reason", None))
            queue += [*link.args, *inner]


def _detail(error: BaseException) -> str:
    """Return the shortest true words for an error."""
    if isinstance(error, ssl.SSLError):
        code = (getattr(error, "reason", None) or type(error).__name__).replace("_", " ").lower()
        return getattr(error, "verify_message", "") or code
    if isinstance(error, FileNotFoundError) and error.filename:
        return f"{error.filename} does not exist"
    if isinstance(error, OSError) and error.errno == errno.ENOENT:
        return "its socket does not exist"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return str(error).rstrip(".") or type(error).__name__
