"""What Docker's SDK and the libraries below it raise, as our errors."""

from __future__ import annotations

import errno
import http.client
import inspect
import io
import json
import socket
import ssl
from typing import Any, Final

import docker.errors
import pytest
import requests
import urllib3.exceptions

from airflow_torchx.docker_engine.errors import asking, translate
from airflow_torchx.errors import (
    EngineConflictError,
    EngineError,
    EngineNotFoundError,
    EngineUnreachableError,
)

URL: Final = "unix:///var/run/docker.sock"


def response(status: int, body: bytes) -> requests.Response:
    """Return an answer of the daemon."""
    answer = requests.Response()
    answer.status_code = status
    answer.reason = http.client.responses.get(status, "")
    answer.raw = io.BytesIO(body)
    return answer


def api_error(status: int, body: bytes = b'{"message": "because."}') -> docker.errors.APIError:
    """Return the SDK's error for an answer."""
    return docker.errors.APIError("failed", response=response(status, body))


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, EngineError),
        (404, EngineNotFoundError),
        (409, EngineConflictError),
        (418, EngineError),
        (500, EngineError),
        (599, EngineError),
    ],
)
def test_status(status: int, expected: type[EngineError]) -> None:
    """The status of an answer decides which error it is; the Engine's words are in it."""
    error = translate(api_error(status), "start container 'a'", URL)

    assert expected is type(error)
    assert status == error.status
    assert "cannot start container 'a': because." == error.what
    assert error.fix


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"plain words\n", "cannot x: plain words."),
        (b"[]", "cannot x: []."),
        (b"", "cannot x: Internal Server Error."),
    ],
)
def test_words(body: bytes, expected: str) -> None:
    """An answer in another form than the Engine's is shown as it is."""
    assert expected == translate(api_error(500, body), "x", URL).what


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        ('could not select device driver "" with capabilities: [[gpu]]', "no GPUs"),
        ('exec: "nosuch": executable file not found in $PATH: unknown', "in the image"),
        ('exec: "/no": stat /no: no such file or directory: unknown', "in the image"),
        ("Bind for 0.0.0.0:80 failed: port is already allocated", "another host port"),
    ],
)
def test_words_that_have_no_status(words: str, advice: str) -> None:
    """Of programs that the Engine runs: the error says what to do about them."""
    error = translate(api_error(500, json.dumps({"message": words}).encode()), "start", URL)

    assert words in error.what
    assert advice in error.fix


def test_full_disk() -> None:
    """The Engine has no status for it, and for this one its own log is no help."""
    body = b'{"message": "write /workspace/a: no space left on device"}'

    assert "docker system df" in translate(api_error(500, body), "x", URL).fix


def wrapped(error: BaseException) -> requests.ConnectionError:
    """Return an error as urllib3 and requests wrap it."""
    return requests.ConnectionError(urllib3.exceptions.ProtocolError("Connection aborted.", error))


def retried(error: Exception) -> requests.ConnectionError:
    """Return an error as urllib3 and requests wrap it where they have tried again."""
    pool: Any = None
    return requests.ConnectionError(urllib3.exceptions.MaxRetryError(pool, "/", error))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            wrapped(FileNotFoundError(errno.ENOENT, "No such file or directory")),
            f"no Docker daemon at {URL}: its socket does not exist.",
        ),
        (
            FileNotFoundError(errno.ENOENT, "No such file or directory", "ssh"),
            f"no Docker daemon at {URL}: ssh does not exist.",
        ),
        (
            wrapped(PermissionError(errno.EACCES, "Permission denied")),
            f"no Docker daemon at {URL}: permission denied.",
        ),
        (
            wrapped(ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")),
            f"no Docker daemon at {URL}: connection refused.",
        ),
        (
            retried(urllib3.exceptions.SSLError(ssl.SSLCertVerificationError(1, "bad"))),
            f"no Docker daemon at {URL}: TLS failed (",
        ),
        (
            wrapped(socket.gaierror(socket.EAI_NONAME, "Name or service not known")),
            f"no Docker daemon at {URL}: its host name is unknown.",
        ),
        (
            requests.ReadTimeout(urllib3.exceptions.ReadTimeoutError(None, "/", "x")),  # type: ignore[arg-type]
            f"cannot list: the Docker daemon at {URL} gave no answer in time.",
        ),
        (
            TimeoutError("timed out"),
            f"cannot list: the Docker daemon at {URL} gave no answer in time.",
        ),
        (
            wrapped(OSError(errno.EHOSTUNREACH, "x")),
            f"cannot list: the connection to the Docker daemon at {URL} broke (No route to host).",
        ),
        (
            wrapped(http.client.RemoteDisconnected("closed without response.")),
            f"cannot list: the connection to the Docker daemon at {URL} broke (closed without",
        ),
        (
            requests.exceptions.ChunkedEncodingError(urllib3.exceptions.ProtocolError("cut")),
            f"cannot list: the connection to the Docker daemon at {URL} broke (cut).",
        ),
        (
            json.JSONDecodeError("Expecting value", "<html>", 0),
            f"cannot list: what answers at {URL} is no Docker daemon.",
        ),
    ],
)
def test_no_answer(error: Exception, expected: str) -> None:
    """Why no answer came is told from types and numbers of errors, however they are wrapped."""
    found = translate(error, "list", URL)

    assert type(found) is EngineUnreachableError
    assert found.what.startswith(expected)
    assert found.fix
    assert found.status is None


SDK_ERRORS: Final = [
    error
    for _, error in inspect.getmembers(docker.errors, inspect.isclass)
    if issubclass(error, Exception)
]


@pytest.mark.parametrize("error", SDK_ERRORS, ids=[error.__name__ for error in SDK_ERRORS])
def test_every_error_of_the_sdk(error: type[Exception]) -> None:
    """Whatever the SDK raises becomes one of our errors, with the SDK's own words."""
    count = len(inspect.signature(error).parameters) if "__init__" in vars(error) else 1
    made = error(*["the reason"] * count)
    if isinstance(made, docker.errors.APIError):
        made.response = None

    with pytest.raises(EngineError, match=r"cannot list.*reason") as raised, asking("list", URL):
        raise made

    assert made is raised.value.__cause__


def test_other_errors() -> None:
    """An error that is not the daemon's stays what it is."""
    with pytest.raises(ZeroDivisionError), asking("list", URL):
        raise ZeroDivisionError
