"""Tests of image references and registry names."""

from __future__ import annotations

import pytest

from airflow_torchx.core.engine.image_refs import host_of, is_image, registry_of, without_tag


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
def test_the_host_of_a_registry(registry: str, expected: str) -> None:
    """Scheme, path and case are ignored, and Docker Hub has one spelling."""
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
    """A registry's host is told apart from a Docker Hub user as Docker does it."""
    assert expected == registry_of(ref)


@pytest.mark.parametrize(
    "ref",
    [
        "app",
        "2297d2fea9e1",
        f"sha256:{'0' * 64}",
        "me/app:1",
        "me/my_app__x.y--z:V1.0-rc_1",
        "localhost/app",
        "Registry.example.com:5000/team/app:latest",
        "[::1]:5000/app",
        f"h:1/me/app:2@sha256:{'aF' * 32}",
        "a" * 255,
    ],
)
def test_valid_references(ref: str) -> None:
    """A name with an optional tag and digest is a valid reference, and so is an id."""
    assert is_image(ref)


@pytest.mark.parametrize(
    "ref",
    [
        "",
        "App",
        "my app",
        "app\n",
        "../containers",
        "a/../b",
        "app?all=1",
        "app#1",
        "büsy",
        "\udcff",
        "app:",
        "app:-1",
        f"app:{'1' * 129}",
        "app@sha256:0",
        "https://h/app",
        "me:word@h/app",
        "a" * 256,
    ],
)
def test_invalid_references(ref: str) -> None:
    """A text that Docker would refuse or misread as part of a URL is not a reference."""
    assert not is_image(ref)


@pytest.mark.parametrize(
    ("ref", "repository"),
    [
        ("train", "train"),
        ("train:1", "train"),
        ("registry:5000/team/train", "registry:5000/team/train"),
        ("registry:5000/team/train:1", "registry:5000/team/train"),
        ("registry:5000/train:1@sha256:00", "registry:5000/train"),
    ],
)
def test_a_repository_has_no_tag(ref: str, repository: str) -> None:
    """The port of a registry is not a tag."""
    assert repository == without_tag(ref)
