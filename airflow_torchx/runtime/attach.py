"""Attach to one app: write its logs, and turn its end into a value or an error."""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from airflow_torchx.concurrency.parallel import StopRequested
from airflow_torchx.core.plan.job_plan import macro_values
from airflow_torchx.core.plan.redact import redact
from airflow_torchx.core.state.blame import blamed_replica
from airflow_torchx.core.state.describe import has_ended, replicas_of
from airflow_torchx.core.state.failure_rules import rule_line
from airflow_torchx.core.state.out_of_memory import ran_out_of_memory
from airflow_torchx.core.state.report import (
    READ_LINES,
    Found,
    failure_card,
    quoted_replica,
    relevant_lines,
    replica_name,
    replica_table,
)
from airflow_torchx.core.state.usage_text import usage_advice
from airflow_torchx.core.state.worker_failure import SEQUENCE
from airflow_torchx.errors import (
    AppCancelledError,
    AppFailedError,
    AppNotFoundError,
    CudaOutOfMemoryError,
    EngineError,
    EngineNotFoundError,
    GpuLostError,
    OutOfMemoryError,
    ReplicaLostError,
    ResultError,
    StalledError,
)
from airflow_torchx.runtime import waiting
from airflow_torchx.runtime.gang_log import Detached
from airflow_torchx.runtime.lifecycle import cancel, delete, not_found, observe
from airflow_torchx.runtime.outage import patiently
from airflow_torchx.runtime.replica_log import ReplicaLog
from airflow_torchx.runtime.root_cause import rule_search
from airflow_torchx.runtime.round_failures import failures_by_round
from airflow_torchx.runtime.save_alarm import SaveAlarm, ask_to_save
from airflow_torchx.runtime.usage import UsageMonitor, UsageSampler
from airflow_torchx.specs import AppState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from concurrent.futures import Future

    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.runtime.gang_log import Cursors, GangLog
    from airflow_torchx.specs import DescribeAppResponse, ReplicaStatus

_log = logging.getLogger(__name__)

#: A result goes to XCom, a database row; larger data belongs in storage.
MAX_RESULT_BYTES: Final = 1 << 20
# Between two calls of should_stop; Airflow gives a killed task 5 s.
_TICK_S: Final = 0.2
# Reading the rest of an ended container's log; 64 MB take about 10 s on 2 cores.
_LOG_TIMEOUT_S: Final = 120.0
# Between two looks at an app that another client may be removing, one container after another.
_REMOVAL_S: Final = 1.0
# Part of the 5 s of a killed task.
_HAND_OVER_S: Final = 1.0
_BY_RULE: Final[dict[str, type[AppFailedError]]] = {
    "cuda_out_of_memory": CudaOutOfMemoryError,
    "gpu_hardware": GpuLostError,
    "gpu_lost": GpuLostError,
}


def watch(  # noqa: PLR0913 - what differs between its callers
    engine: Engine,
    app: DescribeAppResponse,
    after: Cursors,
    should_stop: Callable[[], bool],
    write_to: Callable[[Engine, DescribeAppResponse, Cursors], GangLog],
    *,
    save_at_s: float | None = None,
    usage: UsageMonitor | None = None,
    on_look: Callable[[DescribeAppResponse], object] = lambda _: None,
    secrets: frozenset[str] | None = None,
) -> DescribeAppResponse:
    """Write all logs of an app until it ends, and return how it ended and what it used.

    Carries out the app's failure policy meanwhile. The end of a replica's log, which is the end of
    the replica in most cases, has the daemon asked at once. ``should_stop`` is called several times
    a second; ``write_to`` returns the writer of the logs. At ``save_at_s``, in seconds since 1970,
    the replicas get the checkpoint signal. ``usage`` keeps what they use; ``on_look`` is
    called with the app as it is found. ``secrets`` is that of `rounds.carry_out`.

    Raises:
        Detached: ``should_stop`` returned True; the app keeps running.
        AppNotFoundError: the app was removed.
        EngineUnreachableError: the daemon is down for more than a minute.
    """
    left, wake, app_id = threading.Event(), threading.Event(), app.app_id
    log = write_to(engine, app, after)
    log.on_end = wake.set
    pool = ThreadPoolExecutor(2, f"wait-{app_id}")
    alarm = SaveAlarm(lambda due_s: pool.submit(ask_to_save, engine, app_id, due_s), save_at_s)
    sampler = UsageSampler(engine, usage or UsageMonitor())
    wait = partial(
        waiting.wait,
        should_stop=left.is_set,
        on_look=partial(_looked, (log.look, sampler.look, on_look)),
        wake=wake,
        usage=sampler.monitor,
        secrets=secrets,
    )
    ended = pool.submit(wait, engine, app_id)
    ended.add_done_callback(lambda _: log.wake())
    try:
        with log:
            try:
                _write_until(ended, log, alarm, should_stop)
                log.finish(_LOG_TIMEOUT_S, should_stop)
            except StopRequested:
                raise Detached(log.hand_over(_HAND_OVER_S)) from None
    finally:
        left.set()
        wake.set()
        sampler.close()
        pool.shutdown(wait=False)
    found = patiently(partial(inspected, engine, ended.result()), should_stop)
    return sampler.monitor.mark(log.matches.mark(found))


