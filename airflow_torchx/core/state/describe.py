"""The state of an app, computed from its containers.

The scheduler's ``wait``, the operator and its trigger ask `next_step` how to go on. A sensor asks
`evaluate.evaluate` instead. No result depends on the order of the container list.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from airflow_torchx.core.engine import labels
from airflow_torchx.core.plan.identity import (
    container_name,
    first_name,
    is_cancelled_name,
    is_failed_name,
    is_marked,
    is_restarting_name,
    is_saving_name,
    is_stalled_name,
    round_name,
)
from airflow_torchx.core.state.essential import (
    AUXILIARY_GRACE,
    ESSENTIAL_ROLES,
    auxiliary_grace,
    essential_replicas,
    unneeded_roles,
)
from airflow_torchx.core.state.progress import PROGRESS_PATTERN
from airflow_torchx.core.state.restarts import Restart, restart_of, with_restart
from airflow_torchx.core.state.rounds import (
    age,
    by_round,
    current_round,
    labelled_gpus,
    may_restart,
    members_of,
    replica_key,
    role_of,
    role_sizes,
    round_of,
    sources_of,
)
from airflow_torchx.core.state.signals import signal_name
from airflow_torchx.core.state.stall import STALLED_AFTER
from airflow_torchx.specs import (
    NONE,
    AppState,
    DescribeAppResponse,
    ListAppResponse,
    ReplicaStatus,
    Role,
    RoleStatus,
    is_terminal,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from airflow_torchx.core.engine.containers import ContainerDetail, ContainerEvent, ContainerRow

#: Keys of ``DescribeAppResponse.metadata``.
FAILURE_POLICY: Final = "failure_policy"
#: The app's own rules, as JSON.
FAILURE_RULES: Final = "failure_rules"
STOP_GRACE: Final = "stop_grace_s"
CHECKPOINT: Final = "checkpoint"
CHECKPOINT_FOLDER: Final = "checkpoint_folder"
CHECKPOINT_INTERVAL: Final = "checkpoint_interval_s"
CHECKPOINT_SIGNAL: Final = "checkpoint_signal"
CHECKPOINT_S: Final = "checkpoint_s"
RETRIES: Final = "retries"
#: Set if the replicas are services of a swarm.
SWARM: Final = "swarm"
#: Set while replicas save, because ``execution_timeout`` is near.
SAVING: Final = "saving"

_METADATA: Final = {
    FAILURE_POLICY: labels.FAILURE_POLICY,
    FAILURE_RULES: labels.FAILURE_RULES,
    PROGRESS_PATTERN: labels.PROGRESS_PATTERN,
    STOP_GRACE: labels.STOP_GRACE,
    ESSENTIAL_ROLES: labels.ESSENTIAL_ROLES,
    STALLED_AFTER: labels.STALLED_AFTER,
    AUXILIARY_GRACE: labels.AUXILIARY_GRACE,
    CHECKPOINT: labels.CHECKPOINT,
    CHECKPOINT_FOLDER: labels.CHECKPOINT_FOLDER,
    CHECKPOINT_INTERVAL: labels.CHECKPOINT_INTERVAL,
    CHECKPOINT_SIGNAL: labels.CHECKPOINT_SIGNAL,
    CHECKPOINT_S: labels.CHECKPOINT_S,
    RETRIES: labels.RETRIES,
}
_GONE: Final = "its container is gone from the daemon"

# https://docs.docker.com/reference/api/engine/ (container list, State), and of a swarm, a replica
# that waits for a node ("pending") or for its image and its start ("preparing"). The state of an
# "exited" container depends on its exit code, and on whether it was cancelled.
_BY_DOCKER_STATE: Final = {
    "created": AppState.SUBMITTED,
    "pending": AppState.PENDING,
    "preparing": AppState.PENDING,
    "restarting": AppState.PENDING,
    "running": AppState.RUNNING,
    "paused": AppState.PENDING,
    "removing": AppState.PENDING,
    "dead": AppState.FAILED,
}
_NOT_RUNNING: Final = ("created", "exited", "dead")
_STATUS_CODE: Final = re.compile(r"^\w+ \((-?\d+)\)")
_BY_PROGRESS: Final = (AppState.UNKNOWN, AppState.SUBMITTED, AppState.PENDING, AppState.RUNNING)


@dataclass(frozen=True)
class Wait:
    """The app is still running."""


@dataclass(frozen=True)
class Finish:
    """Every replica has ended; ``state`` is the app's final state."""

    state: AppState


@dataclass(frozen=True)
class Fail:
    """A replica has failed and its peers, which still run, must be stopped."""

    lost: ReplicaStatus


@dataclass(frozen=True)
class Place:
    """Replicas wait for nodes of a swarm, on which they are to start together."""


@dataclass(frozen=True)
class StopAuxiliary:
    """Every essential replica has ended, and these ``roles``, which still run, must be stopped.

    ``grace_s`` is None for the time of the launch.
    """

    roles: tuple[str, ...]
    grace_s: float | None


