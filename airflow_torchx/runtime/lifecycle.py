"""Apps on a daemon: launch, observe, wait, cancel, delete. Decides nothing; see `core`."""

from __future__ import annotations

import contextlib
import logging
import time
from typing import TYPE_CHECKING, Final

from airflow_torchx.concurrency.parallel import StopRequested, map_concurrently
from airflow_torchx.core.engine import labels
from airflow_torchx.core.engine.containers import DEFAULT_STOP_GRACE_S
from airflow_torchx.core.plan.identity import cancelled_name, is_cancelled_name
from airflow_torchx.core.plan.option_values import seconds
from airflow_torchx.core.plan.plan_text import redact, secret_values
from airflow_torchx.core.state.describe import (
    describe,
    exit_code,
    needs_detail,
    replica_state,
    summaries,
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

# The daemon reserves a name some time before it lists the container of that name.
_REGISTRATION_PAUSES_S: Final = (0.1, 0.2, 0.4, 0.8, 0.0)
# A launch that runs at the same time may start a container after it was told to stop.
_CANCEL_PAUSES_S: Final = (0.0, 0.2, 0.4, 0.8, 1.6)


def launch(
    engine: Engine,
    plan: JobPlan,
    *,
    known: Mapping[str, bool] = images.NOTHING_KNOWN,
    should_stop: Callable[[], bool] = lambda: False,
) -> DescribeAppResponse:
    """Run every container of a plan, or none, and return the app as the daemon lists it then.

    Images are pulled, the network is ensured, all containers are created, then all are started.
    Whatever goes wrong, an interrupt by the user included, all that this launch created is removed.

    Args:
        engine: the daemon.
        plan: what to run.
        known: whether the daemon has an image; it is asked for all others.
        should_stop: asked several times a second; True undoes the launch.

    Raises:
        AppExistsError: an app of this id is there already; it is left alone.
        AppNotFoundError: somebody removed all containers as soon as they were started.
        ImagePullError: an image cannot be pulled; nothing was created.
        LaunchError: a container could not be created or started, and which.
        LaunchInterruptedError: ``should_stop`` returned True, or somebody cancelled the app.
    """
    ids: dict[str, str] = {}
    try:
        images.ensure(engine, plan.images, plan.pull_policy, known=known, should_stop=should_stop)
        network.ensure(engine, plan.network)
        _create_and_start(engine, plan, ids, should_stop)
        return _launched(engine, plan)
    except StopRequested as why:
        _undo(engine, plan, ids)
        what = f"app {plan.app_id!r} was told to stop while it was launched."
        raise LaunchInterruptedError(what, fix="Nothing of it was left behind.") from why
    except _ReplicaError as failed:
        unanswered = isinstance(failed.why, EngineUnreachableError)
        left = _undo(engine, plan, ids, unanswered=unanswered)
        raise _explained(engine, plan, failed, left) from _shown(failed.why, plan)
    except BaseException:
        _undo(engine, plan, ids)
        raise


class _ReplicaError(Exception):
    """The Engine refused to create or start the container of one replica."""

    def __init__(self, spec: ContainerSpec, why: EngineError) -> None:
        super().__init__(spec.name)
        self.spec = spec
        self.why = why


def _create_and_start(
    engine: Engine, plan: JobPlan, ids: dict[str, str], should_stop: Callable[[], bool]
) -> None:
    """Fill ``ids``, container name to id, with what was created."""

    def create(spec: ContainerSpec) -> None:
        try:
            ids[spec.name] = engine.create(spec)
        except EngineError as why:
            raise _ReplicaError(spec, why) from why

    def start(spec: ContainerSpec) -> None:
        try:
            engine.start(ids[spec.name])
        except EngineError as why:
            raise _ReplicaError(spec, why) from why

    # Two launches of one app race for the first name; the daemon gives it to one of them.
    map_concurrently(create, plan.containers[:1], should_stop=should_stop)
    map_concurrently(create, plan.containers[1:], should_stop=should_stop)
    map_concurrently(start, plan.containers, should_stop=should_stop)


def _launched(engine: Engine, plan: JobPlan) -> DescribeAppResponse:
    """Return the app whose containers were all started, from one look at them.

    The first name is the lock of a launch, but an app whose first container is gone or was
    cancelled does not hold it.
    """
    rows = _rows(engine, plan.app_id)
    if any(row.labels.get(labels.LAUNCH_ID) != plan.launch_id for row in rows):
        raise AppExistsError(plan.app_id)
    if any(is_cancelled_name(row.name) for row in rows):
        raise StopRequested
    found = _described(engine, plan.app_id, rows)
    if found is None:
        raise not_found(plan.app_id)
    return found


def _undo(
    engine: Engine, plan: JobPlan, ids: Mapping[str, str], *, unanswered: bool = False
) -> tuple[str, ...]:
    """Remove what this launch created; return the names of containers that may be left.

    A container whose creation got no answer has no id here, so labels find it. But a launch that
    lost the race for the first name owns nothing: the winner may carry the same labels.

    Raises:
        KeyboardInterrupt: the user is in a hurry; everything was removed all the same.
    """
    try:
        return _removed(engine, plan, ids, unanswered=unanswered)
    except KeyboardInterrupt:
        _removed(engine, plan, ids, unanswered=unanswered)
        raise


def _removed(
    engine: Engine, plan: JobPlan, ids: Mapping[str, str], *, unanswered: bool
) -> tuple[str, ...]:
    try:
        map_concurrently(engine.remove, list(ids.values()))
        if ids or unanswered:
            map_concurrently(
                lambda row: engine.remove(row.id), _of_launch(engine, plan.app_id, plan.launch_id)
            )
    except EngineError as why:
        _log.warning("cannot undo the launch of app %s: %s", plan.app_id, why)
        return tuple(spec.name for spec in plan.containers)
    return ()


def _explained(
    engine: Engine, plan: JobPlan, failed: _ReplicaError, left: Sequence[str]
) -> AppExistsError | LaunchError:
    """Return the error that tells which replica failed and why."""
    if isinstance(failed.why, EngineConflictError) and not left:
        for pause_s in _REGISTRATION_PAUSES_S:
            if _rows(engine, plan.app_id):
                return AppExistsError(plan.app_id)
            time.sleep(pause_s)
    replica = f"{failed.spec.role}/{failed.spec.replica}"
    text = redact(str(failed.why), secret_values(plan))
    return LaunchError(plan.app_id, replica, text, left=left)


def _shown(why: EngineError, plan: JobPlan) -> EngineError | None:
    """Return what a traceback may show as the cause: None if the Engine's words hold a secret."""
    return why if redact(str(why), secret_values(plan)) == str(why) else None


def observe(
    engine: Engine, app_id: str, *, inspect_all: bool = False
) -> DescribeAppResponse | None:
    """Return what is known of an app, None if nothing of it is on the daemon.

    One call for any number of replicas, and one more for each that failed.

    Args:
        engine: the daemon.
        app_id: the app.
        inspect_all: one more call for every replica, which tells when it started and ended.
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
    """Tell whether anything of an app is on the daemon, in one call."""
    return bool(_rows(engine, app_id))


def apps(engine: Engine) -> list[ListAppResponse]:
    """Return all apps of the daemon, TorchX's own included, in one call."""
    return summaries(engine.rows({labels.APP_ID: None}))


def cancel(
    engine: Engine,
    app_id: str,
    *,
    grace_s: float | None = None,
    pauses_s: Sequence[float] = _CANCEL_PAUSES_S,
) -> None:
    """Stop all live replicas of an app at once, under one grace period.

    The intent is written first, as a container's name, so that it outlives this process and every
    client of the daemon reads CANCELLED whatever the exit codes. Replicas that have ended keep
    their state. An app that has ended is left as it is.

    Args:
        engine: the daemon.
        app_id: the app.
        grace_s: seconds between SIGTERM and SIGKILL; None for what the launch was given.
        pauses_s: seconds to wait after each round of stops, before the next look.

    Raises:
        AppNotFoundError: nothing of the app is on the daemon.
    """
    rows = _rows(engine, app_id)
    if not rows:
        raise not_found(app_id)
    grace = grace_s if grace_s is not None else _grace(rows)
    live = _live(rows)
    for pause_s in pauses_s:
        if not live:
            return
        map_concurrently(lambda row: _mark(engine, row), live)
        map_concurrently(lambda row: engine.stop(row.id, grace), live, threads=len(live))
        time.sleep(pause_s)
        live = _live(_rows(engine, app_id))
    if live:
        what = f"app {app_id!r} does not end: {', '.join(row.name for row in live)}"
        fix = "Look at the daemon's log; `docker rm -f` removes the containers."
        raise EngineError(what, fix=fix)


def delete(engine: Engine, app_id: str) -> None:
    """Remove all containers of an app with their anonymous volumes; stop it first if it lives.

    Raises:
        AppNotFoundError: nothing of the app is on the daemon.
    """
    rows = _rows(engine, app_id)
    if not rows:
        raise not_found(app_id)
    if _live(rows):
        cancel(engine, app_id)
        rows = _rows(engine, app_id)
    map_concurrently(lambda row: engine.remove(row.id), rows)


def stop_launch(
    engine: Engine, app_id: str, launch_id: str, *, grace_s: float, keep: bool = False
) -> None:
    """Stop what this launch left running, and remove it unless it is kept; safe at any time.

    Args:
        engine: the daemon.
        app_id: the app.
        launch_id: the word on the containers of the launch.
        grace_s: seconds between SIGTERM and SIGKILL.
        keep: leave the stopped containers.
    """
    if not _of_launch(engine, app_id, launch_id):
        return
    _log.info("stopping app %s, which may take %g s", app_id, grace_s)
    cancel(engine, app_id, grace_s=grace_s)
    if not keep:
        delete(engine, app_id)
    _log.info("app %s is stopped, its containers are %s", app_id, "kept" if keep else "gone")


def not_found(app_id: str) -> AppNotFoundError:
    """Return the error for an app that is not on the daemon."""
    return AppNotFoundError(
        f"no app {app_id!r} on this daemon.",
        fix="Its containers may have been removed, or it runs on another daemon.",
    )


def _rows(engine: Engine, app_id: str) -> tuple[ContainerRow, ...]:
    return engine.rows({labels.APP_ID: app_id})


def _of_launch(engine: Engine, app_id: str, launch_id: str) -> tuple[ContainerRow, ...]:
    return engine.rows({labels.APP_ID: app_id, labels.LAUNCH_ID: launch_id})


def _live(rows: Iterable[ContainerRow]) -> list[ContainerRow]:
    return [row for row in rows if not is_terminal(replica_state(row, exit_code(row) or 0))]


def _grace(rows: Iterable[ContainerRow]) -> float:
    for row in rows:
        with contextlib.suppress(KeyError, ValueError):  # anybody can write a label
            return seconds(row.labels[labels.STOP_GRACE])
    return DEFAULT_STOP_GRACE_S


def _mark(engine: Engine, row: ContainerRow) -> None:
    """Write onto a container that it was told to stop."""
    if is_cancelled_name(row.name):
        return
    with contextlib.suppress(EngineConflictError, EngineNotFoundError):
        engine.rename(row.id, cancelled_name(row.name))
