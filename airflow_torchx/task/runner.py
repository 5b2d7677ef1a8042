"""One task and its app: from what is there, or a launch, to a result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NoReturn

import structlog
from airflow.sdk.exceptions import (
    AirflowFailException,
    AirflowSkipException,
    AirflowTaskTimeout,
)

from airflow_torchx.core.state.describe import Finish, next_step, replicas_of
from airflow_torchx.core.task.arguments import OnFinish
from airflow_torchx.core.task.reconcile import (
    RESULT_REJECTED,
    SUCCEEDED,
    LaunchedApp,
    TaskRecord,
    reconcile,
)
from airflow_torchx.core.task.shutdown import UNKNOWN
from airflow_torchx.errors import (
    AirflowTorchXError,
    AppCancelledError,
    AppFailedError,
    EngineUnreachableError,
    ResultError,
)
from airflow_torchx.runtime import attach, lifecycle
from airflow_torchx.specs import to_dict
from airflow_torchx.task import reattach
from airflow_torchx.task.context import (
    APP_ID_KEY,
    CONTAINERS_KEY,
    HANDLE_KEY,
    IMAGES_KEY,
    REPLICAS_KEY,
    TaskContext,
)
from airflow_torchx.task.log import TaskLog, write_rest
from airflow_torchx.task.plan import prepared
from airflow_torchx.task.shutdown import TaskShutdown, tell_left

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_torchx.runtime.gang_log import Cursors
    from airflow_torchx.schedulers.api import AppDryRunInfo
    from airflow_torchx.schedulers.docker_scheduler import DockerScheduler
    from airflow_torchx.specs import DescribeAppResponse
    from airflow_torchx.task.plan import LaunchRequest
    from airflow_torchx.task.shutdown import TaskOptions

_log = structlog.get_logger("airflow_torchx.task")

# To be sure of a state at leisure.
_STATE_S: Final = 10.0


class AppTask:
    """Sees one app through for one running task.

    Args:
        task: the task.
        scheduler: the daemon's.
        options: what the task's author wants.
        killed_at: when Airflow asked the task to end, by ``time.monotonic()``; None if it did not.
    """

    def __init__(
        self,
        task: TaskContext,
        scheduler: DockerScheduler,
        options: TaskOptions,
        killed_at: Callable[[], float | None],
    ) -> None:
        self._task = task
        self._scheduler = scheduler
        self._engine = scheduler.engine
        self._options = options
        self._shutdown = TaskShutdown(task, scheduler.engine, options, killed_at)

    def run(self, request: LaunchRequest) -> Any:  # noqa: ANN401 - any JSON
        """Reattach to the app of an earlier attempt, or launch one; return the result.

        Only a launch asks the daemon for more than the apps of this task, and builds images.
        """
        attempt, config_hash = self._task.attempt, request.config_hash
        durable = self._options.durable
        record = self._task.load_record() if durable else None
        apps = reattach.apps_of(self._engine, attempt)
        decision = reconcile(attempt, config_hash if durable else None, apps, record)
        reattach.clean_up(self._engine, decision.clean_up, keep=self._options.keep)
        if decision.recorded is not None:
            _log.info("app %s has succeeded before: its result is known", decision.recorded.app_id)
            return self._known(decision.recorded)
        if decision.reattach is not None:
            app = decision.reattach.launched_app
            _log.info("reattaching to app %s of an earlier try", app.app_id)
            with self._shutdown.guard(app):
                return self._go_on(app, attach.look(self._engine, app.app_id))
        info = prepared(self._task, self._scheduler, request)
        app = LaunchedApp.of(info.request, info.cfg, config_hash)
        with self._shutdown.guard(app):
            seen = self._launch(info, app)
            # The app may run for days: do not hold the list of its workspace's files meanwhile.
            del request, info
            return self._go_on(app, seen)

    def resume(self, event: Mapping[str, Any], app: LaunchedApp | None, cursors: Cursors) -> Any:  # noqa: ANN401 - any JSON
        """Go on after a deferral.

        Args:
            event: what the trigger told.
            app: what went along with the deferral; None, as under ``dag.test()``, looks it up.
            cursors: how far logs were written.
        """
        reason, message = event.get("reason"), event.get("message") or ""
        if reason == "unreachable" and self._task.retry_left:
            raise EngineUnreachableError(message, fix="The next try takes the app over.")
        app = app or reattach.newest(self._engine, self._task.attempt)
        with self._shutdown.guard(app):
            seen = attach.look(self._engine, app.app_id)
            if isinstance(next_step(seen), Finish):
                self._publish(app, seen)
                return self._collect(app, cursors)
            cursors = self._write_rest(seen, cursors)
            if reason == "timeout":
                what = f"app {app.app_id!r} has not ended within execution_timeout"
                raise AirflowTaskTimeout(
                    f"{what} ({self._options.execution_timeout}); it is stopped."
                )
            if reason == "unreachable":
                raise EngineUnreachableError(message)
            return self._defer(app, cursors)

    def _known(self, record: TaskRecord) -> Any:  # noqa: ANN401 - any JSON
        self._task.push(HANDLE_KEY, record.handle)
        self._task.push(APP_ID_KEY, record.app_id)
        if self._options.on_finish is not OnFinish.KEEP and lifecycle.exists(
            self._engine, record.app_id
        ):
            lifecycle.delete(self._engine, record.app_id)
        return record.result

    def _launch(self, info: AppDryRunInfo, app: LaunchedApp) -> DescribeAppResponse:
        count = len(info.request.containers)
        _log.info("launching app %s: %d replica%s", app.app_id, count, "s" * (count > 1))
        if self._options.durable:
            self._task.save_record(TaskRecord.of(app, self._task.attempt))
        seen = self._scheduler.launch(
            info, should_stop=lambda: self._shutdown.should_stop_launch(app)
        )
        _log.info("app %s runs, its handle is %s", app.app_id, app.handle)
        return seen

    def _go_on(self, app: LaunchedApp, seen: DescribeAppResponse) -> Any:  # noqa: ANN401 - any JSON
        self._publish(app, seen)
        if not self._options.wait_for_completion:
            return app.handle
        if not self._options.deferrable:
            ended = attach.watch(self._engine, app.app_id, {}, self._shutdown.should_stop, TaskLog)
            return self._conclude(app, ended)
        if isinstance(next_step(seen), Finish):
            return self._collect(app, {})
        return self._defer(app, {})

    def _publish(self, app: LaunchedApp, seen: DescribeAppResponse) -> None:
        """Tell Airflow which app this task has; so does every process of it, whoever launched."""
        self._task.push(HANDLE_KEY, app.handle)
        self._task.push(APP_ID_KEY, app.app_id)
        ids = {f"{one.role}/{one.id}": one.container_id for one in replicas_of(seen)}
        self._task.push(CONTAINERS_KEY, ids)
        found = {role.name: self._engine.find_image(role.image) for role in seen.roles}
        images = {role.name: found[role.name] or role.image for role in seen.roles}
        self._task.push(IMAGES_KEY, images)

    def _defer(self, app: LaunchedApp, cursors: Cursors) -> NoReturn:
        """Free the worker slot; a task that a user has ended meanwhile does not get that far."""
        state = self._task.state(_STATE_S)
        if state not in {"running", UNKNOWN}:
            what = f"the task is {state} by now: app {app.app_id!r} is stopped."
            raise AppCancelledError(what)
        self._shutdown.hand_over(app, cursors)

    def _collect(self, app: LaunchedApp, cursors: Cursors) -> Any:  # noqa: ANN401 - any JSON
        """Write what is left of the logs of an app that has ended, and return its result."""
        ended = attach.look(self._engine, app.app_id, inspect_all=True)
        self._write_rest(ended, cursors)
        return self._conclude(app, ended)

    def _write_rest(self, seen: DescribeAppResponse, cursors: Cursors) -> Cursors:
        return write_rest(
            self._engine,
            seen,
            cursors,
            max_bytes=self._options.log_max_bytes,
            should_stop=self._shutdown.should_stop,
        )

    def _conclude(self, app: LaunchedApp, ended: DescribeAppResponse) -> Any:  # noqa: ANN401 - any JSON
        """Turn the end of the app into the end of the task; report first, remove last."""
        options = self._options
        self._task.push(REPLICAS_KEY, [to_dict(replica) for replica in replicas_of(ended)])
        record = TaskRecord.of(app, self._task.attempt)
        try:
            found = attach.outcome(self._engine, ended, options.result_path, options.secrets())
        except AppFailedError as failed:
            if failed.exit_code in options.skip_on_exit_code:
                raise AirflowSkipException(failed.card) from failed
            if failed.exit_code in options.fail_on_exit_code:
                raise AirflowFailException(failed.card) from failed
            raise
        except ResultError:
            if options.durable:
                self._task.save_record(record.at(RESULT_REJECTED))
            raise
        result = app.handle if options.result_path is None else found
        if options.durable:
            # A process that dies from here on has reported nothing yet, but leaves this.
            self._task.save_record(record.at(SUCCEEDED, result))
        if options.on_finish is not OnFinish.KEEP:
            self._remove(app)
        return result

    def _remove(self, app: LaunchedApp) -> None:
        """Remove the containers of an app that succeeded; that they stay is no failure of it."""
        try:
            lifecycle.delete(self._engine, app.app_id)
        except AirflowTorchXError as why:
            tell_left(app, why)