def exit_code(row: ContainerRow) -> int | None:
    """Return the exit code in a row's status; None if it has none."""
    match = _STATUS_CODE.match(row.status) if row.state == "exited" else None
    return int(match[1]) if match else None


def replica_state(row: ContainerRow, code: int | None) -> AppState:
    """Return the state of a replica with this container and exit code, None if unknown."""
    if row.state in _NOT_RUNNING:
        if is_cancelled_name(row.name) or is_restarting_name(row.name):
            return AppState.CANCELLED
        if is_failed_name(row.name) or is_stalled_name(row.name):
            return AppState.FAILED
    if row.state == "exited" and code is not None:
        return AppState.SUCCEEDED if code == 0 else AppState.FAILED
    return _BY_DOCKER_STATE.get(row.state, AppState.UNKNOWN)


def app_state(states: Iterable[AppState]) -> AppState:
    """Return the state of an app whose replicas have these states.

    FAILED if any failed, else CANCELLED if any was cancelled, else SUCCEEDED if all did, else the
    least advanced state of the others.
    """
    present = set(states)
    for state in (AppState.FAILED, AppState.CANCELLED):
        if state in present:
            return state
    if present == {AppState.SUCCEEDED}:
        return AppState.SUCCEEDED
    return next((state for state in _BY_PROGRESS if state in present), AppState.UNKNOWN)


def next_step(app: DescribeAppResponse) -> Wait | Place | Finish | Fail | StopAuxiliary | Restart:
    """Return what the owner of an app does next.

    The failure policy comes from the app's labels. Apps without it, like those of TorchX's command
    line, are never stopped. A replica that ends because it has saved does not stop the others,
    which save too.
    """
    if restart := restart_of(app):
        return restart
    if has_ended(app):
        return Finish(app.state)
    if SAVING in app.metadata:
        return Wait()
    lost = first_failure(app)
    if lost is not None and app.metadata.get(FAILURE_POLICY) == "fail_fast":
        return Fail(lost)
    if roles := unneeded_roles(app):
        return StopAuxiliary(roles, auxiliary_grace(app))
    return Place() if SWARM in app.metadata and _waits(app) else Wait()


def _waits(app: DescribeAppResponse) -> bool:
    """Return whether a replica has not started."""
    return any(one.state in (AppState.SUBMITTED, AppState.PENDING) for one in replicas_of(app))


def has_ended(app: DescribeAppResponse) -> bool:
    """Return whether every replica has ended; an app may have failed before that."""
    return all(is_terminal(replica.state) for replica in replicas_of(app))


def replicas_of(app: DescribeAppResponse) -> list[ReplicaStatus]:
    """Return all replicas of an app, by role and index."""
    return [replica for role in app.roles_statuses for replica in role.replicas]


def first_failure(app: DescribeAppResponse) -> ReplicaStatus | None:
    """Return the essential replica that failed first; those without an end time come last."""
    failed = [r for r in essential_replicas(app) if r.state is AppState.FAILED]
    timed = [(r.finished_at, i) for i, r in enumerate(failed) if r.finished_at is not None]
    return failed[min(timed)[1]] if timed else next(iter(failed), None)


def needs_detail(row: ContainerRow) -> bool:
    """Return whether a row needs an inspect: it failed, or its status has no exit code."""
    code = exit_code(row)
    has_no_code = row.state == "exited" and code is None
    return has_no_code or replica_state(row, code) is AppState.FAILED


def needing_detail(rows: Sequence[ContainerRow]) -> list[str]:
    """Return the ids of the containers of an app of which `describe` needs an inspect.

    Those of earlier rounds do not count, and a long training may have hundreds.
    """
    if not any(map(needs_detail, rows)):
        return []
    return [row.id for row in sources_of(rows).values() if needs_detail(row)]


def describe(
    app_id: str, rows: Sequence[ContainerRow], details: Mapping[str, ContainerDetail]
) -> DescribeAppResponse | None:
    """Return the description of an app; None if it has no containers.

    A replica in the labels without a container counts as failed once any replica was started: a
    launch creates all of them before it starts the first. ``details`` has inspect results by
    container id, as far as available.
    """
    if not rows:
        return None
    rows = sorted(rows, key=age)
    sizes = role_sizes(rows)
    current = current_round(rows, sizes)
    newest = current.newest
    is_started = any(row.state != "created" or is_marked(row.name) for row in rows)
    statuses = []
    for role, count in sizes.items():
        indices = {index for name, index in newest if name == role}
        replicas = [_status(newest[role, i], i, role, details) for i in sorted(indices)]
        if is_started:
            missing = sorted(set(range(count)) - indices)
            replicas.extend(_lost(app_id, role, index) for index in missing)
        statuses.append(RoleStatus(role, sorted(replicas, key=lambda replica: replica.id)))
    app = _response(app_id, rows, sizes, statuses)
    app = with_restart(app, first_failure(app), rows, current)
    state = app_state(replica.state for replica in essential_replicas(app))
    return replace(app, state=state, num_restarts=current.number if may_restart(rows) else -1)


