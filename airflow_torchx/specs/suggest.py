"""Suggests known names for an unknown one."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def nearest(written: str, known: Iterable[str]) -> str | None:
    """Return the known name closest to ``written``; None if none is close.

    Case and leading dashes are ignored.
    """
    by_lower = {name.lstrip("-").lower(): name for name in known}
    near = difflib.get_close_matches(written.lstrip("-").lower(), by_lower, n=1)
    return by_lower[near[0]] if near else None


def suggest(written: str, known: Iterable[str]) -> str:
    """Return a hint for an unknown name: the closest known name, or all of them."""
    names = tuple(known)
    near = nearest(written, names)
    return f"did you mean {near!r}?" if near else f"use one of {', '.join(names)}"
