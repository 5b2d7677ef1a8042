"""Registries by name: many spellings, one host; pure."""

from __future__ import annotations

import re
from typing import Final

#: Docker Hub, as this package calls it.
HUB: Final = "docker.io"

# https://pkg.go.dev/github.com/distribution/reference has the grammar.
_WORD: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_LABEL: Final = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_HOST: Final = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?"
_REFERENCE: Final = re.compile(
    rf"(?P<name>(?:{_HOST}/)?{_WORD}(?:/{_WORD})*)"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?"
    r"(?:@[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,})?"
)
_MAX_NAME: Final = 255

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


def is_image(ref: str) -> bool:
    """Tell whether a text can name an image: by name, with tag or digest or without, or by id.

    To a daemon that is asked for anything else, the text would be a part of a URL.
    """
    match = _REFERENCE.fullmatch(ref)
    return match is not None and len(match["name"]) <= _MAX_NAME
