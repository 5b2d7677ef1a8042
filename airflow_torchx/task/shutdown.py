"""How a task parts from its app before the app has ended."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final, NoReturn

import structlog
from airflow.sdk.exceptions import AirflowTaskTimeout, TaskDeferred

from airflow_torchx.core.engine import labels
from airflow_torchx.core.task.arguments import OnFinish, OnWorkerShutdown
from airflow_torchx.core.task.record import Deferral
from airflow_torchx.core.task.shutdown import (
    ExitAction,
    after_airflow_error,
    before_deferral,
    exit_action,
)
from airflow_torchx.docker_engine import DockerEngine
from airflow_torchx.errors import (
    AirflowRequestError,
    AirflowTorchXError,
    AppCancelledError,
    WorkerShutdownError,
)
from airflow_torchx.runtime import lifecycle
from airflow_torchx.runtime.gang_log import Detached
from airflow_torchx.task.deferral import not_before
from airflow_torchx.task.reaper import Reaper

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.core.task.record import LaunchedApp
    from airflow_torchx.runtime.gang_log import Cursors
    from airflow_torchx.task.context import TaskContext

_log = structlog.get_logger("airflow_torchx.task")

# Airflow kills a process 5 s after it asked its task to end; what is left then is the reaper's, and
# the log does not tell of it.
_KILL_S: Final = 4.6
_KILL_GRACE_S: Final = 3.0
# Of those, for one question to a server that may be slow.
_STATE_S: Final = 1.2
# The same for a task that was not asked to end.
_LEISURE_STATE_S: Final = 10.0
# Airflow's own timeout of a deferral comes after the trigger's: it is for a trigger that is lost.
_PAD_S: Final = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskOptions:
    """How a task sees its app through; the operator's arguments of the same names tell."""

    torchx_conn_id: str | None
    wait_for_completion: bool
    deferrable: bool
    durable: bool
    on_finish: OnFinish
    on_worker_shutdown: OnWorkerShutdown
    result_path: str | None
    skip_on_exit_code: frozenset[int]
    fail_on_exit_code: frozenset[int]
    log_max_bytes: int
    logging_interval_s: float | None
    execution_timeout: timedelta | None
    secrets: Callable[[], frozenset[str]]

    @property
    def keep(self) -> bool:
        """Whether the containers of an app that did not succeed stay."""
        return self.on_finish is not OnFinish.DELETE


