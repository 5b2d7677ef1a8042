"""A full disk of the daemon, told by words: the Engine has no status of its own for it."""

from __future__ import annotations

import re
from typing import Final

#: What to do about it. BuildKit cannot prune while there is no space at all: it writes that down.
ADVICE: Final = (
    "Free space on the daemon's disk: `docker system df` shows what takes it, and `docker image "
    "prune` and then `docker builder prune` free some."
)
#: A pattern: the system's words for ENOSPC and EDQUOT, as Go and C write them.
WORDS: Final = "(?i)no space left on device|disk quota exceeded"


def is_told(words: str) -> bool:
    """Tell whether words of the Engine, or of a program that it ran, are about a full disk."""
    return re.search(WORDS, words) is not None
