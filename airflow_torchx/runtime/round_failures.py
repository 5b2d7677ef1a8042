"""Finds why a round of an app failed: before the next one is made, and for the app's card."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from airflow_torchx.concurrency.parallel import map_concurrently
from airflow_torchx.core.plan.identity import is_restarting_name
from airflow_torchx.core.state.blame import blamed_replica
from airflow_torchx.core.state.describe import every_round, needs_detail, replicas_of
from airflow_torchx.core.state.failure_rules import with_replicas
from airflow_torchx.core.state.rounds import by_round
from airflow_torchx.errors import EngineUnreachableError
from airflow_torchx.runtime.lifecycle import described, rows_of
from airflow_torchx.runtime.root_cause import reading_order, with_reasons
from airflow_torchx.specs import AppState, RoleStatus

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from airflow_torchx.core.engine.containers import ContainerRow
    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.specs import DescribeAppResponse, ReplicaStatus

_log = logging.getLogger(__name__)

# Of the rounds of a card. Three requests for each replica: 192 at most, beside the last round.
_MOST_ROUNDS: Final = 8
_MOST_REPLICAS: Final = 8


def failed_round(
    engine: Engine, app_id: str, stopped: Collection[str], secrets: frozenset[str]
) -> DescribeAppResponse | None:
    """Return an app whose round has ended as one that failed, with why; None if it is gone.

    ``stopped`` has the ids of the containers that this client has stopped.

    Raises:
        EngineUnreachableError: the daemon does not answer.
    """
    rows = rows_of(engine, app_id)
    app = described(engine, app_id, rows, inspect_all=True)
    if app is None:
        return None
    cancelled = {*stopped, *(row.id for row in rows if is_restarting_name(row.name))}

    def ended(replica: ReplicaStatus) -> ReplicaStatus:
        if replica.container_id in cancelled:
            return replace(replica, state=AppState.CANCELLED)
        return replace(replica, state=AppState.FAILED) if replica.exit_code else replica

    failed = replace(with_replicas(app, ended), state=AppState.FAILED)
    return with_reasons(engine, failed, secrets, {})


def failed_alone(
    engine: Engine, app: DescribeAppResponse, lost: Iterable[ReplicaStatus]
) -> DescribeAppResponse:
    """Return an app as one of which only these replicas have failed, with why.

    Raises:
        EngineUnreachableError: the daemon does not answer.
    """
    failed = [replace(one, state=AppState.FAILED) for one in lost]
    # Without other roles, these are essential.
    found = _only(app, failed)
    alone = [role for role in found.roles_statuses if role.replicas]
    return with_reasons(engine, replace(found, roles_statuses=alone), frozenset(), {})


def failures_by_round(
    engine: Engine, app: DescribeAppResponse, secrets: frozenset[str]
) -> list[ReplicaStatus]:
    """Return the replica that ended each round that another one has replaced, with why it failed.

    Secrets are masked. What is in the containers is read for 8 replicas of each of the newest 8 of
    these rounds; of earlier ones, and of rounds that cannot be read, only Docker's state is known.

    Raises:
        EngineError: the daemon does not list the containers.
    """
    rows = rows_of(engine, app.app_id)
    current = {replica.container_id for replica in replicas_of(app)}
    earlier = by_round(row for row in rows if row.id not in current)
    newest = [number for number, _ in earlier[-_MOST_ROUNDS:]]
    wanted = [
        row.id for number, found in earlier for row in _wanted(found, is_read=number in newest)
    ]
    inspected = map_concurrently(engine.inspect, wanted)
    details = {detail.id: detail for detail in inspected if detail is not None}
    known = [one for one in every_round(rows, details) if one.container_id in details]
    rounds = {
        number: [one for one in known if one.round == number and one.finished_at is not None]
        for number, _ in earlier
    }
    chosen = [
        one
        for number in newest
        for one in sorted(rounds[number], key=reading_order)[:_MOST_REPLICAS]
    ]
    read = _read(engine, _only(app, chosen), secrets)
    return [
        first
        for found in rounds.values()
        for first in _first(_only(app, [read.get(one.container_id, one) for one in found]))
    ]


def _wanted(rows: Sequence[ContainerRow], *, is_read: bool) -> list[ContainerRow]:
    """Return the containers of a round that are inspected: the ones that failed, and some others.

    The worker that failed first may be in a replica that was stopped.
    """
    failed = [row for row in rows if needs_detail(row)]
    stopped = [row for row in rows if row not in failed and is_restarting_name(row.name)]
    return [*failed, *stopped[: _MOST_REPLICAS if is_read else 0]]


def _read(
    engine: Engine, app: DescribeAppResponse, secrets: frozenset[str]
) -> dict[str, ReplicaStatus]:
    """Return the replicas of an app by container, with why they failed, as far as it can be read.

    They are read together, so that the search for a failure rule is limited for all of them.
    """
    read: dict[str, ReplicaStatus] = {}
    try:
        with_reasons(engine, app, secrets, read, len(replicas_of(app)))
    except EngineUnreachableError as why:
        _log.warning("cannot read why earlier rounds of app %s failed: %s", app.app_id, why)
    return read


def _first(app: DescribeAppResponse) -> list[ReplicaStatus]:
    """Return the replica that ended a round, if it is known; it may be one of an auxiliary role."""
    failed = [one for one in replicas_of(app) if one.state is AppState.FAILED]
    if not failed:
        return []
    return [blamed_replica(app) or min(failed, key=lambda one: str(one.finished_at))]


def _only(app: DescribeAppResponse, replicas: Sequence[ReplicaStatus]) -> DescribeAppResponse:
    """Return an app that has failed, with these replicas instead of its own."""
    roles = [
        RoleStatus(role.role, [one for one in replicas if one.role == role.role])
        for role in app.roles_statuses
    ]
    return replace(app, state=AppState.FAILED, roles_statuses=roles)
