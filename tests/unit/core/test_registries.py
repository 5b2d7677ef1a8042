"""Registries and their many names."""

from __future__ import annotations

import pytest

from airflow_torchx.core.registries import host_of, registry_of


@pytest.mark.parametrize(
    ("registry", "expected"),
    [
        ("", "docker.io"),
        ("docker.io", "docker.io"),
        ("index.docker.io", "docker.io"),
        ("https://index.docker.io/v1/", "docker.io"),
        ("registry-1.docker.io", "docker.io"),
        (" GHCR.io ", "ghcr.io"),
        ("http://h:5000/v2/", "h:5000"),
        ("h", "h"),
    ],
)
def test_host(registry: str, expected: str) -> None:
    """Scheme, path and case do not matter, and Docker Hub has one name."""
    assert expected == host_of(registry)


@pytest.mark.parametrize(
    ("ref", "expected"),
    [
        ("app", "docker.io"),
        ("me/app:1", "docker.io"),
        ("docker.io/me/app", "docker.io"),
        ("a.b/app", "a.b"),
        ("h:1/me/app@sha256:0", "h:1"),
        ("localhost/app", "localhost"),
    ],
)
def test_registry_of_an_image(ref: str, expected: str) -> None:
    """It is told from a user of Docker Hub as Docker tells it."""
    assert expected == registry_of(ref)
