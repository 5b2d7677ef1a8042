"""Sizes and modes of a tmpfs, as a swarm takes them; pure."""

from __future__ import annotations

import re
from typing import Any, Final

_UNITS: Final = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_SIZE: Final = re.compile(r"(\d+)([kmg]?)b?", re.IGNORECASE)
_MODE: Final = re.compile(r"[0-7]{3,4}")
#: What a mount of a swarm does anyway.
_DEFAULTS: Final = frozenset({"rw", "nosuid", "nodev", "noexec"})


def tmpfs_options(text: str) -> dict[str, Any]:
    """Return the ``TmpfsOptions`` of options like ``size=64m,mode=1777``.

    Raises:
        ValueError: a swarm has no field for one of them.
    """
    found: dict[str, Any] = {}
    for option in filter(None, text.split(",")):
        key, _, value = option.partition("=")
        if key == "size" and (size := _SIZE.fullmatch(value)):
            found["SizeBytes"] = int(size[1]) * _UNITS[size[2].lower()]
        elif key == "mode" and _MODE.fullmatch(value):
            found["Mode"] = int(value, 8)
        elif option not in _DEFAULTS:
            raise ValueError(option)
    return found
