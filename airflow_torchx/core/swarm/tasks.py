"""The containers of a swarm: what the tasks of its services say of them; pure.

https://docs.docker.com/engine/swarm/how-swarm-mode-works/swarm-task-states/ has the states. A
service has one task that is the replica, and once it is stopped, a second one that never gets a
node and carries the name which says why (`service_spec.stopped`).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from airflow_torchx.core.engine.containers import ContainerDetail, ContainerRow
from airflow_torchx.core.engine.labels import (
    APP_ID,
    GPUS,
    ROLES,
    SWARM_MARK,
    SWARM_TAKEN_BACK,
    SWARM_WAITS,
)
from airflow_torchx.core.engine.times import parse_time
from airflow_torchx.core.plan.identity import is_cancelled_name, is_failed_name, is_marked
from airflow_torchx.core.state.rounds import may_restart, role_sizes
from airflow_torchx.core.swarm.service_spec import NOWHERE, current_name, is_started

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    Json = Mapping[str, Any]

_BEFORE_NODE: Final = frozenset({"new", "pending", "allocated"})
_BEFORE_START: Final = frozenset({"assigned", "accepted", "preparing", "ready", "starting"})
#: The states of a task that takes room on its node.
LIVE: Final = _BEFORE_START | {"running"}
_WORDS: Final = {"running": "running", "remove": "removing"} | dict.fromkeys(
    _BEFORE_START, "preparing"
)
_ENDING: Final = frozenset({"shutdown", "remove"})
_ENDED: Final = frozenset({"complete", "failed", "rejected", "shutdown", "orphaned"})
#: Task states that a swarm gives to what it, not the program, has ended.
_EVICTED: Final = "shutdown"
#: The states of a container that has ended.
_OVER: Final = frozenset({"exited", "dead"})
#: The beginning of why a task waits.
UNPLACED: Final = "no suitable node"


@dataclass(frozen=True, kw_only=True, slots=True)
class Replica:
    """One service with its tasks.

    Args:
        service_id: id of the service, which is the id of the container for all that read rows.
        labels: the labels of the container.
        task: the task that is the replica; None before it was started.
        name: the name of the container, which says whether, and why, it is stopped.
        limits: of its CPUs and its memory.
        is_asked_to_end: a client of ours has stopped it, or has recorded its failure.
        is_down: its node does not answer.
        app_waits: why its app waits for room, as a client of ours has found.
    """

    service_id: str
    labels: Mapping[str, str]
    name: str
    image: str
    created_at: datetime
    task: Json | None = None
    limits: Json = field(default_factory=dict)
    is_asked_to_end: bool = False
    is_down: bool = False
    app_waits: str = ""

    @property
    def id(self) -> str:
        """The id of its service, which is that of its container to readers."""
        return self.service_id

    @property
    def node_id(self) -> str:
        """The node that it was placed on; empty for none."""
        return str((self.task or {}).get("NodeID") or "")

    @property
    def is_lost(self) -> bool:
        """Whether the swarm has given it up, and no client of ours has asked for that."""
        return not self.is_asked_to_end and self._is_given_up

    @property
    def may_be_removed(self) -> bool:
        """Whether its service may be gone, or has been taken back."""
        return self._desired == "remove"

    @property
    def is_stopping(self) -> bool:
        """Whether it still has to end."""
        return self.is_asked_to_end and self._is_given_up

    @property
    def _is_given_up(self) -> bool:
        return self._desired in _ENDING and self._state in LIVE

    @property
    def _state(self) -> str:
        return str(_status(self.task).get("State") or "")

    @property
    def _desired(self) -> str:
        return str((self.task or {}).get("DesiredState") or "")

    @property
    def waits_because(self) -> str:
        """The swarm's reason why it is on no node yet; empty if it gives none."""
        return str(_status(self.task).get("Err") or "") if self._state in _BEFORE_NODE else ""

    @property
    def changed_at(self) -> datetime | None:
        """When its task changed last; None without one."""
        return parse_time(_status(self.task).get("Timestamp"))

    @property
    def exit_code(self) -> int | None:
        """The exit code of its program; None if it has not ended, or never ran."""
        is_over = self._state in {"complete", "failed", _EVICTED}
        container = _status(self.task).get("ContainerStatus") or {}
        code = container.get("ExitCode") or 0
        # The program of a lost one may end with 0 when its node returns and stops it.
        counts = is_over and not is_failed_name(self.name)
        # What failed has not succeeded: the code of its container is not that of its program.
        is_known = code >= 0 and not (code == 0 and self._state == "failed")
        return int(code) if counts and container.get("ContainerID") and is_known else None

    @property
    def _is_waiting(self) -> bool:
        """Whether it is to be started once there is room for its app."""
        return bool(self.app_waits) and not is_marked(self.name)

    @property
    def gpus(self) -> tuple[str, ...]:
        """The ids of the generic resources that it has, which the swarm has chosen."""
        given = (self.task or {}).get("GenericResources") or ()
        named = (one.get("NamedResourceSpec") for one in given)
        return tuple([str(one.get("Value")) for one in named if one])

    @property
    def container_id(self) -> str:
        """The id of its container on its node; empty without one."""
        return str((_status(self.task).get("ContainerStatus") or {}).get("ContainerID") or "")

    @property
    def state(self) -> str:
        """The state of the container, in Docker's words, and ``pending`` and ``preparing``.

        A word that this version does not know is the state as it is, unless the task is to end.
        """
        if self.task is None:
            return "pending" if self._is_waiting else "created"
        if self._is_given_up:
            is_over = self.is_lost or self.is_down or is_failed_name(self.name)
            return "dead" if is_over else "running"
        of_task = self._state
        if of_task in _BEFORE_NODE:
            return "pending" if self.waits_because else "created"
        if live := _WORDS.get(of_task):
            return live
        if of_task not in _ENDED and self._desired not in _ENDING:
            return of_task or "unknown"
        # What was evicted has the exit code 0 even if it was killed.
        is_evicted = of_task == _EVICTED and not self.is_asked_to_end
        return "dead" if is_evicted or self.exit_code is None else "exited"

    @property
    def _never_starts(self) -> bool:
        """Whether its app ended while it waited."""
        was_ended = is_cancelled_name(self.name) or is_failed_name(self.name)
        return self.task is None and was_ended

    def row(self, node: str = "") -> ContainerRow:
        """Return it as a row of a list of containers; ``node`` is the name of its node."""
        state, own = self.state, self.labels
        status = f"Exited ({self.exit_code})" if state == "exited" else state.capitalize()
        if SWARM_MARK in own:
            # The other label of a service shows that its app is on a swarm, and may wait for room.
            own = {key: value for key, value in own.items() if key != SWARM_MARK}
        if gpus := self.gpus:
            own = {**own, GPUS: ",".join(gpus)}
        if state == "pending":
            status = f"{status}: {self.app_waits or self.waits_because}"
        return ContainerRow(
            id=self.service_id,
            name=self.name,
            image=self.image,
            state=state,
            status=status,
            labels=own,
            created_at=self.created_at,
            node=node,
        )

    def detail(self, node: str = "") -> ContainerDetail:
        """Return what the manager knows of it; ``node`` is the name of its node."""
        at = self.changed_at
        return ContainerDetail(
            id=self.service_id,
            # Readers of its log wait for its end, and details have no name that shows it.
            state="dead" if self._never_starts else self.state,
            exit_code=self.exit_code,
            oom_killed=False,
            error=self._error(node),
            restarts=0,
            # A task has the time of its last change only.
            started_at=at if self.state == "running" else None,
            finished_at=at if self.state in _OVER else None,
            created_at=self.created_at,
            nano_cpus=self.limits.get("NanoCPUs") or None,
            memory_bytes=self.limits.get("MemoryBytes") or None,
        )

    def _error(self, node: str) -> str:
        on = f"node {node or self.node_id or 'unknown'}"
        err = str(_status(self.task).get("Err") or "")
        if self._is_given_up:
            return f"{on} is lost; the replica may still run there until it returns"
        if self.task is None:
            return self.app_waits if is_failed_name(self.name) else ""
        if is_failed_name(self.name):
            return f"{on} was lost; it has returned, and has stopped the replica"
        if self._state == _EVICTED and not self.is_asked_to_end:
            return f"{on} has stopped it: it was drained, or it was away{': ' * bool(err)}{err}"
        if self._state == "orphaned":
            return f"{on} was removed from the swarm, or has been away for a day"
        is_of_program = "non-zero exit" in err
        return "" if is_of_program or self._state in _BEFORE_NODE else err


