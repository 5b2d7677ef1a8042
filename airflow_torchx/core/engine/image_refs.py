"""Parses image references and registry names."""

from __future__ import annotations

import re
from typing import Final

#: Docker Hub.
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
    """Return the host of a registry, with its port if given, from any spelling of it."""
    host = re.sub(r"^[a-z]+://", "", registry.strip().lower()).partition("/")[0]
    return HUB if host in _HUB_SPELLINGS else host


def registry_of(ref: str) -> str:
    """Return the host of an image's registry, as `host_of` spells it."""
    first, slash, _ = ref.partition("/")
    is_host = slash and ("." in first or ":" in first or first == "localhost")
    return host_of(first) if is_host else HUB


def is_image(ref: str) -> bool:
    """Return whether a text is a valid image reference or image id.

    The Engine API takes it as a part of the URL, so nothing else may be sent.
    """
    match = _REFERENCE.fullmatch(ref)
    return match is not None and len(match["name"]) <= _MAX_NAME


def without_tag(ref: str) -> str:
    """Return the repository of an image, with its registry."""
    name = ref.partition("@")[0]
    return name[: name.rindex(":")] if ":" in name.rpartition("/")[2] else name
