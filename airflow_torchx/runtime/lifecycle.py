"""Observes, cancels and deletes apps on a daemon; the decisions are in `core`."""

from __future__ import annotations

import contextlib
import logging
import time
from functools import partial
from typing import TYPE_CHECKING, Final

from airflow_torchx.concurrency.parallel import map_concurrently
from airflow_torchx.core.engine import labels
from airflow_torchx.core.engine.containers import DEFAULT_STOP_GRACE_S
from airflow_torchx.core.gpu.ledger import marker_of
from airflow_torchx.core.plan.identity import (
    cancelled_name,
    is_saving_name,
    is_stopped_name,
    saving_name,
)
from airflow_torchx.core.plan.option_values import seconds
from airflow_torchx.core.state.describe import (
    RETRIES,
    by_app,
    describe,
    every_round,
    exit_code,
    needing_detail,
    replica_state,
    replicas_of,
    summaries,
    without_copies,
)
from airflow_torchx.core.state.restarts import restart_of
from airflow_torchx.core.state.rounds import may_restart, replica_key, sources_of
from airflow_torchx.core.state.saving import Saving, are_saving
from airflow_torchx.errors import (
    AppNotFoundError,
    EngineConflictError,
    EngineError,
    EngineNotFoundError,
)
from airflow_torchx.runtime import placing
from airflow_torchx.runtime import saving as save
from airflow_torchx.runtime.stops import Stops
from airflow_torchx.specs import AppState, is_terminal

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from airflow_torchx.core.engine.containers import ContainerDetail, ContainerRow
    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.core.state.restarts import Restart
    from airflow_torchx.specs import DescribeAppResponse, ListAppResponse, ReplicaStatus

    #: Lists the containers that an operation is about.
    _Look = Callable[[], tuple[ContainerRow, ...]]

_log = logging.getLogger(__name__)

# A concurrent launch may start a container after this process stopped it.
_CANCEL_PAUSES_S: Final = (0.0, 0.2, 0.4, 0.8, 1.6)
# Between two requests about replicas that another client lets save.
_OTHER_SAVE_S: Final = 0.2


def observe(
    engine: Engine, app_id: str, *, inspect_all: bool = False
) -> DescribeAppResponse | None:
    """Return the state of an app and of each replica; None if the daemon has no container of it.

    It makes one request for all replicas, and one more for each replica that failed; with
    ``inspect_all`` for each replica, which also returns when they started and ended. Containers of
    earlier rounds cost no request.
    """
    return described(engine, app_id, rows_of(engine, app_id), inspect_all=inspect_all)


def described(
    engine: Engine, app_id: str, rows: Sequence[ContainerRow], *, inspect_all: bool = False
) -> DescribeAppResponse | None:
    """Return the description of an app from its rows; see `observe`."""
    wanted = [row.id for row in sources_of(rows).values()] if inspect_all else needing_detail(rows)
    found = map_concurrently(engine.inspect, wanted)
    details = {detail.id: detail for detail in found if detail is not None}
    return describe(app_id, rows, details)


def of_all_rounds(engine: Engine, app: DescribeAppResponse) -> list[ReplicaStatus]:
    """Return the replicas of an app in every round, from the first one on.

    It makes a request only for an app that may be restarted. Containers that have not started, and
    those of earlier rounds that are gone, are left out.
    """
    if RETRIES not in app.metadata:
        return replicas_of(app)
    gone = [replica for replica in replicas_of(app) if not replica.container_id]
    return [*every_round(rows_of(engine, app.app_id)), *gone]


def exists(engine: Engine, app_id: str) -> bool:
    """Return whether the daemon has a container of the app, with one request."""
    return bool(rows_of(engine, app_id))


def apps(engine: Engine) -> list[ListAppResponse]:
    """Return all apps on the daemon, including TorchX's, with one request.

    It makes one more for each replica that failed in an app that may be restarted.
    """
    rows = engine.rows({labels.APP_ID: None})
    return summaries(rows, details_of(engine, rows))


def details_of(engine: Engine, rows: Sequence[ContainerRow]) -> dict[str, ContainerDetail]:
    """Return what decides whether apps are restarted, by the id of the container."""
    wanted = [
        one
        for of_app in by_app(rows).values()
        if may_restart(of_app)
        for one in needing_detail(of_app)
    ]
    found = map_concurrently(engine.inspect, wanted)
    return {detail.id: detail for detail in found if detail is not None}


