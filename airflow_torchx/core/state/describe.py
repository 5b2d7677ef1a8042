"""The one state table, and the one fold from containers to what comes next.

Everybody who waits (``wait``, the operator, later the trigger and the sensor) asks `next_step`;
nobody decides again. No result depends on the order of the container list.
"""

from __future__ import annotations

import json
import re
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from airflow_torchx.core.engine import labels
from airflow_torchx.core.plan.identity import (
    CANCELLED_SUFFIX,
    MAX_REPLICAS,
    container_name,
    is_cancelled_name,
)
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
    from datetime import datetime

    from airflow_torchx.core.engine.containers import ContainerDetail, ContainerRow

#: Keys of ``DescribeAppResponse.metadata``.
FAILURE_POLICY: Final = "failure_policy"
STOP_GRACE: Final = "stop_grace_s"

_GONE: Final = "its container is gone from the daemon"

# Docker's words: https://docs.docker.com/reference/api/engine/ (container list, State).
# "exited" is decided by the exit code, and by whether somebody stopped the container.
_BY_WORD: Final = {
    "created": AppState.SUBMITTED,
    "restarting": AppState.PENDING,
    "running": AppState.RUNNING,
    "paused": AppState.PENDING,
    "removing": AppState.PENDING,
    "dead": AppState.FAILED,
}
#: Containers in these states do not run any more, or never did.
_AT_REST: Final = ("created", "exited", "dead")
_STATUS_CODE: Final = re.compile(r"^\w+ \((-?\d+)\)")
_INDEX: Final = re.compile(r"\d{1,4}")  # below identity.MAX_REPLICAS
_BEHIND: Final = (AppState.UNKNOWN, AppState.SUBMITTED, AppState.PENDING, AppState.RUNNING)
# A process that a signal ended has this plus the signal's number as its exit code.
_SIGNALLED: Final = 128


@dataclass(frozen=True)
class Wait:
    """Nothing to do: the app goes on."""


@dataclass(frozen=True)
class Finish:
    """Every replica has ended; ``state`` is the app's."""

    state: AppState


@dataclass(frozen=True)
class Fail:
    """A replica is lost and its peers still run: stop them."""

    lost: ReplicaStatus


def exit_code(row: ContainerRow) -> int | None:
    """Return the exit code that the list's status sentence tells, None where it tells none."""
    match = _STATUS_CODE.match(row.status) if row.state == "exited" else None
    return int(match[1]) if match else None


def replica_state(row: ContainerRow, code: int | None) -> AppState:
    """Return the state of one replica: the state table, total.

    Args:
        row: the container, as the list shows it.
        code: its exit code; None when it is not known.
    """
    if is_cancelled_name(row.name) and row.state in _AT_REST:
        return AppState.CANCELLED
    if row.state == "exited" and code is not None:
        return AppState.SUCCEEDED if code == 0 else AppState.FAILED
    return _BY_WORD.get(row.state, AppState.UNKNOWN)


def app_state(states: Iterable[AppState]) -> AppState:
    """Return the state of an app whose replicas have these states.

    FAILED if any failed, else CANCELLED if any was cancelled, else SUCCEEDED if all did, else the
    least advanced of those that still live.
    """
    seen = set(states)
    for verdict in (AppState.FAILED, AppState.CANCELLED):
        if verdict in seen:
            return verdict
    if seen == {AppState.SUCCEEDED}:
        return AppState.SUCCEEDED
    return next((state for state in _BEHIND if state in seen), AppState.UNKNOWN)


def next_step(app: DescribeAppResponse) -> Wait | Finish | Fail:
    """Return what somebody who waits on this app does next.

    The failure policy is the one its launch wrote on the containers. An app without one, such as
    TorchX's own command line launches, is only watched.
    """
    replicas = replicas_of(app)
    if all(is_terminal(replica.state) for replica in replicas):
        return Finish(app.state)
    lost = first_failure(app)
    if lost is not None and app.metadata.get(FAILURE_POLICY) == "fail_fast":
        return Fail(lost)
    return Wait()


def replicas_of(app: DescribeAppResponse) -> list[ReplicaStatus]:
    """Return all replicas of an app, in the order of its roles and their indices."""
    return [replica for role in app.roles_statuses for replica in role.replicas]


def first_failure(app: DescribeAppResponse) -> ReplicaStatus | None:
    """Return the replica that failed first by time; one without a time comes last."""
    failed = [r for r in replicas_of(app) if r.state is AppState.FAILED]
    timed = [(r.finished_at, i) for i, r in enumerate(failed) if r.finished_at is not None]
    return failed[min(timed)[1]] if timed else next(iter(failed), None)


def needs_detail(row: ContainerRow) -> bool:
    """Tell whether the list is not enough for this row: it failed, or its exit code is unread."""
    code = exit_code(row)
    unread = row.state == "exited" and code is None
    return unread or replica_state(row, code) is AppState.FAILED