def _write_until(
    ended: Future[DescribeAppResponse],
    log: GangLog,
    alarm: SaveAlarm,
    should_stop: Callable[[], bool],
) -> None:
    while not ended.done():
        log.write(_TICK_S)
        alarm.check()
        if should_stop():
            raise StopRequested


def _looked(
    calls: Iterable[Callable[[DescribeAppResponse], object]], app: DescribeAppResponse
) -> None:
    for call in calls:
        call(app)


def inspected(engine: Engine, ended: DescribeAppResponse) -> DescribeAppResponse:
    """Return an app that has ended with the times and causes of its replicas.

    An end is final: if another client removes the containers meanwhile, ``ended`` is returned.

    Raises:
        AppNotFoundError: another client removes the app: some containers were gone, the others
            cancelled, and all are gone now. It waits a second, as a lost replica is seen alike.
    """
    while _may_be_removed(ended):
        time.sleep(_REMOVAL_S)
        before, ended = ended, look(engine, ended.app_id, inspect_all=True)
        if _containers(before) == _containers(ended):
            break
    with contextlib.suppress(AppNotFoundError):
        app = look(engine, ended.app_id, inspect_all=True)
        if has_ended(app):
            return app
    return ended


def _may_be_removed(app: DescribeAppResponse) -> bool:
    """Return whether some replicas are gone, and all others were cancelled."""
    present = [one.state for one in replicas_of(app) if one.container_id]
    return len(present) < len(replicas_of(app)) and {*present} == {AppState.CANCELLED}


def _containers(app: DescribeAppResponse) -> set[str]:
    return {one.container_id for one in replicas_of(app)}


def look(engine: Engine, app_id: str, *, inspect_all: bool = False) -> DescribeAppResponse:
    """Return the state of an app and of each replica.

    Raises:
        AppNotFoundError: the daemon has no container of it.
    """
    if (app := observe(engine, app_id, inspect_all=inspect_all)) is None:
        raise not_found(engine, app_id)
    return app


def stopped(
    engine: Engine, app_id: str, *, removes: bool
) -> tuple[DescribeAppResponse | None, str]:
    """Stop an app, and remove its containers if asked to.

    Returns what it was before the removal, if the daemon could show that, and a table of it.
    """
    cancel(engine, app_id)
    app: DescribeAppResponse | None = None
    try:
        app = look(engine, app_id, inspect_all=True)
        table = replica_table(app)
    except EngineError as error:
        table = f"(cannot show its replicas: {error.what})"
    if removes:
        delete(engine, app_id)
    return app, table


def outcome(
    engine: Engine,
    app: DescribeAppResponse,
    result_path: str | None,
    secrets: frozenset[str],
    should_stop: Callable[[], bool],
) -> Any:  # noqa: ANN401 - any JSON
    """Return the JSON that replica 0 of the first role wrote; None without a ``result_path``.

    The app has ended, and is described with ``inspect_all`` and by `root_cause.diagnosed`.

    Raises:
        AppFailedError: the app failed; the message has all details, with secrets masked.
        AppCancelledError: another client cancelled it.
        ResultError: the file is missing, too large, or not JSON.
    """
    if app.state is AppState.FAILED:
        raise failure(engine, app, secrets)
    if app.state is not AppState.SUCCEEDED:
        what = card(engine, app, secrets, "another client stopped it")
        raise AppCancelledError(what, fix="Clear the task to run it again.")
    report = "\n".join([replica_table(app), *usage_advice(app)])
    _log.info("app %s succeeded\n%s", app.app_id, report)
    return _result(engine, app, result_path, should_stop) if result_path else None