def cancel(  # noqa: PLR0913 - which containers, and how
    engine: Engine,
    app_id: str,
    *,
    launch_id: str | None = None,
    roles: Collection[str] | None = None,
    grace_s: float | None = None,
    saved: bool = False,
    pauses_s: Sequence[float] = _CANCEL_PAUSES_S,
) -> None:
    """Stop all running replicas of an app, or of ``roles``, at once, with one grace period.

    With ``launch_id``, only those of this launch.

    Containers are renamed first. So every client reads CANCELLED whatever the exit codes are, even
    if this process dies. Replicas that have ended keep their state. Without ``grace_s``, the
    seconds between SIGTERM and SIGKILL are those of the launch.

    Replicas with a checkpoint signal get it first, unless they have got it, and then as much time
    as they need to save and end. They get SIGTERM once that is over. Roles that are no longer
    needed, and an app without a grace period, do not get it. ``saved`` means that replicas which
    have got the signal earlier have had their time.

    An app that another client is stopping gets no second SIGTERM, which could end a program that
    saves a checkpoint after the first one. It is stopped if it still runs after a grace period.

    Raises:
        AppNotFoundError: the daemon has no container of the app.
        EngineError: a replica keeps running after the last round.
    """
    look = partial(rows_of, engine, app_id, launch_id)
    if not (rows := look()):
        raise not_found(engine, app_id)
    grace = grace_s if grace_s is not None else grace_of(rows)
    rows = _without_restart(engine, app_id, rows, look, roles)
    saving = Saving.of(rows) if roles is None and grace > 0 else None
    running, stops = live(rows, roles), Stops(engine, lambda: live(look(), roles))
    if saving is not None:
        running = _await_other_save(look, running, saving)
    if saving is not None and running:
        running = _save_first(engine, app_id, look, running, saving, stops, saved=saved)
    for pause_s in pauses_s:
        if not running:
            return
        stops.rename(running, cancelled_name)
        stops.stop(running, grace)
        # Docker cannot rename one on a network while it is about to restart it.
        stops.rename([row for row in running if row.state == "restarting"], cancelled_name)
        time.sleep(pause_s)
        rows = _without_restart(engine, app_id, look(), look, roles)
        running = live(rows, roles)
    if running:
        names = ", ".join(row.name for row in running)
        what = f"cannot stop app {app_id!r}; still running: {names}"
        fix = f"See the log of the daemon. `{placing.docker_cli(engine).remove}` removes them."
        raise EngineError(what, fix=fix)


def _await_other_save(
    look: _Look, running: list[ContainerRow], saving: Saving
) -> list[ContainerRow]:
    """Wait while another client that stops the app lets it save; return what still runs.

    The wait is as long as a save may take, because that client may have died.
    """
    deadline = time.monotonic() + saving.seconds
    while (
        are_saving(running)
        and all(row.state == "running" and is_stopped_name(row.name) for row in running)
        and time.monotonic() < deadline
    ):
        time.sleep(_OTHER_SAVE_S)
        running = live(look())
    return running


def _without_restart(
    engine: Engine,
    app_id: str,
    rows: tuple[ContainerRow, ...],
    look: _Look,
    roles: Collection[str] | None,
) -> tuple[ContainerRow, ...]:
    """Cancel the restart of an app that is due, and return its containers.

    Nothing but the names of the failed containers shows that it was cancelled. A client that is
    about to restart them looks at these names again.
    """
    while roles is None and (restart := _due(engine, app_id, rows)) is not None:
        newest = (sources_of(rows, restart.number), sources_of(rows))
        found = {row.id: row for sources in newest for row in sources.values()}
        failed = [
            row for row in found.values() if replica_state(row, exit_code(row)) is AppState.FAILED
        ]
        map_concurrently(lambda row: mark(engine, row, cancelled_name(row.name)), failed)
        rows = look()
        if not failed:
            break
    return rows


def _due(engine: Engine, app_id: str, rows: Sequence[ContainerRow]) -> Restart | None:
    """Return the restart of an app that is due; it makes requests only if one may be."""
    app = described(engine, app_id, rows) if may_restart(rows) else None
    return restart_of(app) if app else None


def _save_first(  # noqa: PLR0913 - how, and for whom
    engine: Engine,
    app_id: str,
    look: _Look,
    running: list[ContainerRow],
    saving: Saving,
    stops: Stops,
    *,
    saved: bool,
) -> list[ContainerRow]:
    """Let the replicas save before they are stopped, and return those that still run."""
    asked = save.ask(engine, running, saving, cancelled=True)
    # Another client has waited for those that it has asked.
    early = (
        [] if saved or are_saving(running) else [row for row in running if is_saving_name(row.name)]
    )
    others = [row for row in running if row not in asked]
    stops.rename(others, _name_while_saving)
    if not asked and not early:
        return live(look())
    if asked:
        _log.info("sent %s to %s of app %s", saving.signal, save.counted(asked), app_id)
    what = "waiting up to %g s until app %s has saved and ended; then its replicas get SIGTERM"
    _log.info(what, saving.seconds, app_id)
    return save.wait(lambda: live(look()), saving)


