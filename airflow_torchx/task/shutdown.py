"""Stops, keeps or hands over the app of a task that ends before its app."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Final, NoReturn

import structlog
from airflow.sdk.exceptions import AirflowTaskTimeout, TaskDeferred

from airflow_torchx.airflow_compat import masked
from airflow_torchx.concurrency.parallel import StopRequested, call_until
from airflow_torchx.core.state.usage import MAX_STORED_BYTES
from airflow_torchx.core.task.arguments import OnWorkerShutdown
from airflow_torchx.core.task.shutdown import ExitAction, before_deferral, exit_action
from airflow_torchx.errors import (
    AirflowRequestError,
    AirflowTorchXError,
    AppCancelledError,
    EngineUnreachableError,
    ResultError,
    WorkerShutdownError,
)
from airflow_torchx.runtime import attach, lifecycle
from airflow_torchx.runtime.gang_log import Detached
from airflow_torchx.runtime.gpus import task_places
from airflow_torchx.runtime.placing import docker_cli
from airflow_torchx.runtime.reaper import Order
from airflow_torchx.task import reattach
from airflow_torchx.task.checkpoints import CheckpointUploads
from airflow_torchx.task.deferral import hand_over, hand_over_gpu_wait
from airflow_torchx.task.handover import watch_handover
from airflow_torchx.task.keeping import LEISURE_STATE_S, is_kept, state_in_time
from airflow_torchx.task.leftovers import warn_leftovers
from airflow_torchx.task.reapers import Reapers
from airflow_torchx.task.snapshots import Snapshots

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.core.gpu.demand import GpuDemand
    from airflow_torchx.core.task.record import LaunchedApp
    from airflow_torchx.runtime.gang_log import Cursors
    from airflow_torchx.task.context import TaskContext
    from airflow_torchx.task.options import TaskOptions

_log = structlog.get_logger("airflow_torchx.task")

# Airflow kills a process 5 s after SIGTERM. The rest of this time is for the report. An app that
# still runs then is left to the reaper.
_KILL_S: Final = 4.2

_NEXT_TRY: Final = "The next try reattaches to it."
_CLEAR: Final = "Clear the task to run it again."
_RAISE: Final = "Raise execution_timeout, which counts from the start of the try, or leave it out."


class TaskShutdown:
    """Decides and does what happens to an app whose task ends before the app.

    ``killed_at`` returns when Airflow asked the task to end, by ``time.monotonic()``; None if it
    did not.
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
        self._reapers = Reapers()
        #: What a page shows of the app, and what its replicas use.
        self.snapshots = Snapshots(task, options.secrets)
        #: Copies the checkpoints of the app.
        self.uploads = CheckpointUploads(engine)
        self._has_app = False
        #: Whether the app was on the daemon: a launch may end while it waits for GPUs.
        self.is_launched = False
        #: Whether the app is known to have succeeded: another try need not run it again.
        self.has_succeeded = False

    def should_stop(self) -> bool:
        """Return whether this process must stop working on its app."""
        return self._killed_at() is not None or self._task.is_orphaned

    def launched(self, app: LaunchedApp) -> None:
        """Note that the app is complete; after SIGKILL, it is stopped only if no try is left."""
        self.is_launched = True
        if self._task.retry_left:
            self._reapers.dismiss(app)
        else:
            self._reapers.order(
                self._engine, app, Order(grace_s=app.stop_grace_s, keep=self._options.keep)
            )

    def launching(self, app: LaunchedApp) -> None:
        """Let a reaper undo the launch if this process is killed before `launched`."""
        retry_left = self._task.retry_left
        waiting = None if retry_left else self._task.attempt
        self._reapers.order(self._engine, app, Order(spares_complete=retry_left, waiting=waiting))

    def should_stop_launch(self, app: LaunchedApp) -> bool:
        """Return whether this process must stop its launch; the reaper undoes all of it if so."""
        if should_stop := self.should_stop():
            # The undo of a launch has no grace period either.
            self._reapers.order(self._engine, app, Order(waiting=self._task.attempt))
        return should_stop

    @contextmanager
    def guard_earlier(self) -> Iterator[None]:
        """Stop apps of earlier tries if the task fails before `guard` and no try may use them."""
        try:
            yield
        except BaseException as error:
            task = self._task
            if task.may_have_app and not self._has_app and not task.is_orphaned:
                self._stop_earlier(error)
            if isinstance(error, AirflowTaskTimeout) and not self._has_app:
                what = f"no app was launched: {self._timeout}"
                raise AirflowTaskTimeout(f"{what}\n{_RAISE}") from None
            raise
        finally:
            self._task.telemetry.close()

    def _stop_earlier(self, error: BaseException) -> None:
        kept, state = self._is_kept(error)
        if kept:
            return
        try:
            task_places.leave_queue(self._engine, self._task.attempt)
            apps = reattach.unneeded(self._engine, self._task.attempt, keep=self._options.keep)
        except AirflowTorchXError as why:
            warn_leftovers(self._task.attempt, why, docker_cli(self._engine))
            return
        for app in apps:
            _log.error("no later try will use app %s%s", app.app_id, _shown(state))
            self._log_stop(app)

    @contextmanager
    def guard(self, app: LaunchedApp) -> Iterator[None]:
        """Stop the app if the task ends before the app.

        If another try may follow, the app is kept after an error of Airflow, after an outage of the
        daemon, and if it has succeeded.
        """
        self._has_app = True
        try:
            with self._stopping_at_errors(app):
                yield
        finally:
            self.snapshots.close()
            self.uploads.close()
            self._reapers.dismiss(app)

    @contextmanager
    def _stopping_at_errors(self, app: LaunchedApp) -> Iterator[None]:
        try:
            yield
        except (TaskDeferred, WorkerShutdownError):
            raise
        except Detached as detached:
            self._leave(app, detached.cursors)
        except BaseException as error:
            self._exit_if_orphaned(app)
            is_usable = self.has_succeeded and not isinstance(error, ResultError)
            is_timeout, report = isinstance(error, AirflowTaskTimeout), ""
            if is_usable or isinstance(error, (AirflowRequestError, EngineUnreachableError)):
                self._keep_or_stop(app, error)
            elif is_timeout:
                report = self._stop_app(app, self._timeout, saved=True)
            else:
                self._log_stop(app)
            if is_timeout:
                ended = (
                    f"app {app.app_id!r} has ended" if self.is_launched else "no app was launched"
                )
                what = report or f"{ended}: {self._timeout}"
                raise AirflowTaskTimeout(f"{what}\n{_RAISE}") from None
            raise

    @property
    def _timeout(self) -> str:
        timeout = self._options.execution_timeout
        return f"the task has not ended within execution_timeout ({timeout})"

    def _leave(self, app: LaunchedApp, cursors: Cursors) -> NoReturn:
        action, state = self._exit_action(app)
        match action:
            case ExitAction.HAND_OVER:
                _log.info("worker is shutting down; deferring, app %s keeps running", app.app_id)
                self._hand_over(app, cursors)
            case ExitAction.KEEP:
                what = f"worker is shutting down; app {app.app_id!r} keeps running{_shown(state)}."
                raise WorkerShutdownError(what, fix=_NEXT_TRY) from None
            case ExitAction.STOP:
                what = f"the task was asked to end{_shown(state)}"
                raise AppCancelledError(self._stop_app(app, what) or what, fix=_CLEAR) from None

    def _exit_action(self, app: LaunchedApp) -> tuple[ExitAction, str | None]:
        """Return what a task that was asked to end does with its app, and the task's state."""
        self._exit_if_orphaned(app)
        state = state_in_time(self._task, self._killed_at())
        policy, retry_left = self._options.on_worker_shutdown, self._task.retry_left
        if self.has_succeeded and policy is OnWorkerShutdown.STOP:
            policy = OnWorkerShutdown.KEEP
        return exit_action(state, policy, retry_left=retry_left), state

    def _keep_or_stop(self, app: LaunchedApp, error: BaseException) -> None:
        kept, state = self._is_kept(error)
        what = masked(str(error.what if isinstance(error, AirflowTorchXError) else error))
        if kept:
            _log.warning("%s\nkeeping app %s for the next try%s", what, app.app_id, _shown(state))
        else:
            _log.error("%s\nno later try will use app %s%s", what, app.app_id, _shown(state))
            self._log_stop(app)

    def _is_kept(self, error: BaseException) -> tuple[bool, str | None]:
        is_durable, killed_at = self._options.durable, self._killed_at()
        return is_kept(self._task, error, is_durable=is_durable, killed_at=killed_at)

    def _exit_if_orphaned(self, app: LaunchedApp) -> None:
        if not self._task.is_orphaned:
            return
        what = "is left to the next try" if self._task.retry_left else "is stopped: no try is left"
        _log.error("Airflow's supervisor of this task died; app %s %s", app.app_id, what)
        # An exception would make Airflow run callbacks although no state was recorded.
        os._exit(1)

    def _log_stop(self, app: LaunchedApp) -> None:
        """Stop the app in any state, and log its end if it was running."""
        if report := self._stop_app(app):
            _log.error("%s", masked(report))

    def _stop_app(self, app: LaunchedApp, reason: str = "", *, saved: bool = False) -> str:
        """Stop the app in any state, with its grace period; return a report unless it had ended.

        Never raises, so that the first error is reported. If this process was killed, it does not
        wait longer than it may: the reaper does.
        """

        def is_out_of_time() -> bool:
            killed_at = self._killed_at()
            return killed_at is not None and time.monotonic() > killed_at + _KILL_S

        stop = partial(self._stop, app, reason, saved=saved)
        self._order_stop(app)
        if self._killed_at() is not None:
            look = partial(attach.look, self._engine, app.app_id, inspect_all=True)
            self.snapshots.stopping(look)
        try:
            try:
                report = call_until(partial(stop, app.stop_grace_s), is_out_of_time)
            except AirflowTaskTimeout:
                # Airflow restarts its timeout after a deferral, so it may fire here, once.
                report = stop(0.0)
        except StopRequested:
            return self._unfinished(app, reason)
        except AirflowTorchXError as error:
            self._reapers.leave(app)
            warn_leftovers(app.app_id, error, docker_cli(self._engine))
            return f"{reason}{reason and '; '}app {app.app_id!r} may still run."
        self._reapers.dismiss(app)
        return report

    def _unfinished(self, app: LaunchedApp, reason: str) -> str:
        """Return the report of an app that outlives this process."""
        saving = f" {app.checkpoint_s:g} s to save, then" if app.checkpoint_s else ""
        what = (
            f"{reason}{reason and '; '}app {app.app_id!r} is stopping: its replicas have up to"
            f"{saving} {app.stop_grace_s:g} s (stop_grace_s) to end."
        )
        if not self._reapers.leave(app):
            no_process = StopRequested("no process is left to remove them")
            warn_leftovers(app.app_id, no_process, docker_cli(self._engine))
            return what
        end = "keeps" if self._options.keep else "removes"
        return f"{what} A helper process waits for that, and {end} the containers."

    def _order_stop(self, app: LaunchedApp) -> None:
        """Let a reaper stop the app if this process ends before it has done so."""
        waiting = None if self.is_launched else self._task.attempt
        keep, grace_s = self._options.keep, app.stop_grace_s
        self._reapers.order(self._engine, app, Order(grace_s=grace_s, keep=keep, waiting=waiting))

    def _stop(self, app: LaunchedApp, reason: str, grace_s: float, *, saved: bool) -> str:
        """Stop the app; return its card if it was running, else nothing."""
        cards: list[str] = []

        def on_stopped() -> None:
            if self._killed_at() is None:
                self.uploads.finish(self.should_stop, has_succeeded=False)
            with suppress(AirflowTorchXError):
                ended = attach.look(self._engine, app.app_id, inspect_all=True)
                ended = self.snapshots.usage.mark(ended)
                self._task.telemetry.finished(ended)
                cards.append(attach.card(self._engine, ended, self._options.secrets(), reason))
                # Airflow may refuse it, because it has another state for the task already.
                self.snapshots.finish(ended)

        lifecycle.stop_launch(
            self._engine,
            app.app_id,
            app.launch_id,
            grace_s=grace_s,
            keep=self._options.keep,
            saved=saved,
            on_stopped=on_stopped,
        )
        if not self.is_launched:
            self._leave_queue()
        return "".join(cards)

    def _leave_queue(self) -> None:
        """Give up what the task has in the queue for GPUs, also what an earlier process made."""
        try:
            task_places.leave_queue(self._engine, self._task.attempt)
        except AirflowTorchXError as error:
            warn_leftovers(self._task.attempt, error, docker_cli(self._engine))

    def defer(self, app: LaunchedApp, cursors: Cursors) -> NoReturn:
        """Defer the task if Airflow still says that it is running.

        Raises:
            TaskDeferred: the triggerer waits for the app.
            WorkerShutdownError: another process has the task; the app keeps running.
            AppCancelledError: a user ended or cleared the task.
        """
        self._check_deferral(app)
        self._hand_over(app, cursors)

    def _hand_over(self, app: LaunchedApp, cursors: Cursors) -> NoReturn:
        """Defer the task, and stop the app if a user ends the task meanwhile."""

        def stop(engine: Engine) -> None:
            self._engine = engine
            self._log_stop(app)

        watch_handover(self._task, self._engine, stop, self.should_stop)
        self.snapshots.close()
        known = {
            "usage": self.snapshots.usage.to_json(MAX_STORED_BYTES),
            "snapshot": self.snapshots.to_json(),
        }
        hand_over(self._task, self._options, app, cursors, self.uploads.due_s, known)

    def defer_for_gpus(self, app: LaunchedApp, demand: GpuDemand) -> NoReturn:
        """Defer the task until GPUs are claimed for its app, if Airflow says that it is running.

        Raises:
            TaskDeferred: the triggerer waits for the GPUs.
            WorkerShutdownError: the next process of the task waits on, in the same place.
            AppCancelledError: a user ended or cleared the task.
        """
        if self.should_stop():
            self._leave_gpu_wait(app)
        else:
            self._check_deferral(app)

        def leave_queue(engine: Engine) -> None:
            task_places.leave_queue(engine, self._task.attempt)

        watch_handover(self._task, self._engine, leave_queue, self.should_stop)
        hand_over_gpu_wait(self._task, self._options, app.app_id, demand)

    def _leave_gpu_wait(self, app: LaunchedApp) -> None:
        """Return if the triggerer is to wait for GPUs, because the worker is shutting down."""
        action, state = self._exit_action(app)
        if action is ExitAction.STOP:
            what = f"the task was asked to end while app {app.app_id!r} waited for GPUs"
            raise AppCancelledError(f"{what}{_shown(state)}.", fix=_CLEAR)
        if action is ExitAction.KEEP:
            what = f"worker is shutting down; app {app.app_id!r} keeps its place in the queue"
            raise WorkerShutdownError(f"{what}{_shown(state)}.", fix="The next try waits on.")
        _log.info("worker is shutting down; deferring, app %s waits for GPUs", app.app_id)

    def _check_deferral(self, app: LaunchedApp) -> None:
        state = self._task.state(LEISURE_STATE_S)
        match before_deferral(state):
            case ExitAction.HAND_OVER:
                return
            case ExitAction.KEEP:
                what = f"another process owns the task; app {app.app_id!r} is left to it"
                raise WorkerShutdownError(f"{what}{_shown(state)}.", fix=_NEXT_TRY)
            case ExitAction.STOP:
                what = f"the task was ended; stopping app {app.app_id!r}{_shown(state)}."
                raise AppCancelledError(what, fix=_CLEAR)


def _shown(state: str | None) -> str:
    return f" (task state: {state or 'none, as after a clear'})"
