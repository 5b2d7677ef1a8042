"""Work on an event loop that continues although its caller was cancelled, or has ended."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Coroutine

# The loop itself holds no reference to a task.
_WORK: Final[set[asyncio.Task[None]]] = set()


def outlive(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Start work that does not end with its caller."""
    task = asyncio.create_task(work)
    _WORK.add(task)
    task.add_done_callback(_WORK.discard)
    return task
