"""The reapers of one task: each stands by for one launch."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from airflow_torchx.runtime.engines import endpoint_of
from airflow_torchx.runtime.reaper import Reaper

if TYPE_CHECKING:
    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.core.task.record import LaunchedApp
    from airflow_torchx.runtime.reaper import Order


class Reapers:
    """Starts, orders and dismisses reapers by launch; an engine in memory gets none."""

    def __init__(self) -> None:
        self._reapers: dict[str, Reaper] = {}
        # They have work to do when this process ends.
        self._left: list[Reaper] = []

    def order(self, engine: Engine, app: LaunchedApp, order: Order) -> None:
        """Start the reaper of an app unless it runs, and give it an order."""
        # Without a reaper, this process does what it can until it is killed.
        with suppress(OSError):
            endpoint = endpoint_of(engine)
            if app.launch_id not in self._reapers and endpoint is not None:
                self._reapers[app.launch_id] = Reaper(endpoint, app.app_id, app.launch_id)
        if app.launch_id in self._reapers:
            self._reapers[app.launch_id].order(order)

    def dismiss(self, app: LaunchedApp) -> None:
        """End the reaper of an app without a change to the app; do nothing without one."""
        if app.launch_id in self._reapers:
            self._reapers.pop(app.launch_id).dismiss()

    def leave(self, app: LaunchedApp) -> bool:
        """Return whether a reaper carries out its last order when this process ends."""
        if app.launch_id not in self._reapers:
            return False
        self._left.append(self._reapers.pop(app.launch_id))
        return True
