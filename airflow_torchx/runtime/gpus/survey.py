"""Looks at who holds the GPUs of a daemon."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_torchx.concurrency.parallel import map_concurrently
from airflow_torchx.core.gpu.ledger import read, unlabelled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_torchx.core.engine.containers import GpuRequest
    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.core.gpu.ledger import Ledger


class Survey:
    """Reads the ledger of a daemon with one request, and one for each new container of others.

    Args:
        listed: ids of the daemon's GPUs.
        respects_foreign: whether containers without our label hold GPUs.
    """

    def __init__(
        self, engine: Engine, listed: Sequence[str], *, respects_foreign: bool = True
    ) -> None:
        self._engine = engine
        self._listed = listed
        self._respects_foreign = respects_foreign
        #: Device requests by container; they never change.
        self._requests: dict[str, tuple[GpuRequest, ...]] = {}

    def look(self) -> Ledger:
        """Return who holds and who waits for GPUs now."""
        rows = self._engine.rows({})
        if self._respects_foreign:
            others = [row.id for row in unlabelled(rows)]
            new = [one for one in others if one not in self._requests]
            details = zip(new, map_concurrently(self._engine.inspect, new), strict=True)
            found = {one: detail.gpus if detail else () for one, detail in details}
            known = self._requests | found
            self._requests = {one: known[one] for one in others}
        return read(rows, self._listed, self._requests)