def delete(
    engine: Engine, app_id: str, *, launch_id: str | None = None, keep_claim: bool = False
) -> None:
    """Stop an app if it is running, then remove its containers and anonymous volumes.

    With ``launch_id``, only those of this launch.

    If it has GPUs, a ticket and a claim that its launch left are removed, too, unless a retry may
    take them over (``keep_claim``).

    Raises:
        AppNotFoundError: the daemon has no container of the app.
    """
    look = partial(rows_of, engine, app_id, launch_id)
    if not (rows := look()):
        raise not_found(engine, app_id)
    has_gpus = any(row.labels.get(labels.GPUS) for row in rows)
    has_rounds = may_restart(rows)
    while rows:
        if live(rows):
            cancel(engine, app_id, launch_id=launch_id)
            rows = look()
        map_concurrently(lambda row: engine.remove(row.id), rows)
        # A client may have created the next round meanwhile.
        rows = look() if has_rounds else ()
    if has_gpus and not keep_claim:
        # Last, because a launch that finds its claim removed looks whether its replicas are, too.
        for row in engine.rows({labels.GPU_APP: app_id, **_of_launch(launch_id)}):
            if marker_of(row) in {"ticket", "claim"}:
                engine.discard(row.id)


def stop_launch(  # noqa: PLR0913 - the options of two kinds of stop
    engine: Engine,
    app_id: str,
    launch_id: str,
    *,
    grace_s: float,
    keep: bool = False,
    saved: bool = False,
    on_stopped: Callable[[], None] = lambda: None,
) -> None:
    """Stop the containers of one launch, and remove them unless ``keep`` is set. Idempotent.

    ``saved`` is that of `cancel`.
    ``on_stopped`` is called before the containers are removed, if any of them ran.
    """
    rows = rows_of_launch(engine, app_id, launch_id)
    # A reaper and the next try of a task may do the same at the same time.
    with contextlib.suppress(AppNotFoundError):
        if live(rows) or _due(engine, app_id, rows) is not None:
            _log.info("stopping app %s with a grace period of %g s", app_id, grace_s)
            cancel(engine, app_id, launch_id=launch_id, grace_s=grace_s, saved=saved)
            _log.info("stopped app %s", app_id)
            on_stopped()
        if rows and not keep:
            delete(engine, app_id, launch_id=launch_id)
            _log.info("removed the containers of app %s", app_id)


def not_found(engine: Engine, app_id: str) -> AppNotFoundError:
    """Return the error for an app that is not on the engine."""
    return AppNotFoundError(
        f"no app {app_id!r} on {placing.docker_cli(engine).engine}.",
        fix="Its containers were removed, or it runs elsewhere: check the connection.",
    )


def rows_of(engine: Engine, app_id: str, launch_id: str | None = None) -> tuple[ContainerRow, ...]:
    """Return the containers of an app, or of one launch of it, with one request."""
    return without_copies(engine.rows({labels.APP_ID: app_id, **_of_launch(launch_id)}))


def _of_launch(launch_id: str | None) -> dict[str, str]:
    return {} if launch_id is None else {labels.LAUNCH_ID: launch_id}


def rows_of_launch(engine: Engine, app_id: str, launch_id: str) -> tuple[ContainerRow, ...]:
    """Return the containers of one launch, with one request."""
    return rows_of(engine, app_id, launch_id)


def live(rows: Iterable[ContainerRow], roles: Collection[str] | None = None) -> list[ContainerRow]:
    """Return the containers, of these roles or of all, that run or may still start.

    The daemon kills a container before it lists it as `removing`. It lists one like that for good
    if it cannot remove its files.
    """
    return [
        row
        for row in rows
        if row.state != "removing"
        and not is_terminal(replica_state(row, exit_code(row) or 0))
        and (roles is None or replica_key(row)[0] in roles)
    ]


def grace_of(rows: Iterable[ContainerRow]) -> float:
    """Return the seconds between SIGTERM and SIGKILL that the launch of an app was given."""
    for row in rows:
        with contextlib.suppress(KeyError, ValueError):  # any client can write a label
            return seconds(row.labels[labels.STOP_GRACE])
    return DEFAULT_STOP_GRACE_S


def _name_while_saving(name: str) -> str:
    return saving_name(name, cancelled=True) if is_saving_name(name) else cancelled_name(name)


def mark(engine: Engine, row: ContainerRow, name: str) -> None:
    """Rename a container, so that every client reads why it is being stopped."""
    if name != row.name:
        with contextlib.suppress(EngineConflictError, EngineNotFoundError):
            engine.rename(row.id, name)