def replicas(
    tasks: Iterable[Json], services: Iterable[Json] = (), down: Collection[str] = ()
) -> list[Replica]:
    """Return the replicas in a list of tasks, and those of services that have none.

    The order of neither matters. ``down`` has the ids of the nodes that do not answer.
    """
    by_service: dict[str, list[Json]] = defaultdict(list)
    for task in tasks:
        by_service[str(task.get("ServiceID") or "")].append(task)
    found = {one["ID"]: one for one in services}
    waits = _waits(found.values())
    made = [
        _replica(service_id, by_service.get(service_id, []), found.get(service_id), down)
        for service_id in sorted({*by_service, *found})
    ]
    if not waits:
        return made
    return [replace(one, app_waits=waits.get(one.labels.get(APP_ID, ""), "")) for one in made]


def _waits(services: Iterable[Json]) -> dict[str, str]:
    """Return why apps wait for room, by their ids."""
    found = {}
    for one in services:
        labels = (one.get("Spec") or {}).get("Labels") or {}
        if SWARM_WAITS in labels:
            found[str(labels.get(APP_ID))] = str(labels[SWARM_WAITS])
    return found


def is_complete(found: Sequence[Replica]) -> bool:
    """Return whether each replica that the labels name has a task, so services add nothing."""
    if any(one.may_be_removed for one in found):
        return False
    # A round of restarts may have been created, and not started. Without its number of replicas, an
    # app may have one more.
    if not any(ROLES in one.labels for one in found) or may_restart(found):
        return False
    return sum(role_sizes(found).values()) <= len(found)


