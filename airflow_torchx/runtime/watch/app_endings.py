"""Waiting on an event loop for every app of a name that ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from airflow_torchx.core.state.describe import Finish, next_step
from airflow_torchx.core.state.trigger_event import end_event
from airflow_torchx.runtime.watch import AppList, AppSnapshot

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection

    from airflow_torchx.core.state.trigger_event import AppEvent
    from airflow_torchx.runtime.watch import Watch
    from airflow_torchx.specs import DescribeAppResponse


class Memory(Protocol):
    """Keeps JSON between two runs of a watcher, as Airflow's state store of an asset does."""

    async def aget(self, key: str, default: Any = None) -> Any:  # noqa: ANN401 - any JSON
        """Return what was kept, or the default."""
        ...

    async def aset(self, key: str, value: Any) -> object:  # noqa: ANN401 - any JSON
        """Keep something."""
        ...


class Endings:
    """Yields the end of every app of a name once.

    An app that had ended when the very first look was made is no news. What ends while nobody
    watches is told later, if it is still on the daemon then. An app whose containers are removed
    within a moment after its end may be missed: what it ended as is known from them alone.

    Args:
        app_name: the name, as the launch wrote it on the containers.
        targets: names of the states that count.
        memory: where it is kept which apps were told; None for nowhere: then what had ended before
            a look is no news after every start.
    """

    def __init__(self, app_name: str, targets: Collection[str], memory: Memory | None) -> None:
        self._app_name = app_name
        self._targets = targets
        self._memory = memory
        self._key = f"airflow-torchx/reported-apps/{app_name}"
        #: Apps that were told, or need not be. Before the first list of all: those to be put there.
        self._told: set[str] = set()

    async def events(self, watch: Watch) -> AsyncIterator[AppEvent]:
        """Yield for ever."""
        kept = None if self._memory is None else await self._memory.aget(self._key)
        is_first = not isinstance(kept, list)
        self._told = set(map(str, kept)) if isinstance(kept, list) else set()
        with watch.mailbox(app_name=self._app_name) as mailbox:
            while True:
                notification = await mailbox.next()
                if isinstance(notification, AppList):
                    if is_first or self._told - notification.app_ids:
                        is_first = False
                        await self._keep(self._told & notification.app_ids)
                elif (
                    isinstance(notification, AppSnapshot)
                    and notification.app is not None
                    and self._is_new(notification.app)
                ):
                    if not is_first and notification.app.state.name in self._targets:
                        yield end_event(notification.app)
                    self._told.add(notification.app_id)
                    if not is_first:
                        await self._keep(self._told)

    def _is_new(self, app: DescribeAppResponse) -> bool:
        return app.app_id not in self._told and isinstance(next_step(app), Finish)

    async def _keep(self, told: set[str]) -> None:
        self._told = told
        if self._memory is not None:
            await self._memory.aset(self._key, sorted(told))
