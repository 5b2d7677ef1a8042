"""All replicas of a swarm, kept up to date by requests for what may have changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from airflow_torchx.core.engine.labels import APP_ID
from airflow_torchx.core.swarm.changes import STARTING
from airflow_torchx.core.swarm.service_spec import is_started
from airflow_torchx.core.swarm.tasks import Replica, replicas
from airflow_torchx.errors import EngineNotFoundError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from airflow_torchx.swarm_engine.services import Services

    Json = Mapping[str, Any]
    #: The app, the state and the version of a task.
    _Version = tuple[str, str, int]

#: The tasks that a swarm ends, has ended or removes; those of replicas that run are not among them.
_ENDED: Final = {"label": [APP_ID], "desired-state": ["shutdown", "remove"]}
#: One list of all tasks costs about as much as the lists of this many replicas, app by app.
_ROWS_PER_CALL: Final = 32


class SeenReplicas:
    """The replicas that a list of all tasks would show, without that list.

    A list of the tasks of 1,000 replicas takes a manager 0.2 s. So each refresh lists the tasks
    that end, which are few, and the tasks of each app that starts, ends or was changed.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        #: By the ids of their services.
        self.found: Mapping[str, Replica] = {}
        #: The app and the version of each task that ends or has ended, by its id.
        self._ended: Mapping[str, _Version] = {}
        #: Services that were started and have no task yet.
        self._awaited: frozenset[str] = frozenset()
        #: Whether the last refresh has listed all tasks.
        self.is_whole = False
        self.refresh(None)

    @property
    def are_starting(self) -> bool:
        """Whether replicas are about to start, which no event of a swarm reports."""
        return bool(self._awaited) or any(map(_is_starting, self.found.values()))

    def refresh(self, changed: Collection[str] | None) -> None:
        """Look again at what may have changed.

        Args:
            changed: ids of services that clients have changed; None if it may be any.
        """
        ended = _versions(self._services.tasks(_ENDED))
        fresh = frozenset(changed or ()) | self._awaited
        unseen = [one for one in sorted(fresh) if one not in self.found]
        due = None
        if changed is not None and len(unseen) <= _ROWS_PER_CALL:
            apps = {self.found[one].labels.get(APP_ID, "") for one in fresh if one in self.found}
            due = apps | self._due(ended) | {self._app_of(one) for one in unseen}
            due.discard("")
        self.is_whole = due is None or len(due) > max(1, len(self.found) // _ROWS_PER_CALL)
        self.found = self._all() if due is None or self.is_whole else self._with(due)
        self._ended = ended
        self._awaited = frozenset(
            one for one in unseen if one not in self.found and self._app_of(one)
        )

    def _due(self, ended: Mapping[str, _Version]) -> set[str]:
        """Return the apps whose replicas start, end, or are gone."""
        starting = {one.labels.get(APP_ID, "") for one in filter(_is_starting, self.found.values())}
        return starting | {app for _, (app, *_) in ended.items() ^ self._ended.items()}

    def _app_of(self, service_id: str) -> str:
        """Return the app of a service that was started; empty for any other one."""
        try:
            spec = self._services.find(service_id)["Spec"]
        except EngineNotFoundError:
            return ""
        return str((spec.get("Labels") or {}).get(APP_ID, "")) if is_started(spec) else ""

    def _all(self) -> dict[str, Replica]:
        return _by_service(self._services.tasks({"label": [APP_ID]}))

    def _with(self, apps: Collection[str]) -> dict[str, Replica]:
        """Return the replicas, those of these apps as they are now."""
        found = {key: one for key, one in self.found.items() if one.labels.get(APP_ID) not in apps}
        for app_id in sorted(apps):
            found |= _by_service(self._services.tasks({"label": [f"{APP_ID}={app_id}"]}))
        return found


def _is_starting(one: Replica) -> bool:
    return one.task is not None and one.state in STARTING


def _by_service(tasks: Iterable[Json]) -> dict[str, Replica]:
    return {one.service_id: one for one in replicas(tasks)}


def _versions(tasks: Iterable[Json]) -> dict[str, _Version]:
    return {one["ID"]: _version(one) for one in tasks}


def _version(task: Json) -> _Version:
    container = (task.get("Spec") or {}).get("ContainerSpec") or {}
    app_id = str((container.get("Labels") or {}).get(APP_ID, ""))
    state = str((task.get("Status") or {}).get("State") or "")
    return app_id, state, int((task.get("Version") or {}).get("Index") or 0)