class TaskShutdown:
    """What happens to the app of a task when the task ends otherwise than by the app's own end.

    Args:
        task: the task.
        engine: the daemon.
        options: what the task's author wants.
        killed_at: when Airflow asked the task to end, by ``time.monotonic()``; None if it did not.
    """

    def __init__(
        self,
        task: TaskContext,
        engine: Engine,
        options: TaskOptions,
        killed_at: Callable[[], float | None],
    ) -> None:
        self._task = task
        self._engine = engine
        self._options = options
        self._killed_at = killed_at
        self._reaper: Reaper | None = None

    def should_stop(self) -> bool:
        """Tell whether this process has to part from its app."""
        return self._killed_at() is not None or self._task.is_orphaned

    def should_stop_launch(self, app: LaunchedApp) -> bool:
        """Tell whether this process has to part from an app whose launch is not done."""
        if should_stop := self.should_stop():
            self._have_reaper(app, keep=False)
        return should_stop

    @contextmanager
    def guard(self, app: LaunchedApp) -> Iterator[None]:
        """Stop the app when the task ends otherwise than by the app's own end.

        An error of Airflow is none of the app: the app is kept if another attempt may follow.
        """
        try:
            yield
        except (TaskDeferred, WorkerShutdownError):
            raise
        except Detached as detached:
            self._leave(app, detached.cursors)
        except AirflowRequestError as error:
            self._vanish_if_orphaned(app)
            self._keep_or_stop(app, error)
            raise
        except BaseException:
            self._vanish_if_orphaned(app)
            self._stop_app(app)
            raise

    def _leave(self, app: LaunchedApp, cursors: Cursors) -> NoReturn:
        self._vanish_if_orphaned(app)
        state = self._task.state(_STATE_S)
        policy, retry_left = self._options.on_worker_shutdown, self._task.retry_left
        match exit_action(state, policy, retry_left=retry_left):
            case ExitAction.HAND_OVER:
                _log.info("this worker is shut down: app %s goes on, the task defers", app.app_id)
                self.hand_over(app, cursors)
            case ExitAction.KEEP:
                what = f"this worker is shut down (the task is {state}): app {app.app_id!r} goes on"
                raise WorkerShutdownError(what, fix="The next try takes it over.") from None
            case ExitAction.STOP:
                self._stop_app(app)
                what = f"the task is {state} by now: app {app.app_id!r} was stopped."
                raise AppCancelledError(what) from None

    def _keep_or_stop(self, app: LaunchedApp, error: AirflowRequestError) -> None:
        state = self._task.state(_LEISURE_STATE_S if self._killed_at() is None else _STATE_S)
        action = after_airflow_error(
            state,
            retry_left=self._task.retry_left,
            is_durable=self._options.durable,
            is_replaced=error.is_replaced,
        )
        if action is ExitAction.KEEP:
            _log.warning(
                "%s\nkeeping app %s for the next attempt; the task is %s",
                error.what,
                app.app_id,
                state,
            )
        else:
            _log.error("%s\nstopping app %s; the task is %s", error.what, app.app_id, state)
            self._stop_app(app)

    def _vanish_if_orphaned(self, app: LaunchedApp) -> None:
        if not self._task.is_orphaned:
            return
        _log.error("Airflow's supervisor of this task died: leaving app %s alone", app.app_id)
        # Not by an exception: Airflow would run callbacks for an end that nobody has recorded.
        os._exit(1)

    def _stop_app(self, app: LaunchedApp) -> None:
        """Stop the app, whatever state that is in; never hides the first error."""
        grace, killed_at = app.stop_grace_s, self._killed_at()
        self._have_reaper(app, keep=self._options.keep)
        if killed_at is not None:
            left = killed_at + _KILL_S - time.monotonic()
            grace = max(0.0, min(grace, _KILL_GRACE_S, left))
        try:
            try:
                self._stop(app, grace)
            except AirflowTaskTimeout:
                # After a deferral Airflow's clock begins anew, and may ring in the middle; once.
                self._stop(app, 0.0)
        except AirflowTorchXError as why:
            tell_left(app.app_id, why)
        else:
            if self._reaper is not None:
                self._reaper.dismiss()

    def _have_reaper(self, app: LaunchedApp, *, keep: bool) -> None:
        """Have a process that finishes what this one is killed at."""
        if self._killed_at() is None or self._reaper is not None:
            return
        # Without one, this process does what it can in its time.
        with suppress(OSError):
            if isinstance(self._engine, DockerEngine):
                self._reaper = Reaper(self._engine, app.app_id, app.launch_id, keep=keep)

    def _stop(self, app: LaunchedApp, grace_s: float) -> None:
        keep = self._options.keep
        lifecycle.stop_launch(self._engine, app.app_id, app.launch_id, grace_s=grace_s, keep=keep)

    def defer(self, app: LaunchedApp, cursors: Cursors) -> NoReturn:
        """Free the worker slot, unless the task is not running any more.

        Raises:
            TaskDeferred: the triggerer waits.
            WorkerShutdownError: Airflow has given the task to another attempt.
            AppCancelledError: a user has ended the task.
        """
        state = self._task.state(_LEISURE_STATE_S)
        match before_deferral(state):
            case ExitAction.HAND_OVER:
                self.hand_over(app, cursors)
            case ExitAction.KEEP:
                what = f"the task is {state} by now: app {app.app_id!r} keeps running."
                raise WorkerShutdownError(what, fix="The next attempt reattaches to it.")
            case ExitAction.STOP:
                what = f"the task is {state} by now: app {app.app_id!r} is stopped."
                raise AppCancelledError(what)

    def hand_over(self, app: LaunchedApp, cursors: Cursors) -> NoReturn:
        """Defer the task: the triggerer waits, and the worker slot is free."""
        from airflow_torchx.triggers import TorchXDockerTrigger

        now, interval = time.time(), self._options.logging_interval_s
        deadline = self._task.deadline_s(self._options.execution_timeout)
        raise TaskDeferred(
            trigger=TorchXDockerTrigger(
                app_id=app.app_id,
                torchx_conn_id=self._options.torchx_conn_id,
                owned=True,
                delete_on_finish=self._options.on_finish is OnFinish.DELETE,
                deadline=deadline,
                flush_at=now + interval if interval else None,
                not_before=not_before(),
            ),
            method_name="execute_complete",
            kwargs=Deferral(app, cursors).to_json(),
            timeout=None if deadline is None else timedelta(seconds=deadline - now + _PAD_S),
        )


def tell_left(app_id: str, why: Exception) -> None:
    """Tell whoever reads the log what may be left, and how to remove it."""
    _log.warning(
        "containers of app %s may be left: %s\nRemove them with:\n"
        "  docker rm -f $(docker ps -aq --filter label=%s=%s)",
        app_id,
        why,
        labels.APP_ID,
        app_id,
    )