def every_round(
    rows: Sequence[ContainerRow], details: Mapping[str, ContainerDetail] | None = None
) -> list[ReplicaStatus]:
    """Return the replicas of an app that have started, in every round, from the first round on."""
    order = {role: place for place, role in enumerate(role_sizes(rows))}
    members = [
        row
        for number, of_round in by_round(rows)
        for row in members_of(of_round, number)
        if row.state != "created"
    ]
    members.sort(key=lambda row: (round_of(row), order[replica_key(row)[0]]))
    return [
        _status(row, replica_key(row)[1], replica_key(row)[0], details or {}) for row in members
    ]


def summaries(
    rows: Iterable[ContainerRow], details: Mapping[str, ContainerDetail] | None = None
) -> list[ListAppResponse]:
    """Return one summary per app, sorted by id; see `describe` for ``details``."""
    found = []
    for app_id, of_app in sorted(by_app(rows).items()):
        app, newest = describe(app_id, of_app, details or {}), max(of_app, key=age).labels
        if app is not None:
            handle = newest.get(labels.HANDLE, "<NOT_SET>")
            name = newest.get(labels.APP_NAME, "")
            created_at = min(row.created_at for row in of_app)
            found.append(ListAppResponse(app_id, app.state, handle, name, created_at))
    return found


def without_copies(rows: Iterable[ContainerRow]) -> tuple[ContainerRow, ...]:
    """Return the containers of apps, without those of images committed from one.

    An image committed from a container brings the container's labels, but not its name.
    """
    return tuple(row for row in rows if not is_copy(row))


def is_copy(one: ContainerRow | ContainerEvent) -> bool:
    """Return whether a container has the labels of a replica, but not its name."""
    of_launch = container_name(one.labels.get(labels.APP_ID, ""), *replica_key(one))
    expected = round_name(of_launch, round_of(one))
    return labels.LAUNCH_ID in one.labels and first_name(one.name) != expected


def by_app(rows: Iterable[ContainerRow]) -> dict[str, list[ContainerRow]]:
    """Return the containers of each app, by its id."""
    groups: dict[str, list[ContainerRow]] = {}
    for row in without_copies(row for row in rows if labels.APP_ID in row.labels):
        groups.setdefault(row.labels[labels.APP_ID], []).append(row)
    return groups


def _status(
    row: ContainerRow, index: int, role: str, details: Mapping[str, ContainerDetail]
) -> ReplicaStatus:
    detail = details.get(row.id)
    code = exit_code(row)
    if code is None and detail is not None and row.state in _NOT_RUNNING:
        code = detail.exit_code
    return ReplicaStatus(
        id=index,
        role=role,
        state=replica_state(row, code),
        hostname=_host_name(row),
        exit_code=code,
        signal=signal_name(code),
        oom_killed=detail is not None and detail.oom_killed,
        error="" if detail is None else detail.error,
        num_restarts=None if detail is None else detail.restarts,
        started_at=None if detail is None else detail.started_at,
        finished_at=None if detail is None else detail.finished_at,
        container_id=row.id,
        stalled=is_stalled_name(row.name),
        gpus=labelled_gpus(row.labels),
        round=round_of(row),
        created_at=detail.created_at if detail and detail.created_at else row.created_at,
        node=row.node,
    )


def _waits_because(row: ContainerRow) -> str:
    """Return why a replica waits for a node of its swarm; empty if it does not."""
    return row.status.partition(": ")[2] if row.state == "pending" else ""


def _host_name(row: ContainerRow) -> str:
    """Return the host name of a container, which a later round does not change."""
    number = round_of(row)
    return first_name(row.name).removesuffix(f"-r{number}" if number else "")


def _lost(app_id: str, role: str, index: int) -> ReplicaStatus:
    name = container_name(app_id, role, index)
    return ReplicaStatus(id=index, role=role, state=AppState.FAILED, hostname=name, error=_GONE)


def _response(
    app_id: str,
    rows: Sequence[ContainerRow],
    sizes: Mapping[str, int],
    statuses: Sequence[RoleStatus],
) -> DescribeAppResponse:
    images = {role_of(row): row.image for row in rows}
    # The newest container has the last word.
    labelled: dict[str, str] = {}
    for row in rows:
        labelled |= row.labels
    is_saving = any(is_saving_name(row.name) and not is_cancelled_name(row.name) for row in rows)
    return DescribeAppResponse(
        app_id=app_id,
        state=AppState.UNKNOWN,
        msg=next((why for row in rows if (why := _waits_because(row))), NONE),
        metadata={key: labelled[label] for key, label in _METADATA.items() if label in labelled}
        | ({SAVING: "true"} if is_saving else {})
        | ({SWARM: "true"} if labels.SWARM_NAME in labelled else {}),
        roles_statuses=list(statuses),
        roles=[
            Role(name=role, image=images.get(role, NONE), num_replicas=count)
            for role, count in sizes.items()
        ],
    )
