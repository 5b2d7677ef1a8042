"""Discarding a container of a daemon that answers with errors."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import docker.errors
import requests

from airflow_torchx.docker_engine.discard import discard

if TYPE_CHECKING:
    import pytest


class Client:
    """The SDK's client of a daemon with one container, which it cannot remove."""

    def __init__(self) -> None:
        self.name = "/ticket"

    def inspect_container(self, container_id: str) -> dict[str, Any]:
        """Return what the daemon knows of the container."""
        assert "c" == container_id
        return {"Name": self.name, "State": {"Status": "created"}}

    def rename(self, container_id: str, name: str) -> None:
        """Rename the container, which works once for a name."""
        assert "c" == container_id
        if self.name == f"/{name}":
            raise refusal(400)
        self.name = f"/{name}"

    def remove_container(self, container_id: str, *, v: bool) -> None:
        """Fail."""
        assert "c" == container_id
        assert v
        raise refusal(500)


def refusal(status: int) -> docker.errors.APIError:
    """Return the SDK's error for a status."""
    response = requests.Response()
    response.status_code = status
    response.raw = io.BytesIO(b'{"message": "device is busy"}')
    return docker.errors.APIError("failed", response=response)


def test_a_container_that_cannot_be_removed(caplog: pytest.LogCaptureFixture) -> None:
    """The rename decides which client has discarded it; the rest is logged."""
    client = Client()

    assert discard(client, "unix:///s", "c")
    assert not discard(client, "unix:///s", "c")

    assert "/airflow-torchx-discarded-c" == client.name
    assert 2 == sum("device is busy" in one for one in caplog.messages)
