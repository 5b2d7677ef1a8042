"""Launches, observes, cancels and deletes apps on a daemon; the decisions are in `core`."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from typing import TYPE_CHECKING, Final

from airflow_torchx.concurrency.parallel import StopRequested, map_concurrently
from airflow_torchx.core.engine import labels
from airflow_torchx.core.engine.containers import DEFAULT_STOP_GRACE_S
from airflow_torchx.core.plan.identity import cancelled_name, is_cancelled_name
from airflow_torchx.core.plan.option_values import seconds
from airflow_torchx.core.plan.plan_text import secret_values
from airflow_torchx.core.plan.redact import redact
from airflow_torchx.core.state.describe import (
    describe,
    exit_code,
    needs_detail,
    replica_state,
    summaries,
    without_copies,
)
from airflow_torchx.errors import (
    AppExistsError,
    AppNotFoundError,
    EngineConflictError,
    EngineError,
    EngineNotFoundError,
    EngineUnreachableError,
    LaunchError,
    LaunchInterruptedError,
    leftovers,
)
from airflow_torchx.runtime import images, network
from airflow_torchx.specs import is_terminal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from airflow_torchx.core.engine.containers import ContainerRow, ContainerSpec
    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.core.plan.job_plan import JobPlan
    from airflow_torchx.specs import DescribeAppResponse, ListAppResponse

_log = logging.getLogger(__name__)

# The daemon reserves a name before it lists the container with that name.
_REGISTRATION_PAUSES_S: Final = (0.1, 0.2, 0.4, 0.8, 0.0)
# A concurrent launch may start a container after this process stopped it.
_CANCEL_PAUSES_S: Final = (0.0, 0.2, 0.4, 0.8, 1.6)
# Between two looks at replicas that another client stops.
_OTHER_STOP_S: Final = 0.2


def launch(
    engine: Engine,
    plan: JobPlan,
    *,
    known: Mapping[str, bool] = images.NOTHING_KNOWN,
    should_stop: Callable[[], bool] = lambda: False,
) -> DescribeAppResponse:
    """Launch every container of a plan, or none, and return the app as the daemon lists it.

    It pulls images, ensures the network, creates all containers, then starts them. On any error,
    also on Ctrl-C, it removes every container that it created. ``known`` says whether the daemon
    has an image; others are looked up. ``should_stop`` is called several times a second.

    Raises:
        AppExistsError: an app with this id exists; it is not changed.
        AppNotFoundError: another client removed all containers right after the start.
        ImagePullError: an image cannot be pulled; nothing was created.
        LaunchError: a container could not be created or started; the message names the replica.
        LaunchInterruptedError: ``should_stop`` returned True, or another client cancelled the app.
    """
    ids: dict[str, str] = {}
    try:
        images.ensure(engine, plan.images, plan.pull_policy, known=known, should_stop=should_stop)
        network.ensure(engine, plan.network)
        try:
            _create_and_start(engine, plan, ids, should_stop)
        except _ReplicaError as failed:
            if ids or not known or not isinstance(failed.cause, EngineNotFoundError):
                raise
            # The image was removed after the lookup.
            images.ensure(engine, plan.images, plan.pull_policy, should_stop=should_stop)
            _create_and_start(engine, plan, ids, should_stop)
        return _launched(engine, plan)
    except StopRequested as error:
        fix = leftovers(_undo(engine, plan, ids)) or "Nothing was left on the daemon."
        what = f"the launch of app {plan.app_id!r} was stopped."
        raise LaunchInterruptedError(what, fix=fix) from error
    except _ReplicaError as failed:
        unanswered = isinstance(failed.cause, EngineUnreachableError)
        left = _undo(engine, plan, ids, unanswered=unanswered)
        raise _launch_error(engine, plan, failed, left) from _shown(failed.cause, plan)
    except BaseException as error:
        _note(error, _undo(engine, plan, ids))
        raise


class _ReplicaError(Exception):
    """The Engine refused to create or start the container of one replica."""

    def __init__(self, spec: ContainerSpec, cause: EngineError) -> None:
        super().__init__(spec.name)
        self.spec = spec
        self.cause = cause


def _create_and_start(
    engine: Engine, plan: JobPlan, ids: dict[str, str], should_stop: Callable[[], bool]
) -> None:
    """Create and start all containers; add each created one to ``ids``, by name."""

    def create(spec: ContainerSpec) -> None:
        try:
            ids[spec.name] = engine.create(spec)
        except EngineError as error:
            raise _ReplicaError(spec, error) from error

    def start(spec: ContainerSpec) -> None:
        try:
            engine.start(ids[spec.name])
        except EngineError as error:
            raise _ReplicaError(spec, error) from error

    # Two launches of one app race for the first name; the daemon gives it to one of them.
    map_concurrently(create, plan.containers[:1], should_stop=should_stop)
    map_concurrently(create, plan.containers[1:], should_stop=should_stop)
    map_concurrently(start, plan.containers, should_stop=should_stop)


def _launched(engine: Engine, plan: JobPlan) -> DescribeAppResponse:
    """Return the launched app, from one list of its containers.

    The name of the first container is the lock of a launch. An app whose first container was
    removed or cancelled no longer holds it, so containers of another launch may exist.
    """
    rows = _rows(engine, plan.app_id)
    if any(row.labels.get(labels.LAUNCH_ID) != plan.launch_id for row in rows):
        raise AppExistsError(plan.app_id)
    if any(is_cancelled_name(row.name) for row in rows):
        raise StopRequested
    if (found := _described(engine, plan.app_id, rows)) is None:
        raise not_found(plan.app_id)
    return found


def _undo(
    engine: Engine, plan: JobPlan, ids: Mapping[str, str], *, unanswered: bool = False
) -> tuple[str, ...]:
    """Remove what this launch created; return the names of containers that may be left.

    A container whose creation was not answered has no id here, so it is found by its labels. A
    launch that lost the race for the first name removes nothing: the winner may have the same
    labels.

    Raises:
        KeyboardInterrupt: the user pressed Ctrl-C again; everything was removed first.
    """
    removed = set()

    def remove(named: tuple[str, str]) -> None:
        try:
            engine.remove(named[1])
            removed.add(named[0])
        except EngineError as error:
            _log.warning("cannot remove container %s: %s", named[0], error)

    try:
        if not (ids or unanswered):
            return ()
        try:
            found = {row.name: row.id for row in _of_launch(engine, plan.app_id, plan.launch_id)}
            names = set(found)
        except EngineError as error:
            _log.warning("cannot list the containers of app %s: %s", plan.app_id, error)
            found, names = dict(ids), {spec.name for spec in plan.containers}
        map_concurrently(remove, list(found.items()))
        return tuple(sorted(names - removed))
    except KeyboardInterrupt as error:
        _note(error, _undo(engine, plan, ids, unanswered=unanswered))
        raise


def _note(error: BaseException, left: Sequence[str]) -> None:
    if left:
        error.add_note(leftovers(left))


def _launch_error(
    engine: Engine, plan: JobPlan, failed: _ReplicaError, left: Sequence[str]
) -> AppExistsError | LaunchError:
    """Return the error that names the replica and the cause."""
    if isinstance(failed.cause, EngineConflictError) and not left:
        for pause_s in _REGISTRATION_PAUSES_S:
            if _rows(engine, plan.app_id):
                return AppExistsError(plan.app_id)
            time.sleep(pause_s)
    replica = f"{failed.spec.role}/{failed.spec.replica}"
    text = redact(str(failed.cause), secret_values(plan))
    return LaunchError(plan.app_id, replica, text, left=left)


def _shown(cause: EngineError, plan: JobPlan) -> EngineError | None:
    """Return the cause for the traceback; None if its message contains a secret."""
    return cause if redact(str(cause), secret_values(plan)) == str(cause) else None


def observe(
    engine: Engine, app_id: str, *, inspect_all: bool = False
) -> DescribeAppResponse | None:
    """Return the state of an app and of each replica; None if the daemon has no container of it.

    It makes one request for all replicas, and one more for each replica that failed; with
    ``inspect_all`` for each replica, which also returns when they started and ended.
    """
    return _described(engine, app_id, _rows(engine, app_id), inspect_all=inspect_all)


def _described(
    engine: Engine, app_id: str, rows: Sequence[ContainerRow], *, inspect_all: bool = False
) -> DescribeAppResponse | None:
    wanted = [row.id for row in rows if inspect_all or needs_detail(row)]
    found = map_concurrently(engine.inspect, wanted)
    details = {detail.id: detail for detail in found if detail is not None}
    return describe(app_id, rows, details)


def exists(engine: Engine, app_id: str) -> bool:
    """Return whether the daemon has a container of the app, with one request."""
    return bool(_rows(engine, app_id))


def apps(engine: Engine) -> list[ListAppResponse]:
    """Return all apps on the daemon, including TorchX's, with one request."""
    return summaries(engine.rows({labels.APP_ID: None}))


