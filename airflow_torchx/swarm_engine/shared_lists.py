"""The lists by which apps are placed; all apps that wait in one process share them."""

from __future__ import annotations

import threading
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from airflow_torchx.core.swarm.lists import Lists
from airflow_torchx.errors import EngineError

if TYPE_CHECKING:
    from airflow_torchx.core.swarm.gang import Gang
    from airflow_torchx.swarm_engine.services import Services

#: How long lists are kept. A triggerer tries to place each of its apps every 2 s.
KEEP_S: Final = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class _Kept:
    """An answer of the manager.

    Args:
        found: the lists, or why the manager has sent none.
        app_id: the app of all listed services; empty if those of all apps are listed.
        changes: `Services.changes` from before the requests.
        until_s: when it is too old.
    """

    found: Lists | EngineError
    app_id: str
    changes: object
    until_s: float


class SharedLists:
    """Lists of services, tasks and nodes that are up to a second old. Thread-safe.

    They are read again once this client has changed what runs. Other clients may have changed it
    since the lists were read, so nothing is started, stopped or taken back by lists that are kept.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._lock = threading.Lock()
        self._kept: _Kept | None = None

    def gang(self, app_id: str, *, is_alone: bool, is_fresh: bool = False) -> Gang:
        """Return what starts together of an app; without services if the app is not listed.

        Threads that ask meanwhile wait for one answer, also if it is an error.

        Args:
            app_id: the app.
            is_alone: no other app waits in this process, so other services need not be listed.
            is_fresh: read the lists now.

        Raises:
            EngineError: the manager refuses a list, or has refused one within a second.
        """
        with self._lock:
            kept = self._kept
            if is_fresh or kept is None or not self._is_valid(kept, app_id):
                kept = self._kept = self._read(app_id if is_alone else "")
        if isinstance(kept.found, EngineError):
            raise copy(kept.found)
        return kept.found.gang(app_id)

    def _is_valid(self, kept: _Kept, app_id: str) -> bool:
        is_new = kept.changes is self._services.changes and self._services.clock() < kept.until_s
        return is_new and kept.app_id in ("", app_id)

    def _read(self, app_id: str) -> _Kept:
        services, changes = self._services, self._services.changes
        found: Lists | EngineError
        try:
            found = Lists.of(
                services=services.of_apps(app_id),
                tasks=services.tasks({}),
                nodes=services.nodes(),
                now=services.now(),
            )
        except EngineError as error:
            found, app_id = error, ""
        until_s = services.clock() + KEEP_S
        return _Kept(found=found, app_id=app_id, changes=changes, until_s=until_s)
