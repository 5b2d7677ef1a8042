"""Decides whether a failure restarts an app or a role.

Every client reads the same decision from the containers, so an app whose restart is due is PENDING
for all of them. The process that waits for the app carries it out; see `runtime.rounds`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from airflow_torchx.core.plan.identity import is_failed_name, is_marked, is_restarting_name
from airflow_torchx.core.state.essential import essential_replicas, is_essential
from airflow_torchx.core.state.out_of_memory import ran_out_of_memory
from airflow_torchx.core.state.rounds import (
    MAX_ROUND,
    final_exit_codes,
    may_go_on,
    restarts_caused,
    retries_of,
)
from airflow_torchx.specs import AppState, RetryPolicy, is_terminal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_torchx.core.engine.containers import ContainerRow
    from airflow_torchx.core.state.rounds import CurrentRound
    from airflow_torchx.specs import DescribeAppResponse, ReplicaStatus

#: Key of ``DescribeAppResponse.metadata``: the restart that is due, as JSON.
RESTART: Final = "restart"


@dataclass(frozen=True, kw_only=True, slots=True)
class Restart:
    """A restart that the owner of an app carries out next.

    Args:
        roles: the roles to restart.
        number: the round that it makes.
        lost: name of the replica whose failure caused it, like ``trainer/1``; empty if a client has
            begun to make the round, and this one finishes it.
        cause_role: role of that replica, whose budget is used; empty likewise.
        used: how many restarts the role has caused with this one.
        maximum: how many it may cause.
    """

    roles: tuple[str, ...]
    number: int
    lost: str = ""
    cause_role: str = ""
    used: int = 0
    maximum: int = 0


def with_restart(
    app: DescribeAppResponse,
    first_failure: ReplicaStatus | None,
    rows: Sequence[ContainerRow],
    current: CurrentRound,
) -> DescribeAppResponse:
    """Return an app with the restart that is due, if any; replicas that it starts are PENDING."""
    restart = _due(app, first_failure, rows, current)
    if restart is None:
        return app
    fields = {
        "round": restart.number,
        "roles": list(restart.roles),
        "lost": restart.lost,
        "role": restart.cause_role,
        "used": restart.used,
        "maximum": restart.maximum,
    }
    is_unfinished = bool(current.unfinished)

    def waiting(replica: ReplicaStatus) -> ReplicaStatus:
        is_unstarted = is_unfinished and replica.state is AppState.SUBMITTED
        is_waiting = is_terminal(replica.state) and replica.round < restart.number
        return replace(replica, state=AppState.PENDING) if is_unstarted or is_waiting else replica

    statuses = [
        replace(role, replicas=[waiting(one) for one in role.replicas])
        if role.role in restart.roles
        else role
        for role in app.roles_statuses
    ]
    metadata = {**app.metadata, RESTART: json.dumps(fields)}
    return replace(app, roles_statuses=statuses, metadata=metadata)


def restart_of(app: DescribeAppResponse) -> Restart | None:
    """Return the restart that is due; None if there is none."""
    if RESTART not in app.metadata:
        return None
    fields = json.loads(app.metadata[RESTART])
    return Restart(
        roles=tuple(fields["roles"]),
        number=fields["round"],
        lost=fields["lost"],
        cause_role=fields["role"],
        used=fields["used"],
        maximum=fields["maximum"],
    )


def _due(
    app: DescribeAppResponse,
    first_failure: ReplicaStatus | None,
    rows: Sequence[ContainerRow],
    current: CurrentRound,
) -> Restart | None:
    marked = [row.name for row in current.newest.values() if is_marked(row.name)]
    is_running = _is_running(app, current)
    is_needed = is_running or any(is_essential(app, r) for r in current.unfinished)
    # Also if a container of it cannot be started: the others run until the app is stopped.
    if current.unfinished and is_needed and all(map(is_failed_name, marked)):
        return Restart(roles=current.unfinished, number=current.number)
    failures = _deciding_failures(app, first_failure, is_running=is_running)
    if not failures or current.number >= MAX_ROUND or not may_go_on(current.newest, rows):
        return None
    retries, caused, final_codes = retries_of(rows), restarts_caused(rows), final_exit_codes(rows)
    # Any client can write a label: a round whose cause is missing counts against every role.
    unknown = max(0, current.number - sum(caused.values()))
    given_up = {row.id for row in current.newest.values() if is_failed_name(row.name)}
    for lost in failures:
        if lost.container_id in given_up:
            continue
        policy, maximum = retries.get(lost.role, ("", 0))
        used = caused.get(lost.role, 0) + unknown
        roles = _restarted(app, lost.role, policy)
        if used < maximum and is_restartable(lost, final_codes) and _are_there(app, roles):
            return Restart(
                roles=roles,
                number=current.number + 1,
                lost=f"{lost.role}/{lost.id}",
                cause_role=lost.role,
                used=used + 1,
                maximum=maximum,
            )
    return None


def _is_running(app: DescribeAppResponse, current: CurrentRound) -> bool:
    """Return whether an essential replica runs, or was stopped for a round that is not made yet."""
    stopped = {row.id for row in current.newest.values() if is_restarting_name(row.name)}
    return any(
        not is_terminal(replica.state) or replica.container_id in stopped
        for replica in essential_replicas(app)
    )


def _deciding_failures(
    app: DescribeAppResponse, first_failure: ReplicaStatus | None, *, is_running: bool
) -> list[ReplicaStatus]:
    """Return the failures of which the first one within its budget makes a restart.

    It is the first failure by time: the others may be consequences. While the essential roles run,
    it is each failure of an auxiliary role, although none fails the app.
    """
    if first_failure is not None:
        return [first_failure]
    if not is_running:
        return []
    auxiliary = (role for role in app.roles_statuses if not is_essential(app, role.role))
    failed = (one for role in auxiliary for one in role.replicas if one.state is AppState.FAILED)
    return sorted(failed, key=lambda one: (one.finished_at is None, str(one.finished_at)))


def is_restartable(lost: ReplicaStatus, final_codes: frozenset[int]) -> bool:
    """Return whether a failure may restart an app: it would fail again for lack of memory."""
    return (
        bool(lost.container_id)
        and not ran_out_of_memory(lost)
        and lost.exit_code not in final_codes
    )


def _restarted(app: DescribeAppResponse, role: str, policy: str) -> tuple[str, ...]:
    if policy == RetryPolicy.APPLICATION.value:
        return tuple(one.role for one in app.roles_statuses)
    return (role,) if policy == RetryPolicy.ROLE.value else ()


def _are_there(app: DescribeAppResponse, roles: Sequence[str]) -> bool:
    """Return whether every replica of the roles has a container, of which a new one can be made."""
    restarted = [role for role in app.roles_statuses if role.role in roles]
    sizes = {role.name: role.num_replicas for role in app.roles}
    return bool(restarted) and all(
        len(role.replicas) == sizes.get(role.role)
        and all(replica.container_id for replica in role.replicas)
        for role in restarted
    )
