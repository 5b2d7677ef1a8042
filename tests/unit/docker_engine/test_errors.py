"""Translation of errors of Docker's SDK, and of the libraries below it."""

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

from airflow_torchx.docker_engine.errors import engine_errors, translate
from airflow_torchx.errors import (
    EngineConflictError,
    EngineError,
    EngineNotFoundError,
    EngineUnreachableError,
)

URL: Final = "unix:///var/run/docker.sock"


def response(status: int, body: bytes) -> requests.Response:
    """Return a response of the daemon."""
    made = requests.Response()
    made.status_code = status
    made.reason = http.client.responses.get(status, "")
    made.raw = io.BytesIO(body)
    return made


def api_error(status: int, body: bytes = b'{"message": "because."}') -> docker.errors.APIError:
    """Return the SDK's error for a response."""
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
    """The response's status selects the error class, and its message is in the error."""
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
def test_body_without_message(body: bytes, expected: str) -> None:
    """A response that is not the Engine's JSON is quoted as it is."""
    assert expected == translate(api_error(500, body), "x", URL).what


@pytest.mark.parametrize(
    ("message", "advice"),
    [
        ('could not select device driver "" with capabilities: [[gpu]]', "no GPUs"),
        ('could not select device driver "cdi" with capabilities: []', "Leave out gpu_driver=cdi"),
        (
            "CDI device injection failed: unresolvable CDI devices nvidia.com/gpu=GPU-1",
            "Correct gpu_ids of the connection, or let CDI of the daemon list all GPUs: run",
        ),
        (
            'exec: "nosuch": executable file not found in $PATH: unknown',
            "The image has no nosuch. Use an image with this",
        ),
        ('exec: "/no": stat /no: no such file or directory: unknown', "python= of @task.torchx"),
        (
            'exec: "bash": executable file not found in $PATH',
            "The image has no bash, which the com",
        ),
        ('exec: "sh -c": executable file not found in $PATH', "'sh -c' has a space. Put its argum"),
        ('exec: "/tmp": permission denied: unknown', "If it is a folder, name a program in it."),
        ('exec: "./a.sh": permission denied: unknown', "./a.sh is not executable. Run `chmod +x`"),
        ("Bind for 0.0.0.0:80 failed: port is already allocated", "another host port"),
        ("unable to find user ann: no matching entries in passwd file", "run option user to one"),
        ("unable to find group g: no matching entries in group file", "run option user to one"),
        ("Unknown runtime specified kata", "run option runtime to a"),
        ('error looking up logging plugin zz: plugin "zz" not found', "run option log_config;"),
        ("failed to initialize logging driver: connection refused", "run option log_config;"),
        ("syslog-address should be in form proto://address", "run option log_config;"),
        ("cannot join network of a non running container: abc", "network or ipc_mode"),
        ("can't join IPC of container abc: non-shareable IPC", "network or ipc_mode"),
        ("error setting rlimit type 7: operation not permitted: unknown", "option ulimits"),
        ('cannot overwrite non-directory "/torchx/checkpoints/apps" with directory "/"', "link"),
        ("lchown /torchx/checkpoints/tasks: read-only file system", "Make this path writable"),
        ("Decoding seccomp profile failed: unexpected end of JSON input", "option security_opt"),
        ("Cannot mkdir: /etc/passwd is not a directory", "run option working_dir"),
        ("bind source path does not exist: /data", "the files of a worker's container are not"),
    ],
)
def test_messages_without_status(message: str, advice: str) -> None:
    """Errors of the container runtime, which have no status of their own, get their own fix."""
    error = translate(api_error(500, json.dumps({"message": message}).encode()), "start", URL)

    assert message in error.what
    assert advice in error.fix


def test_full_disk() -> None:
    """A full disk, which has no status, gets a fix that says how to free space."""
    body = b'{"message": "write /workspace/a: no space left on device"}'

    assert "docker system df" in translate(api_error(500, body), "x", URL).fix


def wrapped(error: BaseException) -> requests.ConnectionError:
    """Return an error as urllib3 and requests wrap it."""
    return requests.ConnectionError(urllib3.exceptions.ProtocolError("Connection aborted.", error))


def retried(error: Exception) -> requests.ConnectionError:
    """Return an error as urllib3 and requests wrap it after retries."""
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
            f"no Docker daemon at {URL}: unknown host name.",
        ),
        (
            requests.ReadTimeout(urllib3.exceptions.ReadTimeoutError(None, "/", "x")),  # type: ignore[arg-type]
            f"cannot list: the Docker daemon at {URL} did not answer in time.",
        ),
        (
            TimeoutError("timed out"),
            f"cannot list: the Docker daemon at {URL} did not answer in time.",
        ),
        (
            wrapped(OSError(errno.EHOSTUNREACH, "x")),
            f"cannot list: lost the connection to the Docker daemon at {URL} (No route to host).",
        ),
        (
            wrapped(http.client.RemoteDisconnected("closed without response.")),
            f"cannot list: lost the connection to the Docker daemon at {URL} (closed without",
        ),
        (
            requests.exceptions.ChunkedEncodingError(urllib3.exceptions.ProtocolError("cut")),
            f"cannot list: lost the connection to the Docker daemon at {URL} (cut).",
        ),
        (
            json.JSONDecodeError("Expecting value", "<html>", 0),
            f"cannot list: the server at {URL} is not a Docker daemon.",
        ),
    ],
)
def test_unreachable(error: Exception, expected: str) -> None:
    """Types and numbers of wrapped errors tell why there was no response."""
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
    """Each error class of the SDK becomes one of our errors, with the SDK's message."""
    count = len(inspect.signature(error).parameters) if "__init__" in vars(error) else 1
    made = error(*["the reason"] * count)
    if isinstance(made, docker.errors.APIError):
        made.response = None

    with (
        pytest.raises(EngineError, match=r"cannot list.*reason") as raised,
        engine_errors("list", URL),
    ):
        raise made

    assert made is raised.value.__cause__


def test_other_errors() -> None:
    """Errors that do not come from a request are raised unchanged."""
    with pytest.raises(ZeroDivisionError), engine_errors("list", URL):
        raise ZeroDivisionError
