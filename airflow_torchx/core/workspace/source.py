"""Parses the workspace that a user gives."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes, urlsplit, urlunsplit

from airflow_torchx.errors import WorkspaceError
from airflow_torchx.specs import Workspace

if TYPE_CHECKING:
    from collections.abc import Iterator

# https://www.rfc-editor.org/rfc/rfc2397, its shortest form.
_INLINE: Final = "data:,"


def parse_workspace(
    value: str | PurePath | Mapping[str, str] | Workspace | None,
) -> tuple[tuple[str, str], ...]:
    """Return the source and target of each part of a workspace; empty for None and "".

    Args:
        value: a path or a URL, a mapping of such sources to targets, or that mapping as YAML. A
            target is a folder in the workspace; empty or None for the workspace itself.

    Raises:
        WorkspaceError: the value has another form, or a target is outside the workspace.
    """
    # TorchX's Workspace has the same attribute.
    value = getattr(value, "projects", value)
    if isinstance(value, PurePath):
        value = {str(value): ""}
    if isinstance(value, str):
        value = Workspace.from_str(value).projects
    return tuple(_parts({} if value is None else value))


def is_url(source: str) -> bool:
    """Return whether a source is a URL."""
    return "://" in source and not is_inline(source)


def is_inline(source: str) -> bool:
    """Return whether a source is the content of a file, as a ``data:,`` URL."""
    return source.startswith(_INLINE)


def inline_text(source: str) -> bytes:
    """Return the content in a ``data:,`` URL."""
    return unquote_to_bytes(source.removeprefix(_INLINE))


def is_relative(source: str) -> bool:
    """Return whether a source is a relative path."""
    return not is_url(source) and not source.startswith(("/", "~", _INLINE))


def shown(source: str) -> str:
    """Return a source without secrets: a URL without its user, password and query."""
    if is_inline(source):
        return f"{_INLINE}…"
    return "::".join(_shown_url(url) for url in source.split("::")) if is_url(source) else source


def _shown_url(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        return f"{url.partition('://')[0]}://…"
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _parts(value: object) -> Iterator[tuple[str, str]]:
    if not isinstance(value, Mapping):
        what = f"a workspace cannot be a {type(value).__name__}."
        raise WorkspaceError(what, fix="Give a path, a URL, or a mapping of sources to targets.")
    for given, target in value.items():
        source = str(given) if isinstance(given, PurePath) else given
        if isinstance(source, str) and re.match("data:[^,]+,", source):
            what = "a data: URL with a media type is not read as a workspace source."
            raise WorkspaceError(what, fix="Write the content as text: 'data:,hello%20world'.")
        if not isinstance(source, str) or not source.strip() or "\0" in source:
            name = shown(source) if isinstance(source, str) else source
            what = f"{name!r} is not a valid workspace source."
            raise WorkspaceError(what, fix="Give a folder, a file or a URL.")
        yield source, _target(source, target)


def _target(source: str, target: object) -> str:
    if target is None:
        return ""
    if not isinstance(target, str) or "\0" in target:
        what = f"{target!r} is not a valid target for {shown(source)!r} in the workspace."
        raise WorkspaceError(what, fix="Give a folder in the workspace, or leave it empty.")
    parts = [part for part in target.split("/") if part not in {"", "."}]
    if target.startswith("/") or ".." in parts:
        what = f"target {target!r} of {shown(source)!r} is outside the workspace."
        raise WorkspaceError(what, fix="Give a folder relative to the workspace, without '..'.")
    return "/".join(parts)
