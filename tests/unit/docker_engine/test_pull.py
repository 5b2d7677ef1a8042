"""Progress and errors of an image pull."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

from airflow_torchx.docker_engine.pull import pull_error
from airflow_torchx.docker_engine.transfer import LayerProgress, follow
from airflow_torchx.testing import ManualClock

if TYPE_CHECKING:
    from collections.abc import Generator


def layer(name: str, status: str, current: int = 0, total: int = 0) -> dict[str, Any]:
    """Return an event of a layer."""
    detail = {"current": current, "total": total} if total else {}
    return {"id": name, "status": status, "progressDetail": detail}


def progress(*events: dict[str, Any]) -> LayerProgress:
    """Return the progress after some events."""
    pull = LayerProgress()
    for event in events:
        pull.add(event)
    return pull


MB: Final = 1_000_000


def test_progress() -> None:
    """Progress sums up layers and downloaded bytes; a layer being extracted is downloaded."""
    pull = progress(
        {"status": "Pulling from library/x", "id": "latest"},
        layer("a", "Already exists"),
        layer("b", "Downloading", 12 * MB, 1_000 * MB),
        layer("c", "Downloading", 5 * MB, 400 * MB),
        layer("c", "Download complete"),
        layer("d", "Downloading", 1 * MB, 2 * MB),
        layer("d", "Extracting", 1, 2 * MB),
        layer("e", "Pulling fs layer"),
    )

    assert "1 of 5 layers (1 already there), 414 MB of 1,402 MB" == str(pull)
    assert pull.is_incomplete

    pull.add(layer("b", "Pull complete"))
    assert "2 of 5 layers (1 already there), 1,402 MB of 1,402 MB" == str(pull)
    assert not pull.is_incomplete


def test_progress_is_told_once_a_second() -> None:
    """However many events come, each second has one line, and the first second has none."""
    clock = ManualClock()
    lines: list[str] = []

    def events() -> Generator[dict[str, Any]]:
        for current in range(1, 11):
            clock.advance(0.3)
            yield layer("a", "Downloading", current * MB, 10 * MB)

    follow(events(), LayerProgress(), lines.append, clock)

    assert ["0 of 1 layers, 4.0 MB of 10 MB", "0 of 1 layers, 8.0 MB of 10 MB"] == lines


def test_error_in_stream() -> None:
    """The first error in the stream is reported."""
    pull = progress(
        {"errorDetail": {"code": 401, "message": "unauthorized"}, "error": "unauthorized"},
        {"error": "context canceled"},
    )

    assert ("unauthorized", 401) == pull.error
    assert ("why", None) == progress({"error": "why"}).error
    assert ("no reason given", None) == progress({"errorDetail": None}).error


@pytest.mark.parametrize(
    ("ref", "status", "expected"),
    [
        (
            "ghcr.io/me/app:1",
            401,
            "host ghcr.io to docker_conn_ids, or run `docker login ghcr.io`",
        ),
        ("me/app", 403, "with host docker.io to docker_conn_ids, or run `docker login` on"),
        (
            "localhost/app",
            404,
            "localhost to docker_conn_ids, or run `docker login localhost`",
        ),
        ("host:5000/app", None, "or run `docker login host:5000` on this host; and check that"),
        (
            "app",
            500,
            "check that the daemon's host reaches the registry: run `docker pull app` there",
        ),
    ],
)
def test_pull_error(ref: str, status: int | None, expected: str) -> None:
    """The error of a rejected pull says how to log in to that registry."""
    assert expected in pull_error(ref, "cannot pull", status).fix


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("Head https://h:1/v2/app: no basic auth credentials", "if it is private, add an Airflow"),
        ("denied: not yours", "if it is private, add an Airflow"),
        ("http: server gave HTTP response to HTTPS client", "insecure-registries"),
        ("x509: certificate signed by unknown authority", "/etc/docker/certs.d/h:1/ca.crt"),
        ("dial tcp: lookup h: no such host", "that a registry runs at h:1"),
        ("unexpected EOF", "Check the network between the daemon and h:1"),
        ("failed to register layer: write /x: no space left on device", "docker system df"),
    ],
)
def test_cause_of_a_pull_that_failed(message: str, expected: str) -> None:
    """The fix follows from the daemon's message, because most registry errors have status 500."""
    assert expected in pull_error("h:1/app", f"cannot pull image 'h:1/app': {message}.", 500).fix


@pytest.mark.parametrize(
    ("ref", "message", "status", "is_said"),
    [
        ("foo:local", "pull access denied", 404, True),
        ("me/foo", "lookup registry-1.docker.io: no such host", 500, True),
        ("foo", "the stream has no code", None, True),
        ("foo", "unexpected EOF", 500, False),
        ("ghcr.io/foo:local", "not found", 404, False),
        ("localhost/foo:local", "connection refused", 500, False),
        ("docker.io/me/foo", "not found", 404, False),
    ],
)
def test_image_without_a_registry(
    ref: str, message: str, status: int | None, *, is_said: bool
) -> None:
    """The fix of an image that Docker Hub does not have says how to build or name it."""
    fix = pull_error(ref, message, status).fix

    assert is_said == (f"`docker build -t {ref} .`" in fix)
    assert is_said == (f"put that in front, like registry.example.com/{ref}." in fix)


@pytest.mark.parametrize("status", [404, None])
def test_a_problem_with_the_login_is_told_only_if_it_matters(status: int | None) -> None:
    """A refused pull says why there was no login; one for another reason does not."""
    problem = "The helper is missing."

    assert pull_error("h:1/app", "denied: no", status, problem).fix.endswith(problem)
    assert problem not in pull_error("h:1/app", "no such host", status and 500, problem).fix
