"""Reads from the containers of a failed app why each replica failed."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from airflow_torchx.concurrency.parallel import map_concurrently
from airflow_torchx.core.plan.job_plan import ERROR_PATH
from airflow_torchx.core.plan.redact import redact
from airflow_torchx.core.state.describe import replicas_of
from airflow_torchx.core.state.report import READ_LINES
from airflow_torchx.core.state.worker_failure import MAX_FILE_BYTES, worker_failure
from airflow_torchx.errors import EngineError
from airflow_torchx.runtime.replica_log import ReplicaLog, Span
from airflow_torchx.specs import AppState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.core.logs.lines import LogLine
    from airflow_torchx.specs import DescribeAppResponse, ReplicaStatus, WorkerFailure

# Two requests each. Peers of the first to fail say less the later they ended.
_MOST_REPLICAS: Final = 32


def diagnosed(
    engine: Engine, app: DescribeAppResponse, secrets: frozenset[str] = frozenset()
) -> DescribeAppResponse:
    """Return an app, described with ``inspect_all``, with the failures of its workers.

    Makes two requests for each replica that failed or was stopped, for 32 at most, and none for an
    app that has not failed. Secrets are masked. What cannot be read is left out.
    """
    if app.state is not AppState.FAILED:
        return app
    ended = [one for one in replicas_of(app) if one.state is not AppState.SUCCEEDED]
    readable = [one for one in ended if one.container_id and one.started_at]
    chosen = sorted(readable, key=_order)[:_MOST_REPLICAS]
    workers = map_concurrently(lambda one: _worker(engine, one, secrets), chosen)
    found = {one.container_id: worker for one, worker in zip(chosen, workers, strict=True)}
    return _with_workers(app, found)


def _order(replica: ReplicaStatus) -> tuple[bool, float]:
    end = replica.finished_at
    return replica.state is not AppState.FAILED, end.timestamp() if end else 0.0


def _with_workers(
    app: DescribeAppResponse, workers: Mapping[str, WorkerFailure | None]
) -> DescribeAppResponse:
    return replace(
        app,
        roles_statuses=[
            replace(
                role,
                replicas=[
                    replace(one, worker=workers.get(one.container_id)) for one in role.replicas
                ],
            )
            for role in app.roles_statuses
        ],
    )


def _worker(
    engine: Engine, replica: ReplicaStatus, secrets: frozenset[str]
) -> WorkerFailure | None:
    content = ""
    with contextlib.suppress(EngineError, ValueError):
        data = engine.read_file(replica.container_id, ERROR_PATH, MAX_FILE_BYTES)
        content = redact(data.decode(errors="replace"), secrets)
    # Masked before they are cut, so that no part of a secret is left.
    lines = [
        line._replace(text=redact(line.text, secrets)) for line in _last_lines(engine, replica)
    ]
    return worker_failure(content, lines, replica.started_at)


def _last_lines(engine: Engine, replica: ReplicaStatus) -> list[LogLine]:
    """Return the last lines of a replica's last run; Docker keeps those of earlier ones."""
    with contextlib.suppress(EngineError):
        span = Span.between(replica.started_at, None)
        log = ReplicaLog(engine, replica.container_id, span=span, tail=READ_LINES, resumable=True)
        return [*log]
    return []
