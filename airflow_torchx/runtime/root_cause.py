"""Reads from the containers of a failed app why each replica failed."""

from __future__ import annotations

import contextlib
import logging
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

from airflow_torchx.concurrency.parallel import map_concurrently
from airflow_torchx.core.plan.job_plan import ERROR_PATH
from airflow_torchx.core.plan.redact import redact
from airflow_torchx.core.state.describe import replicas_of
from airflow_torchx.core.state.failure_rules import rule_name, rules_of, with_replicas
from airflow_torchx.core.state.report import READ_LINES
from airflow_torchx.core.state.rule_search import RuleSearch
from airflow_torchx.core.state.worker_failure import MAX_FILE_BYTES, SEQUENCE, worker_failure
from airflow_torchx.errors import EngineError, EngineUnreachableError, NodeUnreachableError
from airflow_torchx.runtime.outage import OUTAGE_S, patiently
from airflow_torchx.runtime.replica_log import ReplicaLog, Span
from airflow_torchx.specs import AppState

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.core.logs.lines import LogLine
    from airflow_torchx.core.plan.failure_rule import FailureRule
    from airflow_torchx.specs import DescribeAppResponse, ReplicaStatus

_log = logging.getLogger(__name__)

# Two requests each. Peers of the first to fail say less the later they ended.
_MOST_REPLICAS: Final = 32


def diagnosed(
    engine: Engine,
    app: DescribeAppResponse,
    secrets: frozenset[str] = frozenset(),
    should_stop: Callable[[], bool] = lambda: False,
    outage_s: float = OUTAGE_S,
) -> DescribeAppResponse:
    """Return an app, described with ``inspect_all``, with why its replicas failed.

    Makes two requests for each replica that failed or was stopped, for 32 at most, and none for an
    app that has not failed. Secrets are masked. It waits through an outage of the daemon, until
    ``should_stop`` returns True. What cannot be read is left out.
    """
    read: dict[str, ReplicaStatus] = {}
    try:
        return patiently(partial(explained, engine, app, secrets, read), should_stop, outage_s)
    except EngineUnreachableError as why:
        _log.warning("cannot read why the replicas of app %s failed: %s", app.app_id, why)
        return with_replicas(app, lambda one: read.get(one.container_id, one))


def explained(
    engine: Engine,
    app: DescribeAppResponse,
    secrets: frozenset[str],
    read: dict[str, ReplicaStatus],
) -> DescribeAppResponse:
    """Do as `diagnosed` does, without waiting; ``read`` has the replicas of an earlier call.

    Raises:
        EngineUnreachableError: the daemon does not answer.
    """
    app = with_reasons(engine, app, secrets, read)
    if name := rule_name(app):
        _log.info("app %s: its failure is explained by the failure rule %s", app.app_id, name)
    return app


def with_reasons(
    engine: Engine,
    app: DescribeAppResponse,
    secrets: frozenset[str],
    read: dict[str, ReplicaStatus],
    most: int = _MOST_REPLICAS,
) -> DescribeAppResponse:
    """Do as `explained` does, without a line in the log, and for ``most`` replicas at most.

    Raises:
        EngineUnreachableError: the daemon does not answer.
    """
    if app.state is not AppState.FAILED:
        return app
    ended = [one for one in replicas_of(app) if one.state is not AppState.SUCCEEDED]
    readable = [one for one in ended if one.container_id and one.started_at]
    chosen = sorted(readable, key=reading_order)[:most]
    search = rule_search(app)

    def explain(replica: ReplicaStatus) -> None:
        read[replica.container_id] = _explained(engine, replica, search, secrets)

    map_concurrently(explain, [one for one in chosen if one.container_id not in read])
    return with_replicas(app, lambda one: read.get(one.container_id, one))


def rule_search(app: DescribeAppResponse) -> RuleSearch:
    """Return a search for the rules of an app, which logs the name of a rule that is too slow."""

    def warn(rule: FailureRule) -> None:
        _log.warning(
            "app %s: the search for the failure rule %s takes too long in these lines, so the rest "
            "is not searched for it; give a pattern with fewer repetitions and more text",
            app.app_id,
            rule.name,
        )

    return RuleSearch(rules_of(app), time.thread_time, warn)


def reading_order(replica: ReplicaStatus) -> tuple[bool, float]:
    """Return a key that sorts replicas by how much is expected of what they left."""
    end = replica.finished_at
    return replica.state is not AppState.FAILED, end.timestamp() if end else 0.0


def _explained(
    engine: Engine,
    replica: ReplicaStatus,
    search: RuleSearch,
    secrets: frozenset[str],
) -> ReplicaStatus:
    """Return a replica with the failure of its worker, and the rule that explains it.

    A rule that matches the worker's error counts first, then one that matches the last lines. One
    that matched earlier counts only without an error: the program may have gone on after it.
    """
    content = ""
    with _UnlessUnreachable():
        data = engine.read_file(replica.container_id, ERROR_PATH, MAX_FILE_BYTES)
        content = data.decode(errors="replace")

    def mask(text: str) -> str:
        return redact(text, secrets)

    # Masked without colors and before they are cut, so that no part of a secret is left.
    lines = [
        line._replace(text=mask(SEQUENCE.sub("", line.text)))
        for line in _last_lines(engine, replica)
    ]
    worker = worker_failure(content, lines, _began(replica), mask)
    error = f"{worker.message}\n{worker.traceback}" if worker else ""
    texts = (error, "\n".join(one.text for one in lines))
    rule = next(filter(None, map(search.first_match, texts)), "")
    earlier = "" if worker and worker.message else replica.rule
    return replace(replica, worker=worker, rule=rule or earlier)


class _UnlessUnreachable(contextlib.AbstractContextManager[None]):
    """Passes over what cannot be read, unless the daemon, or the swarm, does not answer.

    A node of a swarm that does not answer may be away for days.
    """

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: object
    ) -> bool:
        if isinstance(exc, NodeUnreachableError):
            _log.info("cannot read why a replica failed: %s", exc.what)
            return True
        return isinstance(exc, EngineError | ValueError) and not isinstance(
            exc, EngineUnreachableError
        )


def _began(replica: ReplicaStatus) -> datetime | None:
    """Return when the last run of a container began; None if it has had only one.

    Docker records a start after the program has begun, which may have failed by then.
    """
    return replica.started_at if replica.num_restarts else None


def _last_lines(engine: Engine, replica: ReplicaStatus) -> list[LogLine]:
    """Return the last lines of a replica's last run; Docker keeps those of earlier ones."""
    with _UnlessUnreachable():
        span = Span.between(_began(replica), None)
        log = ReplicaLog(engine, replica.container_id, span=span, tail=READ_LINES, resumable=True)
        return [*log]
    return []
