"""What a user may write as a workspace."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes, urlsplit, urlunsplit

from airflow_torchx.errors import WorkspaceError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_torchx.specs import Workspace

# https://www.rfc-editor.org/rfc/rfc2397, its shortest form.
_INLINE: Final = "data:,"


def parse_workspace(
    value: str | Mapping[str, str] | Workspace | None,
) -> tuple[tuple[str, str], ...]:
    """Return the parts of a workspace, each as source and target; nothing for None and for "".

    Args:
        value: a path or a URL, a mapping of such sources to targets, or that mapping as YAML. A
            target is a folder in the workspace; empty or None is the workspace itself.

    Raises:
        WorkspaceError: it is none of these, or a target lies outside the workspace.
    """
    # TorchX's own Workspace has them as well.
    value = getattr(value, "projects", value)
    if isinstance(value, str):
        value = _mapping(value)
    return tuple(_parts({} if value is None else value))


def is_url(source: str) -> bool:
    """Tell whether a source is a URL of a storage, and neither a path nor a text."""
    return "://" in source and not is_inline(source)


def is_inline(source: str) -> bool:
    """Tell whether a source is itself the text of one file: ``data:,`` and the text, quoted."""
    return source.startswith(_INLINE)


def inline_text(source: str) -> bytes:
    """Return the text of a source that `is_inline`."""
    return unquote_to_bytes(source.removeprefix(_INLINE))


def is_relative(source: str) -> bool:
    """Tell whether a source is a path that says not where it starts."""
    return not is_url(source) and not source.startswith(("/", "~", _INLINE))


def shown(source: str) -> str:
    """Return a source without what may be secret in it: user, password and query of a URL."""
    if is_inline(source):
        return f"{_INLINE}…"
    return "::".join(_shown_url(url) for url in source.split("::")) if is_url(source) else source


def _shown_url(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        return f"{url.partition('://')[0]}://…"
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _mapping(text: str) -> Mapping[str, str]:
    import yaml

    if not text.strip():
        return {}
    try:
        loaded = yaml.safe_load(text)
    except yaml.YAMLError:
        loaded = None
    # Whatever else YAML makes of a path, like None of "~", it is the path that was meant.
    return loaded if isinstance(loaded, dict) else {text.strip(): ""}


def _parts(value: object) -> Iterator[tuple[str, str]]:
    if not isinstance(value, Mapping):
        what = f"a workspace cannot be a {type(value).__name__}."
        raise WorkspaceError(what, fix="Give a path, a URL, or a mapping of sources to targets.")
    for source, target in value.items():
        if not isinstance(source, str) or not source.strip() or "\0" in source:
            named = shown(source) if isinstance(source, str) else source
            what = f"{named!r} is no source of a workspace."
            raise WorkspaceError(what, fix="Name a folder, a file or a URL.")
        yield source, _target(source, target)


def _target(source: str, target: object) -> str:
    if target is None:
        return ""
    if not isinstance(target, str) or "\0" in target:
        what = f"{target!r} is no target for {shown(source)!r} in the workspace."
        raise WorkspaceError(what, fix="Name a folder in the workspace, or leave it empty.")
    parts = [part for part in target.split("/") if part not in {"", "."}]
    if target.startswith("/") or ".." in parts:
        what = f"target {target!r} of {shown(source)!r} lies outside the workspace."
        raise WorkspaceError(what, fix="Name a folder relative to the workspace, without '..'.")
    return "/".join(parts)