def failure(engine: Engine, app: DescribeAppResponse, secrets: frozenset[str]) -> AppFailedError:
    """Return why an app failed; secrets are masked.

    It is described with ``inspect_all``, and by `root_cause.diagnosed`, which finds the worker that
    failed.
    """
    blamed = blamed_replica(app)
    rule = blamed.rule if blamed else ""
    kind = _BY_RULE.get(rule, AppFailedError)
    if blamed is not None and ran_out_of_memory(blamed):
        kind = OutOfMemoryError
    elif blamed is not None and blamed.stalled:
        kind = StalledError
    elif blamed is not None and not blamed.container_id:
        kind = ReplicaLostError
    return kind(
        app.app_id,
        card(engine, app, secrets),
        exit_code=blamed.blamed_exit_code if blamed else None,
        replica=replica_name(blamed) if blamed else "",
        worker=blamed.worker if blamed else None,
        rule=rule,
    )


def card(
    engine: Engine, app: DescribeAppResponse, secrets: frozenset[str], reason: str = ""
) -> str:
    """Return the card of an app, described with ``inspect_all``, with secrets masked."""
    earlier, lines = _earlier_failures(engine, app, secrets), _read_lines(engine, app, secrets)
    line = rule_line(app, lines, rule_search(app))
    found = Found(limit_bytes=_limit(engine, app), rule_line=line)
    return failure_card(app, relevant_lines(lines), reason, earlier, found)


def _limit(engine: Engine, app: DescribeAppResponse) -> int | None:
    """Return the memory limit of a replica that lacked memory; None if it is not known."""
    blamed = blamed_replica(app)
    if blamed is None or not blamed.container_id or not ran_out_of_memory(blamed):
        return None
    with contextlib.suppress(EngineError):
        detail = engine.inspect(blamed.container_id)
        return detail.memory_bytes if detail else None
    return None


def _earlier_failures(
    engine: Engine, app: DescribeAppResponse, secrets: frozenset[str]
) -> list[ReplicaStatus]:
    """Return the replica whose failure ended each earlier round, as far as its container exists."""
    if not any(replica.round for replica in replicas_of(app)):
        return []
    try:
        return failures_by_round(engine, app, secrets)
    except EngineError as why:
        _log.warning("cannot read why app %s was restarted: %s", app.app_id, why)
        return []


def last_lines(engine: Engine, app: DescribeAppResponse, secrets: frozenset[str]) -> list[str]:
    """Return the last lines of the replica that a card quotes, with secrets masked."""
    return relevant_lines(_read_lines(engine, app, secrets))


def _read_lines(engine: Engine, app: DescribeAppResponse, secrets: frozenset[str]) -> list[str]:
    """Return the lines of which a card quotes the last ones, with secrets masked."""
    quoted = quoted_replica(app)
    if quoted is None or not quoted.container_id:
        return []
    try:
        log = ReplicaLog(engine, quoted.container_id, tail=READ_LINES)
        # Airflow masks the task log, but callbacks get the error as it is.
        # Without colors, which may be in the middle of a secret.
        return [redact(SEQUENCE.sub("", line.text), secrets) for line in log]
    except EngineError as why:
        return [f"(cannot read its log: {why.what})"]


def _result(
    engine: Engine, app: DescribeAppResponse, path: str, should_stop: Callable[[], bool]
) -> Any:  # noqa: ANN401 - any JSON
    writer = replicas_of(app)[0]
    who = f"replica {writer.role}/{writer.id} of app {app.app_id!r}"
    path = macro_values(app.app_id, writer.id).substitute(path)
    try:
        read = partial(engine.read_file, writer.container_id, path, MAX_RESULT_BYTES)
        result = json.loads(patiently(read, should_stop))
        # Python reads and writes NaN and lone surrogates, which JSON and Airflow's API refuse.
        json.dumps(result, allow_nan=False, ensure_ascii=False).encode()
    except EngineNotFoundError:
        fix = f"Write it to {path} before the program ends, or leave result_path out."
        raise ResultError(f"{who} left no file {path}.", fix=fix) from None
    except (ValueError, RecursionError) as why:
        fix = f"Write one JSON value of at most {MAX_RESULT_BYTES >> 10} KiB there."
        raise ResultError(f"{who} left {path}, which cannot be used: {why}.", fix=fix) from None
    return result
