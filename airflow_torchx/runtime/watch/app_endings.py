"""Wait on an event loop for the end of every app of a name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

from airflow_torchx.core.state.describe import has_ended
from airflow_torchx.core.state.trigger_event import end_event
from airflow_torchx.runtime.watch import AppList, AppSnapshot

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection

    from airflow_torchx.core.state.trigger_event import AppEvent
    from airflow_torchx.runtime.watch import Watch
    from airflow_torchx.specs import DescribeAppResponse


#: Key in the state store of an asset, by the name of the apps.
STATE_KEY: Final = "airflow-torchx/reported-apps/{}"


class Store(Protocol):
    """Stores JSON between two runs of a watcher, as Airflow's state store of an asset does."""

    async def aget(self, key: str, default: Any = None) -> Any:  # noqa: ANN401 - any JSON
        """Return the stored value, or the default."""

    async def aset(self, key: str, value: Any) -> object:  # noqa: ANN401 - any JSON
        """Store a value."""


class Endings:
    """Yields the end of every app of a name once.

    Apps that ended before the first watcher started are ignored. Apps that end while no triggerer
    is running are reported when one starts, if their containers still exist. An app whose
    containers are removed right after its end can be missed, because only they hold its state.

    Args:
        app_name: the value of the containers' app-name label.
        targets: names of the states to report.
        store: stores which apps were reported; with None every start ignores apps that have ended.
    """

    def __init__(self, app_name: str, targets: Collection[str], store: Store | None) -> None:
        self._app_name = app_name
        self._targets = targets
        self._store = store
        self._key = STATE_KEY.format(app_name)
        #: Apps that need no report (any more).
        self._reported: set[str] = set()

    async def events(self, watch: Watch) -> AsyncIterator[AppEvent]:
        """Yield events until the caller stops."""
        stored = None if self._store is None else await self._store.aget(self._key)
        is_first = not isinstance(stored, list)
        self._reported = set(map(str, stored)) if isinstance(stored, list) else set()
        with watch.mailbox(app_name=self._app_name) as mailbox:
            while True:
                notification = await mailbox.next()
                if isinstance(notification, AppList):
                    if is_first or self._reported - notification.app_ids:
                        is_first = False
                        await self._save(self._reported & notification.app_ids)
                elif (
                    isinstance(notification, AppSnapshot)
                    and notification.app is not None
                    and self._is_new(notification.app)
                ):
                    if not is_first and notification.app.state.name in self._targets:
                        yield end_event(notification.app)
                    self._reported.add(notification.app_id)
                    if not is_first:
                        await self._save(self._reported)

    def _is_new(self, app: DescribeAppResponse) -> bool:
        return app.app_id not in self._reported and has_ended(app)

    async def _save(self, reported: set[str]) -> None:
        self._reported = reported
        if self._store is not None:
            await self._store.aset(self._key, sorted(reported))