def cancel(
    engine: Engine,
    app_id: str,
    *,
    grace_s: float | None = None,
    pauses_s: Sequence[float] = _CANCEL_PAUSES_S,
) -> None:
    """Stop all running replicas of an app at the same time, with one grace period.

    Containers are renamed first. So every client reads CANCELLED whatever the exit codes are, even
    if this process dies. Replicas that have ended keep their state. Without ``grace_s``, the
    seconds between SIGTERM and SIGKILL are those of the launch.

    An app that another client is stopping gets no second SIGTERM, which could end a program that
    saves a checkpoint after the first one. It is stopped if it still runs after a grace period.

    Raises:
        AppNotFoundError: the daemon has no container of the app.
        EngineError: a replica keeps running after the last round.
    """
    rows = _rows(engine, app_id)
    if not rows:
        raise not_found(app_id)
    grace = grace_s if grace_s is not None else _grace(rows)
    live = _await_other_stop(engine, app_id, _live(rows), grace)
    for pause_s in pauses_s:
        if not live:
            return
        map_concurrently(lambda row: _mark(engine, row), live)
        map_concurrently(lambda row: engine.stop(row.id, grace), live, threads=len(live))
        time.sleep(pause_s)
        live = _live(_rows(engine, app_id))
    if live:
        what = f"cannot stop app {app_id!r}; still running: {', '.join(row.name for row in live)}"
        fix = "See the log of the daemon. `docker rm -f` removes the containers."
        raise EngineError(what, fix=fix)


