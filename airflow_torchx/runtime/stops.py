"""Stops containers, so that of several clients one sends SIGTERM.

A program that saves a checkpoint after SIGTERM may take a second one as a request to end at once.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Final

from airflow_torchx.concurrency.parallel import map_concurrently
from airflow_torchx.core.plan.identity import is_ending_name
from airflow_torchx.errors import EngineConflictError, EngineNotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from airflow_torchx.core.engine.containers import ContainerRow
    from airflow_torchx.core.engine.protocol import Engine

# Between two requests about containers that another client stops.
_LOOK_S: Final = 0.2
# The daemon kills a container at the end of its grace period, and lists that some time later.
_KILL_S: Final = 1.0


class Stops:
    """The containers of an app that this client stops, and those that others do.

    Args:
        engine: the daemon.
        look: lists the containers that run or may still start.
        own: ids of the containers that this client has begun to stop; it is kept up to date.
    """

    def __init__(
        self,
        engine: Engine,
        look: Callable[[], Iterable[ContainerRow]],
        own: set[str] | None = None,
    ) -> None:
        self._engine = engine
        self._look = look
        self._own = set[str]() if own is None else own

    def rename(self, rows: Sequence[ContainerRow], name: Callable[[str], str]) -> None:
        """Rename containers, so that every client reads why each is stopped.

        A container is renamed by its name. So of clients that do so for the same reason, one does:
        300 of 300 times with 4 clients at once, Engine 20.10. Only that one sends SIGTERM.
        """
        map_concurrently(lambda row: self._rename(row, name(row.name)), rows)

    def _rename(self, row: ContainerRow, name: str) -> None:
        if name == row.name:
            return
        try:
            self._engine.rename(row.name, name)
        except (EngineConflictError, EngineNotFoundError):
            return
        if is_ending_name(name) and not is_ending_name(row.name):
            self._own.add(row.id)

    def is_own(self, row: ContainerRow) -> bool:
        """Return whether this client stops a container."""
        return row.id in self._own

    def stop(self, rows: Sequence[ContainerRow], grace_s: float) -> None:
        """Stop containers that were renamed, at once, with one grace period.

        It waits for those that other clients stop: the daemon carries out a stop, with its grace
        period in whole seconds, even if that client has died. Then it stops what still runs, as
        that client may have died before its request.
        """
        deadline_s = time.monotonic() + (math.ceil(grace_s) + _KILL_S if grace_s else 0)
        others = {row.id for row in rows if row.state == "running" and not self.is_own(row)}
        self._stop([row for row in rows if row.id not in others], grace_s)
        while others and time.monotonic() < deadline_s:
            others &= {row.id for row in self._look()}
            if others:
                time.sleep(_LOOK_S)
        self._stop([row for row in rows if row.id in others], grace_s)
        self._own |= {row.id for row in rows}

    def _stop(self, rows: Sequence[ContainerRow], grace_s: float) -> None:
        threads = len(rows) or 1
        map_concurrently(lambda row: self._engine.stop(row.id, grace_s), rows, threads=threads)
