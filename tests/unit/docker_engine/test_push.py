"""The events of an image push, and what went wrong in it."""

from __future__ import annotations

from typing import Any, Final

import pytest

from airflow_torchx.docker_engine.push import push_error
from airflow_torchx.docker_engine.registry_errors import Cause, cause_of
from airflow_torchx.docker_engine.transfer import LayerProgress

MB: Final = 1_000_000


def progress(*events: tuple[str, str, int, int]) -> LayerProgress:
    """Return what some events of layers add up to."""
    push = LayerProgress()
    for name, status, current, total in events:
        detail: dict[str, Any] = {"current": current, "total": total} if total else {}
        push.add({"id": name, "status": status, "progressDetail": detail})
    return push


def test_progress() -> None:
    """Layers and what was sent of them are added up; those that the registry has are counted."""
    push = progress(
        ("a", "Layer already exists", 0, 0),
        ("b", "Mounted from me/other", 0, 0),
        ("c", "Pushing", 5 * MB, 20 * MB),
        ("d", "Pushing", 9 * MB, 8 * MB),
        ("e", "Waiting", 0, 0),
    )

    assert "2 of 5 layers (2 already there), 14 of 29 MB" == str(push)

    push.add({"id": "c", "status": "Pushed", "progressDetail": {}})
    push.add({"progressDetail": {}, "aux": {"Tag": "1", "Digest": "sha256:0", "Size": 1}})
    assert "3 of 5 layers (2 already there), 29 of 29 MB" == str(push)


def test_layers_that_the_daemon_has_retried() -> None:
    """They are told from others until they are done."""
    again = [("a", "Retrying in 5 seconds", 0, 0), ("a", "Pushing", 1, 2)]

    assert progress(*again).was_retried
    assert not progress(*again, ("a", "Pushed", 0, 0)).was_retried
    assert not progress(("a", "Pushing", 1, 2)).was_retried


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("write /d/tmp/GetImageBlob1: no space left on device", Cause.FULL_DISK),
        ("no basic auth credentials", Cause.REFUSED),
        ("unauthorized: authentication required", Cause.REFUSED),
        ("denied: requested access to the resource is denied", Cause.REFUSED),
        ("Get https://h:1/v2/: http: server gave HTTP response to HTTPS client", Cause.PLAIN_HTTP),
        ("Get https://h:1/v2/: x509: certificate signed by unknown authority", Cause.UNTRUSTED),
        ("remote error: tls: handshake failure", Cause.UNTRUSTED),
        ("Put http://h:1/v2/app/manifests/1: EOF", Cause.CUT),
        ("write tcp 1.2.3.4:5->1.2.3.5:6: use of closed network connection", Cause.CUT),
        ("read tcp 1.2.3.4:5->1.2.3.5:6: read: connection reset by peer", Cause.CUT),
        ("read tcp 1.2.3.4:5->1.2.3.5:6: i/o timeout", Cause.CUT),
        ("write: broken pipe", Cause.CUT),
        ("received unexpected HTTP status: 503 Service Unavailable", Cause.CUT),
        ("dial tcp 1.2.3.4:5: connect: connection refused", Cause.UNREACHABLE),
        ("dial tcp: lookup h on 1.1.1.1:53: no such host", Cause.UNREACHABLE),
        ("dial tcp 1.2.3.4:5: i/o timeout", Cause.UNREACHABLE),
        ("An image does not exist locally with the tag: h:1/app", Cause.ABSENT),
        ("tag does not exist: h:1/app", Cause.ABSENT),
        ("No such image: h:1/app", Cause.ABSENT),
        ("received unexpected HTTP status: 500 Internal Server Error", Cause.OTHER),
        ("manifest invalid: manifest invalid", Cause.OTHER),
        ("", Cause.OTHER),
    ],
)
def test_cause(words: str, expected: Cause) -> None:
    """The daemon's words are understood."""
    assert expected == cause_of(words)


def test_causes_that_may_pass() -> None:
    """Only what is about the connection can be better a little later."""
    assert [Cause.UNREACHABLE, Cause.CUT] == [cause for cause in Cause if cause.may_pass]


@pytest.mark.parametrize(
    ("words", "has_login", "expected"),
    [
        ("denied: no", False, "There is no login for h:1: name an Airflow connection"),
        ("denied: no", True, "Check user, password and what they may do; name an Airflow"),
        ("does not exist locally", True, "`docker tag IMAGE h:1/app:1`"),
        ("connection refused", True, "that a registry runs at h:1"),
        ("odd", True, "See the logs of the registry at h:1 and of the daemon"),
    ],
)
def test_push_error(words: str, *, has_login: bool, expected: str) -> None:
    """It says what happened, where, and what to do."""
    error = push_error("h:1/app:1", f"{words}.", None, has_login=has_login)

    assert f"cannot push image 'h:1/app:1' to h:1: {words}." == error.what
    assert expected in error.fix