def _await_other_stop(
    engine: Engine, app_id: str, live: list[ContainerRow], grace_s: float
) -> list[ContainerRow]:
    """Wait while another client stops the app, and return the replicas that still run.

    A client renames all containers before it stops any. The daemon carries out a stop, with its
    grace period in whole seconds, even if that client has died.
    """
    deadline = time.monotonic() + math.ceil(grace_s)
    while (
        live
        and all(row.state == "running" and is_cancelled_name(row.name) for row in live)
        and time.monotonic() < deadline
    ):
        time.sleep(_OTHER_STOP_S)
        live = _live(_rows(engine, app_id))
    return live


def delete(engine: Engine, app_id: str) -> None:
    """Stop an app if it is running, then remove its containers and anonymous volumes.

    Raises:
        AppNotFoundError: the daemon has no container of the app.
    """
    rows = _rows(engine, app_id)
    if not rows:
        raise not_found(app_id)
    if _live(rows):
        cancel(engine, app_id)
        rows = _rows(engine, app_id)
    map_concurrently(lambda row: engine.remove(row.id), rows)


def stop_launch(
    engine: Engine,
    app_id: str,
    launch_id: str,
    *,
    grace_s: float,
    keep: bool = False,
    on_stopped: Callable[[], None] = lambda: None,
) -> None:
    """Stop the containers of one launch, and remove them unless ``keep`` is set. Idempotent.

    ``on_stopped`` is called before they are removed, if any of them ran.
    """
    rows = _of_launch(engine, app_id, launch_id)
    # A reaper and the next try of a task may do the same at the same time.
    with contextlib.suppress(AppNotFoundError):
        if _live(rows):
            _log.info("stopping app %s with a grace period of %g s", app_id, grace_s)
            cancel(engine, app_id, grace_s=grace_s)
            _log.info("stopped app %s", app_id)
            on_stopped()
        if rows and not keep:
            delete(engine, app_id)
            _log.info("removed the containers of app %s", app_id)


def not_found(app_id: str) -> AppNotFoundError:
    """Return the error for an app that is not on the daemon."""
    return AppNotFoundError(
        f"no app {app_id!r} on this daemon.",
        fix="Its containers were removed, or it runs on another daemon: check the connection.",
    )


def _rows(engine: Engine, app_id: str) -> tuple[ContainerRow, ...]:
    return without_copies(engine.rows({labels.APP_ID: app_id}))


def _of_launch(engine: Engine, app_id: str, launch_id: str) -> tuple[ContainerRow, ...]:
    rows = engine.rows({labels.APP_ID: app_id, labels.LAUNCH_ID: launch_id})
    return without_copies(rows)


def _live(rows: Iterable[ContainerRow]) -> list[ContainerRow]:
    return [row for row in rows if not is_terminal(replica_state(row, exit_code(row) or 0))]


def _grace(rows: Iterable[ContainerRow]) -> float:
    for row in rows:
        with contextlib.suppress(KeyError, ValueError):  # any client can write a label
            return seconds(row.labels[labels.STOP_GRACE])
    return DEFAULT_STOP_GRACE_S


def _mark(engine: Engine, row: ContainerRow) -> None:
    """Rename a container, so that every client reads it as CANCELLED."""
    if is_cancelled_name(row.name):
        return
    with contextlib.suppress(EngineConflictError, EngineNotFoundError):
        engine.rename(row.id, cancelled_name(row.name))
