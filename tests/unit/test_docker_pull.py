"""The events of an image pull."""

from __future__ import annotations

from typing import Any, Final

import pytest

from airflow_torchx.docker_engine.pull import PullProgress, pull_error, registry_of


def layer(name: str, status: str, current: int = 0, total: int = 0) -> dict[str, Any]:
    """Return an event of a layer."""
    detail = {"current": current, "total": total} if total else {}
    return {"id": name, "status": status, "progressDetail": detail}


def progress(*events: dict[str, Any]) -> PullProgress:
    """Return what some events add up to."""
    pull = PullProgress()
    for event in events:
        pull.add(event)
    return pull


MB: Final = 1_000_000


def test_progress() -> None:
    """Layers and their downloads are added up; unpacking counts as downloaded."""
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

    assert "1 of 5 layers, 414 of 1,402 MB" == str(pull)
    assert pull.is_cut

    pull.add(layer("b", "Pull complete"))
    assert "2 of 5 layers, 1,402 of 1,402 MB" == str(pull)
    assert not pull.is_cut


def test_error_in_stream() -> None:
    """The first error in the stream counts."""
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
        ("ghcr.io/me/app:1", 401, "if it is private, log in with `docker login ghcr.io` where"),
        ("me/app", 403, "if it is private, log in with `docker login` where"),
        ("localhost/app", 404, "log in with `docker login localhost` where"),
        ("host:5000/app", None, "log in with `docker login host:5000` if it is private, and check"),
        ("app", 500, "check that the daemon's host reaches the registry: `docker pull app` there"),
    ],
)
def test_pull_error(ref: str, status: int | None, expected: str) -> None:
    """Where the registry refuses us, we are told how to log in."""
    assert expected in pull_error(ref, "cannot pull", status).fix


def test_registry() -> None:
    """A registry is told from a user of Docker Hub as Docker tells it."""
    assert ["", "", "a.b", "h:1", "localhost"] == [
        registry_of(ref) for ref in ("app", "me/app", "a.b/app", "h:1/app", "localhost/app")
    ]