def describe(
    app_id: str, rows: Sequence[ContainerRow], details: Mapping[str, ContainerDetail]
) -> DescribeAppResponse | None:
    """Return what is known of an app; None if nothing of it is on the daemon.

    A replica that the labels promise and that has no container counts as failed, unless no replica
    was started yet: a launch creates all of them before it starts any.

    Args:
        app_id: the app.
        rows: its containers.
        details: inspect results by container id, for as many of them as wanted.
    """
    if not rows:
        return None
    rows = sorted(rows, key=_age)
    newest = {place_of(row): row for row in rows}
    promised = _promised(rows)
    begun = any(row.state != "created" or is_cancelled_name(row.name) for row in rows)
    statuses = []
    for role, count in promised.items():
        indices = {index for name, index in newest if name == role}
        replicas = [_status(newest[role, i], i, role, details) for i in sorted(indices)]
        if begun:
            missing = sorted(set(range(count)) - indices)
            replicas.extend(_lost(app_id, role, index) for index in missing)
        statuses.append(RoleStatus(role, sorted(replicas, key=lambda replica: replica.id)))
    return _response(app_id, rows, promised, statuses)


def summaries(rows: Iterable[ContainerRow]) -> list[ListAppResponse]:
    """Return one row per app, sorted by id."""
    by_app: dict[str, list[ContainerRow]] = {}
    for row in rows:
        by_app.setdefault(row.labels[labels.APP_ID], []).append(row)
    described = [
        (describe(app_id, of_app, {}), max(of_app, key=_age)) for app_id, of_app in by_app.items()
    ]
    return sorted(
        (
            ListAppResponse(
                app_id=app.app_id,
                state=app.state,
                app_handle=row.labels.get(labels.HANDLE, "<NOT_SET>"),
                name=row.labels.get(labels.APP_NAME, ""),
            )
            for app, row in described
            if app is not None
        ),
        key=lambda response: response.app_id,
    )


def signal_name(code: int | None) -> str | None:
    """Return the signal that an exit code stands for, like ``SIGKILL`` for 137."""
    if code is None or code <= _SIGNALLED:
        return None
    try:
        return signal.Signals(code - _SIGNALLED).name
    except ValueError:
        return None


def place_of(row: ContainerRow) -> tuple[str, int]:
    """Return role and index, as the labels say; a label that is no replica's index counts as 0."""
    index = row.labels.get(labels.REPLICA_ID, "")
    return row.labels.get(labels.ROLE_NAME, ""), int(index) if _INDEX.fullmatch(index) else 0


def _age(row: ContainerRow) -> tuple[datetime, str]:
    return row.created_at, row.id


def _promised(rows: Sequence[ContainerRow]) -> dict[str, int]:
    """Return role to number of replicas: as the launch wrote it, else up to the last one seen.

    TorchX creates containers in order, so a replica before the last one was there and is gone.
    """
    seen = {role: index + 1 for role, index in sorted(place_of(row) for row in rows)}
    written = [row.labels[labels.ROLES] for row in rows if labels.ROLES in row.labels]
    promised = _counts(written[-1] if written else "{}")
    return promised | {role: count for role, count in seen.items() if role not in promised}


def _counts(text: str) -> dict[str, int]:
    """Return role to number of replicas; nothing of a label that no launch of ours wrote."""
    # Anybody can write one, and the list of all apps must not fail for it.
    try:
        roles = json.loads(text).items()
    except (AttributeError, ValueError):
        return {}
    return {role: n for role, n in roles if isinstance(n, int) and 0 < n <= MAX_REPLICAS}


def _status(
    row: ContainerRow, index: int, role: str, details: Mapping[str, ContainerDetail]
) -> ReplicaStatus:
    detail = details.get(row.id)
    code = exit_code(row)
    if code is None and detail is not None and row.state in _AT_REST:
        code = detail.exit_code
    return ReplicaStatus(
        id=index,
        role=role,
        state=replica_state(row, code),
        hostname=row.name.removesuffix(CANCELLED_SUFFIX),
        exit_code=code,
        signal=signal_name(code),
        oom_killed=detail is not None and detail.oom_killed,
        error="" if detail is None else detail.error,
        num_restarts=None if detail is None else detail.restarts,
        started_at=None if detail is None else detail.started_at,
        finished_at=None if detail is None else detail.finished_at,
        container_id=row.id,
    )


def _lost(app_id: str, role: str, index: int) -> ReplicaStatus:
    name = container_name(app_id, role, index)
    return ReplicaStatus(id=index, role=role, state=AppState.FAILED, hostname=name, error=_GONE)


def _response(
    app_id: str,
    rows: Sequence[ContainerRow],
    promised: Mapping[str, int],
    statuses: Sequence[RoleStatus],
) -> DescribeAppResponse:
    images = {place_of(row)[0]: row.image for row in rows}
    written = {
        FAILURE_POLICY: labels.FAILURE_POLICY,
        STOP_GRACE: labels.STOP_GRACE,
    }
    return DescribeAppResponse(
        app_id=app_id,
        state=app_state(replica.state for role in statuses for replica in role.replicas),
        msg=NONE,
        metadata={
            key: row.labels[label]
            for row in rows
            for key, label in written.items()
            if label in row.labels
        },
        roles_statuses=list(statuses),
        roles=[
            Role(name=role, image=images.get(role, NONE), num_replicas=count)
            for role, count in promised.items()
        ],
    )