def _replica(
    service_id: str, tasks: Sequence[Json], service: Json | None, down: Collection[str]
) -> Replica:
    newest = substitute = None
    for task in sorted(tasks, key=_age) if len(tasks) > 1 else tasks:
        if _is_nowhere(task.get("Spec") or {}):
            substitute = task
        else:
            newest = task
    spec: Json = (service or {}).get("Spec") or {}
    if SWARM_TAKEN_BACK in (spec.get("Labels") or {}) and not is_started(spec):
        # Its task may need its grace period to end; the replica waits to be started again.
        newest = None
    template = spec.get("TaskTemplate") or (newest or substitute or {}).get("Spec") or {}
    container = template.get("ContainerSpec") or {}
    labels: Mapping[str, str] = container.get("Labels") or {}
    named = _labels(substitute) or spec.get("Labels") or labels
    node = str((newest or {}).get("NodeID") or "")
    since = (service or newest or substitute or {}).get("CreatedAt")
    return Replica(
        service_id=service_id,
        labels=labels,
        task=newest,
        limits=(template.get("Resources") or {}).get("Limits") or {},
        name=current_name(named),
        image=_without_digest(str(container.get("Image") or "")),
        created_at=parse_time(since) or datetime.fromtimestamp(0, UTC),
        is_asked_to_end=SWARM_MARK in (_labels(substitute) or {}) or _is_nowhere(template),
        is_down=bool(node) and node in down,
    )


def _is_nowhere(template: Json) -> bool:
    """Return whether a client has stopped what has this template."""
    return NOWHERE in ((template.get("Placement") or {}).get("Constraints") or ())


def _labels(task: Json | None) -> Mapping[str, str]:
    return (((task or {}).get("Spec") or {}).get("ContainerSpec") or {}).get("Labels") or {}


def _status(task: Json | None) -> Json:
    return (task or {}).get("Status") or {}


def _age(task: Json) -> tuple[str, str]:
    return str(task.get("CreatedAt") or ""), str(task.get("ID") or "")


def _without_digest(image: str) -> str:
    name, at, _ = image.partition("@")
    return name if at and name else image
