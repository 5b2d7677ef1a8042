"""Looks at who holds the GPUs of a daemon."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_torchx.concurrency.parallel import map_concurrently
from airflow_torchx.core.gpu.ledger import needs_inspect, read

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_torchx.core.engine.containers import ContainerDetail
    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.core.gpu.ledger import Ledger


class Survey:
    """Reads the ledger of a daemon.

    It makes one request, and one for each new ticket and each new container of other programs.

    Args:
        listed: ids of the GPUs that this client may use.
        reported: ids of all GPUs of the daemon, in the order of their indices.
        respects_foreign: whether containers of other programs hold GPUs.
    """

    def __init__(
        self,
        engine: Engine,
        listed: Sequence[str],
        reported: Sequence[str],
        *,
        respects_foreign: bool = True,
    ) -> None:
        self._engine = engine
        self._listed = listed
        self._reported = reported
        self._respects_foreign = respects_foreign
        #: Results of inspects by container. What is used of them never changes.
        self._details: dict[str, ContainerDetail] = {}

    def look(self) -> Ledger:
        """Return who holds and who waits for GPUs now."""
        rows = self._engine.rows({})
        needed = list(needs_inspect(rows, respects_foreign=self._respects_foreign))
        new = [one for one in needed if one not in self._details]
        found = zip(new, map_concurrently(self._engine.inspect, new), strict=True)
        known = self._details | {one: detail for one, detail in found if detail is not None}
        # The daemon lists a container for a moment before it can be inspected.
        self._details = {one: known[one] for one in needed if one in known}
        return read(rows, self._listed, self._reported, self._details)
