"""Progress and errors of an image push."""

from __future__ import annotations

from typing import Any, Final

import pytest

from airflow_torchx.docker_engine.logins import Header
from airflow_torchx.docker_engine.push import push_error
from airflow_torchx.docker_engine.registry_errors import Cause, cause_of
from airflow_torchx.docker_engine.transfer import LayerProgress

MB: Final = 1_000_000


def progress(*events: tuple[str, str, int, int]) -> LayerProgress:
    """Return the progress after some events of layers."""
    push = LayerProgress()
    for name, status, current, total in events:
        detail: dict[str, Any] = {"current": current, "total": total} if total else {}
        push.add({"id": name, "status": status, "progressDetail": detail})
    return push


def test_progress() -> None:
    """Progress sums up layers and sent bytes, and counts layers that the registry already has."""
    push = progress(
        ("a", "Layer already exists", 0, 0),
        ("b", "Mounted from me/other", 0, 0),
        ("c", "Pushing", 5 * MB, 20 * MB),
        ("d", "Pushing", 9 * MB, 8 * MB),
        ("e", "Waiting", 0, 0),
    )

    assert "2 of 5 layers (2 already there), 14 MB of 29 MB" == str(push)

    push.add({"id": "c", "status": "Pushed", "progressDetail": {}})
    push.add({"progressDetail": {}, "aux": {"Tag": "1", "Digest": "sha256:0", "Size": 1}})
    assert "3 of 5 layers (2 already there), 29 MB of 29 MB" == str(push)


def test_layers_that_the_daemon_has_retried() -> None:
    """A retried layer counts as retried until it is complete."""
    again = [("a", "Retrying in 5 seconds", 0, 0), ("a", "Pushing", 1, 2)]

    assert progress(*again).was_retried
    assert not progress(*again, ("a", "Pushed", 0, 0)).was_retried
    assert not progress(("a", "Pushing", 1, 2)).was_retried


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("write /d/tmp/GetImageBlob1: no space left on device", Cause.FULL_DISK),
        ("no basic auth credentials", Cause.DENIED),
        ("unauthorized: authentication required", Cause.DENIED),
        ("denied: requested access to the resource is denied", Cause.DENIED),
        ("Get https://h:1/v2/: http: server gave HTTP response to HTTPS client", Cause.PLAIN_HTTP),
        ("Get https://h:1/v2/: x509: certificate signed by unknown authority", Cause.UNTRUSTED),
        ("remote error: tls: handshake failure", Cause.UNTRUSTED),
        ("Put http://h:1/v2/app/manifests/1: EOF", Cause.CONNECTION_LOST),
        ("write tcp 1.2.3.4:5->1.2.3.5:6: use of closed network connection", Cause.CONNECTION_LOST),
        ("read tcp 1.2.3.4:5->1.2.3.5:6: read: connection reset by peer", Cause.CONNECTION_LOST),
        ("read tcp 1.2.3.4:5->1.2.3.5:6: i/o timeout", Cause.CONNECTION_LOST),
        ("write: broken pipe", Cause.CONNECTION_LOST),
        ("received unexpected HTTP status: 503 Service Unavailable", Cause.CONNECTION_LOST),
        ("dial tcp 1.2.3.4:5: connect: connection refused", Cause.UNREACHABLE),
        ("dial tcp: lookup h on 1.1.1.1:53: no such host", Cause.UNREACHABLE),
        ("dial tcp 1.2.3.4:5: i/o timeout", Cause.UNREACHABLE),
        ("An image does not exist locally with the tag: h:1/app", Cause.NOT_FOUND),
        ("tag does not exist: h:1/app", Cause.NOT_FOUND),
        ("No such image: h:1/app", Cause.NOT_FOUND),
        ("received unexpected HTTP status: 500 Internal Server Error", Cause.OTHER),
        ("manifest invalid: manifest invalid", Cause.OTHER),
        ("", Cause.OTHER),
    ],
)
def test_cause(message: str, expected: Cause) -> None:
    """The cause of a failure follows from the daemon's message."""
    assert expected == cause_of(message)


def test_transient_causes() -> None:
    """Connection problems are the only transient causes."""
    assert [Cause.UNREACHABLE, Cause.CONNECTION_LOST] == [
        cause for cause in Cause if cause.is_transient
    ]


@pytest.mark.parametrize(
    ("message", "has_login", "expected"),
    [
        ("denied: no", False, "No login is configured for h:1: add an Airflow connection"),
        ("denied: no", False, " The helper is missing."),
        ("denied: no", True, "Check user, password and permissions; add an Airflow"),
        ("does not exist locally", True, "`docker tag IMAGE h:1/app:1`"),
        ("connection refused", True, "that a registry runs at h:1"),
        ("odd", True, "See the logs of the registry at h:1 and of the daemon"),
    ],
)
def test_push_error(message: str, *, has_login: bool, expected: str) -> None:
    """The error of a push says what happened, where, and what to do."""
    login = Header("x") if has_login else Header(None, "The helper is missing.")
    error = push_error("h:1/app:1", f"{message}.", None, login)

    assert f"cannot push image 'h:1/app:1' to h:1: {message}." == error.what
    assert expected in error.fix
