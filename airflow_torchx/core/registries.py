"""Registries by name: many spellings, one host; pure."""

from __future__ import annotations

import re
from typing import Final

#: Docker Hub, as this package calls it.
HUB: Final = "docker.io"

_HUB_SPELLINGS: Final = ("", HUB, "index.docker.io", "registry-1.docker.io")


def host_of(registry: str) -> str:
    """Return a registry's host, with its port if one is written, from any way to write it."""
    host = re.sub(r"^[a-z]+://", "", registry.strip().lower()).partition("/")[0]
    return HUB if host in _HUB_SPELLINGS else host


def registry_of(ref: str) -> str:
    """Return the host of the registry in an image name, as `host_of` writes it."""
    first, slash, _ = ref.partition("/")
    is_host = slash and ("." in first or ":" in first or first == "localhost")
    return host_of(first) if is_host else HUB
