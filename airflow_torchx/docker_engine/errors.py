"""Translation of errors of Docker's SDK, and of the libraries below it, to ours."""

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
from airflow_torchx.core.engine.start_advice import start_advice
from airflow_torchx.core.plan.gpu_problems import (
    ABSENT_FROM_CDI,
    NO_GPU_DRIVER,
    WITHOUT_CDI,
    WITHOUT_GPU_DRIVER,
)
from airflow_torchx.errors import (
    EngineConflictError,
    EngineError,
    EngineNotFoundError,
    EngineUnreachableError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

_SET_HOST: Final = "set the host of the connection or DOCKER_HOST."


class _Refusal(NamedTuple):
    """Our error for an HTTP status of the Engine."""

    error: type[EngineError]
    fix: str


_REFUSALS: Final[dict[int, _Refusal]] = {
    HTTPStatus.BAD_REQUEST: _Refusal(EngineError, "Correct what the daemon rejects."),
    HTTPStatus.NOT_FOUND: _Refusal(
        EngineNotFoundError, "Check the name; it may have been removed."
    ),
    HTTPStatus.CONFLICT: _Refusal(
        EngineConflictError, "Use another name, or remove the conflicting object."
    ),
}
_REFUSED: Final = _Refusal(EngineError, "See the daemon's log, for example `journalctl -u docker`.")


#: Fixes by message, for errors of the Engine or its runtime that have no status of their own.
_ADVICE: Final = (
    (full_disk.PATTERN, full_disk.ADVICE),
    (
        'could not select device driver "cdi"',
        f"{WITHOUT_CDI[0].upper()}{WITHOUT_CDI[1:]}.",
    ),
    ("CDI device", f"{ABSENT_FROM_CDI[0].upper()}{ABSENT_FROM_CDI[1:]}."),
    (NO_GPU_DRIVER, f"{WITHOUT_GPU_DRIVER[0].upper()}{WITHOUT_GPU_DRIVER[1:]}."),
    (
        "unable to find (user|group) ",
        "Set the run option user to one that the image has, or to numbers like 1000:1000.",
    ),
    (
        "[Uu]nknown runtime|unknown or invalid runtime",
        "Set the run option runtime to a runtime of the daemon; `docker info` lists them.",
    ),
    (
        r"logging (plugin|driver:)|\b(syslog|gelf|fluentd|splunk)-\w+",
        "Correct the run option log_config; `docker info` lists the log drivers of the daemon.",
    ),
    (
        "non[- ]running container|join IPC",
        "Correct the run option network or ipc_mode: the container must run and share it.",
    ),
    (
        "rlimit",
        "Lower the limits of the run option ulimits; the daemon's host does not allow them.",
    ),
    ("seccomp", "Correct the profile in the run option security_opt."),
    (
        "Cannot mkdir: .* is not a directory",
        "Set the run option working_dir to a folder of the image.",
    ),
    (
        "cannot overwrite non-directory",
        "Move the file or the link away: a folder for checkpoints is created at this path.",
    ),
    (
        "read-only file system",
        "Make this path writable, or use another volume or host path.",
    ),
    ("marked for removal", "Wait until its removal has finished."),
    ("port is already allocated", "Use another host port, or free this one: `docker ps`."),
)


class SshError(ConnectionError):
    """The program `ssh` has failed; the text is the end of what it has written."""


class _Cause(NamedTuple):
    """A reason for a missing or incomplete response, found by exception types."""

    of: tuple[type[BaseException], ...]
    what: str
    fix: str


#: Most specific first.
_CAUSES: Final = (
    _Cause(
        (ssl.SSLError, urllib3.exceptions.SSLError),
        "no Docker daemon at {url}: TLS failed ({detail}).",
        "Check that the daemon uses TLS on this port, and the certificates: tls_ca, tls_cert and "
        "tls_private_key of the connection, or DOCKER_CERT_PATH.",
    ),
    _Cause(
        (socket.gaierror, urllib3.exceptions.NameResolutionError),
        "no Docker daemon at {url}: unknown host name.",
        f"Check the name, or {_SET_HOST}",
    ),
    _Cause(
        (SshError,),
        "no Docker daemon at {url}: ssh failed ({detail}).",
        "Let the user of this process log in by ssh without a question or a greeting, and run "
        f"`docker version` there; or {_SET_HOST}",
    ),
    _Cause(
        (FileNotFoundError,),
        "no Docker daemon at {url}: {detail}.",
        f"Start Docker, or {_SET_HOST}",
    ),
    _Cause(
        (PermissionError,),
        "no Docker daemon at {url}: permission denied.",
        f"Add the user to group `docker` and log in again, or {_SET_HOST}",
    ),
    _Cause(
        (ConnectionRefusedError,),
        "no Docker daemon at {url}: connection refused.",
        f"Start Docker there, check the port, or {_SET_HOST}",
    ),
    _Cause(
        (TimeoutError, urllib3.exceptions.TimeoutError),
        "cannot {what}: the Docker daemon at {url} did not answer in time.",
        "Check that it responds (`docker version`), or raise request_timeout_s of the connection.",
    ),
    _Cause(
        (json.JSONDecodeError,),
        "cannot {what}: the server at {url} is not a Docker daemon.",
        f"Check host and port, or {_SET_HOST}",
    ),
    _Cause(
        (OSError, http.client.HTTPException, urllib3.exceptions.HTTPError),
        "cannot {what}: lost the connection to the Docker daemon at {url} ({detail}).",
        "Check whether the daemon was restarted (`docker version`), then try again.",
    ),
)


@contextlib.contextmanager
def engine_errors(what: str, url: str) -> Iterator[None]:
    """Translate all errors of a request to the Engine to EngineError.

    Args:
        what: the request, to follow "cannot", for example ``start container 'a'``.
        url: the daemon.

    Raises:
        EngineNotFoundError: status 404.
        EngineConflictError: status 409.
        EngineError: any other status, or an error of the SDK itself.
        EngineUnreachableError: no response, or an incomplete one.
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
    """Return our error for an error of the SDK, requests, urllib3 or the system."""
    response = getattr(error, "response", None)
    if response is not None:
        status = int(response.status_code)
        refusal, why = _REFUSALS.get(status, _REFUSED), _message(response)
        matches = (advice for pattern, advice in _ADVICE if re.search(pattern, why))
        fix = start_advice(why) or next(matches, refusal.fix)
        return refusal.error(f"cannot {what}: {why}", fix=fix, status=status)
    chain = list(_chain(error))
    for cause in _CAUSES:
        found = [link for link in chain if isinstance(link, cause.of)]
        if found:
            text = cause.what.format(url=url, what=what, detail=_detail(found[-1]))
            return EngineUnreachableError(text, fix=cause.fix)
    why = str(error).rstrip(".") or type(error).__name__
    return EngineError(f"cannot {what} on {url}: {why}.", fix="Correct what Docker's SDK rejects.")


def _message(response: Any) -> str:  # noqa: ANN401 - requests has no types of its own
    """Return the error message in a response."""
    try:
        message = response.json()["message"]
    except (ValueError, KeyError, TypeError):
        message = response.text
    return f"{str(message).strip().rstrip('.') or response.reason}."


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and everything it wraps, outermost first.

    The libraries wrap errors as causes, as arguments and as ``reason``.
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
    """Return the shortest accurate description of an error."""
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
