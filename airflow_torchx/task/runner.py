"""Runs the app of a task: reattaches or launches, waits, and returns the result."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import structlog
from airflow.sdk.exceptions import AirflowTaskTimeout

from airflow_torchx.airflow_compat import masked
from airflow_torchx.concurrency.parallel import StopRequested, call_until
from airflow_torchx.core.plan.conflicts import result_conflict
from airflow_torchx.core.plan.job_plan import requested_gpus
from airflow_torchx.core.plan.redact import redact
from airflow_torchx.core.state.describe import has_ended
from airflow_torchx.core.state.failure_rules import failure_action
from airflow_torchx.core.state.rule_matches import RuleMatches
from airflow_torchx.core.state.snapshot import SNAPSHOT_KEY
from airflow_torchx.core.task.arguments import OnFinish
from airflow_torchx.core.task.outlet_extra import EXTRA_KEY, outlet_extra
from airflow_torchx.core.task.reconcile import reconcile
from airflow_torchx.core.task.record import (
    RESULT_REJECTED,
    SUCCEEDED,
    Deferral,
    LaunchedApp,
    TaskRecord,
)
from airflow_torchx.errors import (
    AirflowRequestError,
    AirflowTorchXError,
    AppCancelledError,
    AppFailedError,
    EngineUnreachableError,
    InvalidAppError,
    ResultError,
)
from airflow_torchx.runtime import attach, lifecycle, root_cause
from airflow_torchx.runtime.gpus import task_places
from airflow_torchx.runtime.gpus.queue import MustWait
from airflow_torchx.runtime.outage import patiently
from airflow_torchx.runtime.phases import observed_by
from airflow_torchx.runtime.placing import docker_cli
from airflow_torchx.specs import AppState
from airflow_torchx.task import reattach
from airflow_torchx.task.context import (
    APP_ID_KEY,
    CONTAINERS_KEY,
    HANDLE_KEY,
    IMAGES_KEY,
    REPLICAS_KEY,
    TaskContext,
)
from airflow_torchx.task.deferral import save_at_s
from airflow_torchx.task.final_failure import raise_as_asked, without_retry
from airflow_torchx.task.gpu_wait import TaskGpuWait
from airflow_torchx.task.leftovers import warn_leftovers
from airflow_torchx.task.log import TaskLog, write_rest
from airflow_torchx.task.page_link import LINK_KEY, page_path
from airflow_torchx.task.plan import prepared
from airflow_torchx.task.shutdown import TaskShutdown
from airflow_torchx.task.snapshots import resumed
from airflow_torchx.task.xcoms import container_ids, final_xcoms, replicas_for_xcom

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow_torchx.core.engine.containers import ContainerRow
    from airflow_torchx.core.task.reconcile import Decision
    from airflow_torchx.runtime.gang_log import Cursors
    from airflow_torchx.schedulers.docker_scheduler import DockerScheduler
    from airflow_torchx.schedulers.dry_run import AppDryRunInfo
    from airflow_torchx.specs import DescribeAppResponse
    from airflow_torchx.task.options import TaskOptions
    from airflow_torchx.task.plan import LaunchRequest

_log = structlog.get_logger("airflow_torchx.task")
_P = ParamSpec("_P")
_T = TypeVar("_T")


class AppTask:
    """Runs the app of one task in this process; see `TaskShutdown` for ``killed_at``."""

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
        self._telemetry = task.telemetry
        self._telemetry.connect(options.torchx_conn_id)
        #: Stops, keeps or hands over the app.
        self.shutdown = TaskShutdown(task, scheduler.engine, options, killed_at)
        #: Continues a wait for GPUs of an earlier process.
        self.gpu_wait = TaskGpuWait(
            task, scheduler.engine, self.shutdown, is_durable=options.durable
        )

    def run(self, request: LaunchRequest) -> Any:  # noqa: ANN401 - any JSON
        """Reattach to the app of an earlier try, or launch one; return the result.

        Only a launch looks up images and facts about the daemon, and builds images.
        """
        checked = request.checked
        if problem := result_conflict(self._options.result_path, checked.app, checked.opts):
            invalid = InvalidAppError([problem], subject=f"app {checked.app.name!r}")
            raise without_retry(invalid)
        config_hash = request.config_hash
        decision = self._reconciled(request)
        if decision.recorded is not None:
            return self._returned(decision.recorded.result)
        if decision.reattach is not None:
            app = decision.reattach.launched_app
            _log.info("reattaching to app %s of an earlier try", app.app_id)
            self._telemetry.reattached()
            with self.shutdown.guard(app):
                return self._follow(app, self._read(attach.look, self._engine, app.app_id))
        info = prepared(self._task, self._scheduler, request, self._options)
        app = LaunchedApp.of(info.request, info.cfg, config_hash)
        with self.shutdown.guard(app):
            self.shutdown.launching(app)
            seen = self._launch(info, app)
            # The app may run for days: do not hold the list of its workspace's files meanwhile.
            del request, checked, info
            return self._follow(app, seen)

    def _reconciled(self, request: LaunchRequest) -> Decision:
        """Look up what earlier tries left, and remove what this one does not use."""
        attempt, durable = self._task.attempt, self._options.durable
        records: list[TaskRecord | None] = [None]
        loads = [lambda: records.append(self._task.load_record())] if durable else []
        with self._task.meanwhile(*loads):
            apps, places = self._read(reattach.found, self._engine, attempt)
        decision = reconcile(attempt, request.config_hash if durable else None, apps, records[-1])
        if decision.recorded is not None:
            _log.info("returning the recorded result of app %s", decision.recorded.app_id)
            self._push_recorded(decision.recorded)
        may_wait = decision.launches and requested_gpus(request.checked.app) > 0
        self._clean_up(decision, places, may_wait=may_wait)
        return decision

    def resume(self, event: Mapping[str, Any], deferral: Deferral) -> Any:  # noqa: ANN401 - any JSON
        """Continue after a deferral; an app that is not in ``deferral`` is looked up."""
        reason, message = event.get("reason"), event.get("message") or ""
        if reason == "unreachable" and self._task.retry_left:
            raise EngineUnreachableError(message, fix="The next try reattaches to the app.")
        app = deferral.app or self._read(reattach.newest, self._engine, self._task.attempt)
        self.shutdown.snapshots = resumed(self._task, self._options.secrets, event, app.handle)
        cursors = deferral.cursors
        with self.shutdown.guard(app):
            self.shutdown.launched(app)
            seen = self._read(attach.look, self._engine, app.app_id)
            self._telemetry.resume_wait(seen, deferral.wait_since_s)
            self.shutdown.uploads.begin(seen, deferral.upload_at_s)
            if has_ended(seen):
                self._telemetry.end_wait(seen)
                # The process that deferred has pushed these XComs.
                self._task.pushed |= self._identity(app.handle, seen)
                return self._collect(app, seen, cursors)
            cursors = self._write_rest(seen, cursors)
            if reason == "timeout":
                raise AirflowTaskTimeout
            if reason == "unreachable":
                raise EngineUnreachableError(message)
            self.shutdown.uploads.flush(self.shutdown.should_stop)
            return self.shutdown.defer(app, cursors)

    def _clean_up(
        self, decision: Decision, places: Sequence[ContainerRow], *, may_wait: bool
    ) -> None:
        """Stop apps of earlier tries, and remove their places in the queue for GPUs.

        If this process is killed meanwhile, a reaper does that; `TaskShutdown.guard_earlier` starts
        it.
        """

        def clean_up() -> None:
            apps, keep = decision.clean_up, self._options.keep
            reattach.clean_up(self._engine, apps, keep=keep)
            self._read(
                task_places.discard_markers,
                self._engine,
                self._task.attempt,
                places,
                may_wait=may_wait,
                should_stop=self.shutdown.should_stop,
            )

        try:
            call_until(clean_up, self.shutdown.should_stop)
        except StopRequested:
            what = "the task was asked to end while it stopped apps of its earlier tries."
            raise AppCancelledError(what, fix="Clear the task to run it again.") from None

    def _push_recorded(self, record: TaskRecord) -> None:
        """Push the XComs of an app that has succeeded, and remove it unless it is kept."""
        seen = self._read(lifecycle.observe, self._engine, record.app_id, inspect_all=True)
        if seen is None:
            self._push({HANDLE_KEY: record.handle, APP_ID_KEY: record.app_id})
            return
        self._push(self._identity(record.handle, seen) | {REPLICAS_KEY: replicas_for_xcom(seen)})
        if self._options.on_finish is not OnFinish.KEEP:
            self._remove(record.app_id)

    def _launch(self, info: AppDryRunInfo, app: LaunchedApp) -> DescribeAppResponse:
        count = len(info.request.containers)
        _log.info("launching app %s: %d replica%s", app.app_id, count, "s" * (count > 1))
        self._telemetry.name_app(app.app_id, [role.name for role in info.app.roles], count)
        timeout = self._options.execution_timeout
        if timeout is not None and app.checkpoint_s >= timeout.total_seconds():
            _log.warning(
                "checkpoint_before_timeout_s (%g) is not less than execution_timeout (%s): the"
                " replicas are asked to save after it; raise the timeout, or lower the option",
                app.checkpoint_s,
                timeout,
            )
        record = TaskRecord.of(app, self._task.attempt)
        saves = [partial(self._task.save_record, record)] if self._options.durable else []
        should_stop = partial(self.shutdown.should_stop_launch, app)
        own = info.request.containers[0].labels
        before_start = self.shutdown.uploads.fetch_before(own, should_stop)
        try:
            with (
                observed_by(self._telemetry),
                self._telemetry.phase("launch"),
                self._task.meanwhile(*saves),
            ):
                seen = self._scheduler.launch(
                    info,
                    waiting="elsewhere" if self._options.deferrable else "resumable",
                    should_stop=should_stop,
                    before_start=before_start,
                    has_reaper=True,
                )
        except MustWait as wait:
            self.gpu_wait.defer(app, wait)
        self._telemetry.launched()
        _log.info("app %s has started; its handle is %s", app.app_id, app.handle)
        return seen

    def _follow(self, app: LaunchedApp, seen: DescribeAppResponse) -> Any:  # noqa: ANN401 - any JSON
        self.shutdown.launched(app)
        self._telemetry.begin_wait(seen)
        self.shutdown.uploads.begin(seen)
        self.shutdown.snapshots.handle = app.handle
        identity = self._identity(app.handle, seen)
        identity[SNAPSHOT_KEY] = self.shutdown.snapshots.make(seen)
        if self._options.wait_for_completion and not self._options.deferrable:
            pushes = (partial(self._task.push, key, value) for key, value in identity.items())
            with (
                self._task.meanwhile(*pushes) as check,
                self._telemetry.phase("wait") as note,
            ):

                def should_stop() -> bool:
                    check()
                    self.shutdown.uploads.check()
                    return self.shutdown.should_stop()

                ended = attach.watch(
                    self._engine,
                    seen,
                    {},
                    should_stop,
                    TaskLog,
                    save_at_s=save_at_s(self._task, self._options, app),
                    usage=self.shutdown.snapshots.usage,
                    on_look=self.shutdown.snapshots.look,
                    secrets=self._options.secrets(),
                )
                note(ended.state)
            with self._telemetry.phase("collect", state=ended.state):
                return self._conclude(app, ended)
        self._push(identity)
        if not self._options.wait_for_completion:
            return self._returned(app.handle)
        if has_ended(seen):
            return self._collect(app, seen, {})
        return self.shutdown.defer(app, {})

    def _identity(self, handle: str, seen: DescribeAppResponse) -> dict[str, object]:
        """Return the XComs that name an app, its containers and its images."""
        find = self._engine.find_image
        images = {role.name: self._read(find, role.image) or role.image for role in seen.roles}
        return {
            HANDLE_KEY: handle,
            APP_ID_KEY: seen.app_id,
            CONTAINERS_KEY: container_ids(seen),
            IMAGES_KEY: images,
            LINK_KEY: page_path(self._task.attempt),
        }

    def _read(self, request: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        return patiently(partial(request, *args, **kwargs), self.shutdown.should_stop)

    def _push(self, values: Mapping[str, object]) -> None:
        for key, value in values.items():
            self._task.push(key, value)

    def _collect(self, app: LaunchedApp, seen: DescribeAppResponse, cursors: Cursors) -> Any:  # noqa: ANN401 - any JSON
        """Write the rest of the logs of an app that has ended, and return its result."""
        self.shutdown.has_succeeded = seen.state is AppState.SUCCEEDED
        with self._telemetry.phase("collect", state=seen.state):
            ended = self._read(attach.inspected, self._engine, seen)
            matches = RuleMatches(root_cause.rule_search(ended), cursors)
            self._write_rest(ended, cursors, matches)
            return self._conclude(app, self.shutdown.snapshots.usage.mark(matches.mark(ended)))

    def _write_rest(
        self, seen: DescribeAppResponse, cursors: Cursors, matches: RuleMatches | None = None
    ) -> Cursors:
        return write_rest(
            self._engine,
            seen,
            cursors,
            max_bytes=self._options.log_max_bytes,
            should_stop=self.shutdown.should_stop,
            matches=matches,
        )

    def _conclude(self, app: LaunchedApp, ended: DescribeAppResponse) -> Any:  # noqa: ANN401 - any JSON
        """End the task as the app ended: save the record first, remove the app last."""
        options = self._options
        record = TaskRecord.of(app, self._task.attempt)
        self.shutdown.has_succeeded = ended.state is AppState.SUCCEEDED
        secrets, should_stop = options.secrets(), self.shutdown.should_stop
        self.shutdown.uploads.finish(should_stop, has_succeeded=self.shutdown.has_succeeded)
        ended = root_cause.diagnosed(self._engine, ended, secrets, should_stop)
        self._telemetry.finished(ended)
        try:
            found = attach.outcome(self._engine, ended, options.result_path, secrets, should_stop)
        except AirflowTorchXError as failed:
            try:
                self._push_end(ended, can_ask=not isinstance(failed, EngineUnreachableError))
            except AirflowRequestError as error:
                # The task must fail with the error of its app.
                _log.warning("%s", masked(str(error)))
            self._raise_for(failed, record, failure_action(ended))
            raise
        result = app.handle if options.result_path is None else found
        if options.durable:
            # If this process dies before it reports, the next try returns the recorded result.
            self._task.save_record(record.at(SUCCEEDED, result))
        self._push_end(ended)
        if options.on_finish is not OnFinish.KEEP:
            self._remove(app.app_id)
        return self._returned(result)

    def _returned(self, result: Any) -> Any:  # noqa: ANN401 - any JSON
        """Return the task's result, after its assets' events have got what is known of the app."""
        secrets, has_result = self._options.secrets(), self._options.result_path is not None

        def mask(text: str) -> str:
            return masked(redact(text, secrets))

        extra = outlet_extra(self._task.pushed, result if has_result else None, mask)
        self._task.annotate_assets(EXTRA_KEY, extra)
        return result

    def _push_end(self, ended: DescribeAppResponse, *, can_ask: bool = True) -> None:
        has_lines = ended.state is not AppState.SUCCEEDED
        secrets = self._options.secrets()
        lines = attach.last_lines(self._engine, ended, secrets) if has_lines else []
        if can_ask:
            self.shutdown.snapshots.usage.progress.finish(self._engine, ended)
        last = self.shutdown.snapshots.finish(ended, lines)
        self._push(final_xcoms(ended, last["progress"]))

    def _raise_for(
        self, failed: AirflowTorchXError, record: TaskRecord, action: str | None
    ) -> None:
        """Skip or fail the task for some exit codes and failure rules; record a rejected result."""
        if isinstance(failed, ResultError) and self._options.durable:
            self._task.save_record(record.at(RESULT_REJECTED))
        if isinstance(failed, AppFailedError):
            self._telemetry.failed_by(failed.rule)
            raise_as_asked(failed, self._options, action)

    def _remove(self, app_id: str) -> None:
        """Remove the containers of an app that succeeded; only warn if that fails."""
        try:
            lifecycle.delete(self._engine, app_id)
            self.shutdown.uploads.remove_volume()
        except AirflowTorchXError as error:
            warn_leftovers(app_id, error, docker_cli(self._engine))
