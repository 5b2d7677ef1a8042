"""What somebody may have meant who wrote a name that does not exist."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def nearest(written: str, known: Iterable[str]) -> str | None:
    """Return the known name most like ``written``, whatever its case; None if none is like it."""
    by_lower = {name.lower(): name for name in known}
    near = difflib.get_close_matches(written.lower(), by_lower, n=1)
    return by_lower[near[0]] if near else None


def suggest(written: str, known: Iterable[str]) -> str:
    """Return advice for somebody who wrote an unknown name: the nearest one, or all of them."""
    names = tuple(known)
    near = nearest(written, names)
    return f"did you mean {near!r}?" if near else f"use one of {', '.join(names)}"
