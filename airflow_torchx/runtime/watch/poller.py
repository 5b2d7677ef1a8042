"""The thread that looks at apps, many in one call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from airflow_torchx.concurrency.parallel import map_concurrently
from airflow_torchx.core.engine import labels
from airflow_torchx.core.state.describe import by_app, describe, needing_detail, without_copies
from airflow_torchx.errors import EngineError
from airflow_torchx.runtime.watch.mailbox import AppSnapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow_torchx.core.engine.containers import ContainerDetail, ContainerRow
    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.runtime.watch.subscriptions import Subscriptions

# One list of all containers costs about as much as this many containers' share of it does alone.
_ROWS_PER_CALL: Final = 32


class Poller:
    """Looks at the apps that are due and delivers snapshots.

    Apps that come due during a look share the next one. ``engine`` returns None before the daemon's
    first answer; ``renew`` is called when the event stream may be dead.
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
        #: Number of rows of the last full list.
        self._rows = 0
        #: Containers whose inspect failed: one that hangs must not delay others again.
        self._uninspectable: set[str] = set()

    def look(self, timeout_s: float) -> None:
        """Wait up to ``timeout_s`` seconds until apps are due, and look at them."""
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
            self._subscriptions.deliver(self._seen(engine, app_id, rows.get(app_id, ())))
        if due is None:
            self._subscriptions.deliver_list(rows)
            if self._subscriptions.missed_events:
                self._renew()

    def _listed(
        self, engine: Engine, due: frozenset[str] | None
    ) -> Mapping[str, Sequence[ContainerRow]]:
        """Return the rows of these apps, and possibly of others, by app."""
        if due is not None and len(due) <= max(1, self._rows // _ROWS_PER_CALL):
            return {one: without_copies(engine.rows({labels.APP_ID: one})) for one in due}
        found = engine.rows({labels.APP_ID: None})
        self._rows = len(found)
        self._uninspectable.intersection_update(row.id for row in found)
        return by_app(found)

    def _seen(self, engine: Engine, app_id: str, rows: Sequence[ContainerRow]) -> AppSnapshot:
        wanted = [one for one in needing_detail(rows) if one not in self._uninspectable]
        details: dict[str, ContainerDetail] = {}
        try:
            found = map_concurrently(engine.inspect, wanted)
            details = {detail.id: detail for detail in found if detail is not None}
        except EngineError:
            # The list has the states; cause and times are only for people.
            self._uninspectable.update(wanted)
        return AppSnapshot(app_id, describe(app_id, rows, details))
