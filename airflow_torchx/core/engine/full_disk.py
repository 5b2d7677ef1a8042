"""Recognises a full disk of the daemon by message, because the Engine has no status for it."""

from __future__ import annotations

import re
from typing import Final

#: `docker builder prune` comes second, because BuildKit needs some free space to record a prune.
ADVICE: Final = (
    "Free space on the daemon's disk: `docker system df` shows what uses it; run `docker image "
    "prune`, then `docker builder prune`."
)
#: The messages of ENOSPC and EDQUOT, in Go and in C.
PATTERN: Final = "(?i)no space left on device|disk quota exceeded"


def is_disk_full(message: str) -> bool:
    """Return whether a message of the Engine or of a build step reports a full disk."""
    return re.search(PATTERN, message) is not None
