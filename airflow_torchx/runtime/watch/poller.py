"""The thread that looks at apps, many in one call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from airflow_torchx.concurrency.parallel import map_concurrently
from airflow_torchx.core.engine import labels
from airflow_torchx.core.state.describe import describe, needs_detail
from airflow_torchx.errors import EngineError
from airflow_torchx.runtime.watch.mailbox import AppSnapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from airflow_torchx.core.engine.containers import ContainerDetail, ContainerRow
    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.runtime.watch.subscriptions import Subscriptions

# One list of all containers costs about as much as this many containers' share of it does alone.
_ROWS_PER_CALL: Final = 32


class Poller:
    """Takes what is due from the subscriptions, looks, and tells those who wait.

    What comes due during a look is looked at together after it.

    Args:
        subscriptions: what is due.
        engine: returns the daemon, None before it has answered for the first time.
        renew: called when the connection of the events may be dead.
    """

    def __init__(
        self,
        subscriptions: Subscriptions,
        engine: Callable[[], Engine | None],
        renew: Callable[[], None],
    ) -> None:
        self._subscriptions = subscriptions
        self._engine = engine
        self._renew = renew
        #: How many rows the last list of all had.
        self._rows = 0
        #: Containers of which an inspect failed: one that hangs must not hold up others again.
        self._dumb: set[str] = set()

    def look(self, timeout_s: float) -> None:
        """Wait until something is due, and look at it; None of it if the daemon is not there."""
        due = self._subscriptions.take(timeout_s)
        engine = self._engine()
        if engine is None or due == frozenset():
            return
        try:
            rows = self._listed(engine, due)
        except EngineError as why:
            self._subscriptions.failed(why)
            self._renew()
            return
        self._subscriptions.answered()
        news = (
            self._subscriptions.swept(rows)
            if due is None
            else self._subscriptions.changed(due, rows)
        )
        for app_id in news:
            self._subscriptions.tell(self._seen(engine, app_id, rows.get(app_id, ())))
        if due is None:
            self._subscriptions.tell_listed(rows)
            if self._subscriptions.missed_events:
                self._renew()

    def _listed(
        self, engine: Engine, due: frozenset[str] | None
    ) -> Mapping[str, Sequence[ContainerRow]]:
        """Return the rows of these apps, and maybe others', by app."""
        if due is not None and len(due) <= max(1, self._rows // _ROWS_PER_CALL):
            return {app_id: engine.rows({labels.APP_ID: app_id}) for app_id in due}
        found = engine.rows({labels.APP_ID: None})
        self._rows = len(found)
        self._dumb.intersection_update(row.id for row in found)
        return _grouped(found)

    def _seen(self, engine: Engine, app_id: str, rows: Sequence[ContainerRow]) -> AppSnapshot:
        wanted = [row.id for row in rows if needs_detail(row) and row.id not in self._dumb]
        details: dict[str, ContainerDetail] = {}
        try:
            found = map_concurrently(engine.inspect, wanted)
            details = {detail.id: detail for detail in found if detail is not None}
        except EngineError:
            # The list alone tells the states; cause and time are only for people.
            self._dumb.update(wanted)
        return AppSnapshot(app_id, describe(app_id, rows, details))


def _grouped(rows: Iterable[ContainerRow]) -> dict[str, list[ContainerRow]]:
    groups: dict[str, list[ContainerRow]] = {}
    for row in rows:
        groups.setdefault(row.labels.get(labels.APP_ID, ""), []).append(row)
    return groups
