"""Reads who holds the GPUs of a daemon, and who waits for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_torchx.concurrency.parallel import map_concurrently
from airflow_torchx.core.gpu.ledger import needs_inspect, read

if TYPE_CHECKING:
    from airflow_torchx.core.engine.containers import ContainerDetail
    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.core.gpu.ids import GpuIds
    from airflow_torchx.core.gpu.ledger import Ledger


class LedgerReader:
    """Reads the ledger of a daemon.

    It makes one request, and one for each new ticket, each new container of other programs, and
    each container that has just ended.

    Args:
        known: the GPUs of the daemon, as far as this client knows them.
    """

    def __init__(self, engine: Engine, known: GpuIds) -> None:
        self._engine = engine
        self._known = known
        #: Results of inspects by container and state. What is used of them changes with the state.
        self._details: dict[tuple[str, str], ContainerDetail] = {}

    def read(self) -> Ledger:
        """Return who holds and who waits for GPUs now."""
        rows = self._engine.rows({})
        states = {row.id: row.state for row in rows}
        needed = list(dict.fromkeys((one, states[one]) for one in needs_inspect(rows)))
        new = [one for one in needed if one not in self._details]
        ids = [one for one, _ in new]
        found = zip(new, map_concurrently(self._engine.inspect, ids), strict=True)
        known = self._details | {one: detail for one, detail in found if detail is not None}
        # The daemon lists a container for a moment before it can be inspected.
        self._details = {one: known[one] for one in needed if one in known}
        details = {one: detail for (one, _), detail in self._details.items()}
        return read(rows, self._known, details)
