"""`TorchXDockerOperator`: one Airflow task runs one TorchX app on Docker."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import conf
from airflow.sdk.exceptions import TaskDeferralError, TaskDeferralTimeout

from airflow_torchx.core.task.arguments import (
    OnFinish,
    OnWorkerShutdown,
    app_template,
    check_conflicts,
    check_result_path,
    exactly_one,
    exit_codes,
    ids_of,
    positive,
    with_own_options,
)
from airflow_torchx.task.lineage import LineageMixin
from airflow_torchx.task.page_link import TorchXAppLink
from airflow_torchx.task.templates import TemplatesMixin
from airflow_torchx.task.tracebacks import without_traceback

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import timedelta
    from pathlib import PurePath

    from airflow.sdk import Context

    from airflow_torchx.core.gpu.demand import GpuDemand
    from airflow_torchx.core.workspace.recipe import SourceRoot
    from airflow_torchx.hooks import TorchXDockerHook
    from airflow_torchx.schedulers.docker_scheduler import DockerScheduler
    from airflow_torchx.specs import AnyApp, AppDef
    from airflow_torchx.task.context import TaskContext
    from airflow_torchx.task.plan import LaunchRequest
    from airflow_torchx.task.runner import AppTask


class TorchXDockerOperator(LineageMixin, TemplatesMixin):
    """Runs a TorchX app on a Docker daemon; the task succeeds if every replica succeeds.

    Example::

        from airflow_torchx.operators import TorchXDockerOperator

        TorchXDockerOperator(
            task_id="train",
            component="dist.ddp",
            component_args=["-j", "2x1", "--script", "train.py"],
            image="pytorch/pytorch:2.9.0-cuda12.8-cudnn9-runtime",
            workspace="code",  # the folder beside the DAG file that contains train.py
            retries=1,  # the retry reattaches to the running app
        )

    It launches all replicas or none. It stops the app if a user ends or clears the task, or if
    ``execution_timeout`` passes. If a process of Airflow dies, the app keeps running and the next
    try reattaches to it.

    It does not retry a failed app; set ``retries``. It does not limit how many apps run at once;
    use a pool. It does not stop an app with ``wait_for_completion=False`` after it was launched.

    Args:
        app: the app: an `AppDef`, also TorchX's, or a mapping in the form of `specs.to_dict`.
        component: name of a component, or ``file.py:function`` relative to the folder of the DAG
            file; used instead of ``app``.
        component_args: command line of the component, as a list or as one string.
        image: image of every role, instead of the role's own.
        env: environment variables of every role; they win over the role's own.
        private_env: secret environment variables of every role: rendered, but never stored, and
            masked in logs.
        env_conn_ids: Airflow connections that every role gets, each as a secret environment
            variable ``AIRFLOW_CONN_<ID>``.
        options: run options, see `core.plan.options.Opts`.
        checkpoint: where the replicas keep checkpoints; the run option of this name.
        checkpoint_policy: the run option of this name.
        workspace: code to lay over the image of every role: a folder relative to the DAG file, a
            URL of Airflow's object storage, or a mapping of such sources to folders.
        torchx_conn_id: connection to the daemon; None for the one that the docker command line
            would use.
        docker_conn_ids: connections of type ``docker``, one for each registry that needs a login.
        wait_for_completion: False ends the task once the app runs; the containers stay.
        deferrable: wait in the triggerer instead of a worker slot; logs are copied at the end.
        durable: reattach to the app of an earlier try, and record what a later try needs.
        on_finish: ``delete`` removes the containers, ``keep`` keeps them, ``keep_failed`` keeps
            those of an app that did not succeed.
        on_worker_shutdown: ``defer`` moves the wait to the triggerer, ``keep`` leaves the app to
            the next try if there is one, ``stop`` stops it.
        result_path: absolute path of a JSON file in replica 0 of the first role, 1 MiB at most; its
            content becomes the return value of the task. It may have TorchX's macros.
        skip_on_exit_code: exit codes of the first worker or replica to fail that skip the task.
        fail_on_exit_code: exit codes of the first worker or replica to fail that fail the task
            without a retry.
        log_max_mb: when output was not followed live, copy at most this many MB per replica, from
            the end.
        logging_interval: time between two copies of the logs while deferred, in seconds or as a
            timedelta; None copies them at the end.

    Returns:
        The JSON at ``result_path``, else the app handle. It also pushes the XComs ``app_handle``,
        ``app_id``, ``container_ids``, ``image_ids``, ``torchx_app`` and, at the end, ``replicas``.

    Raises:
        InvalidAppError, ComponentError, WorkspaceError, ImageBuildError, ImagePushError,
            ImagePullError, LaunchError: the app was not launched; nothing is left on the daemon.
        AppFailedError, or its subclasses OutOfMemoryError and ReplicaLostError: the app failed; the
            message has the first replica to fail, its last lines, and the state of all replicas.
        AppCancelledError: another client cancelled the app, or the task was ended.
        ResultError: the app succeeded, but the file at ``result_path`` cannot be used.
        AirflowRequestError, EngineUnreachableError, WorkerShutdownError: the next try reattaches to
            the app, if there is one.
    """

    template_fields: Sequence[str] = (
        "app",
        "component",
        "component_args",
        "image",
        "env",
        "env_conn_ids",
        "options",
        "checkpoint",
        "checkpoint_policy",
        "workspace",
        "torchx_conn_id",
        "docker_conn_ids",
        "result_path",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {
        "app": "json",
        "component_args": "json",
        "env": "json",
        "options": "json",
        "workspace": "json",
    }
    ui_color = "#fbe3dc"
    operator_extra_links = (TorchXAppLink(),)

    _killed_at: float | None = None

    def __init__(  # noqa: PLR0913, PLR0915 - Airflow's way to configure a task
        self,
        *,
        app: AnyApp | Mapping[str, Any] | None = None,
        component: str | None = None,
        component_args: Sequence[str] | str = (),
        image: str | None = None,
        env: Mapping[str, str] | None = None,
        private_env: Mapping[str, str] | None = None,
        env_conn_ids: Sequence[str] = (),
        options: Mapping[str, Any] | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        checkpoint_policy: str | None = None,
        workspace: str | PurePath | Mapping[str, str] | None = None,
        torchx_conn_id: str | None = None,
        docker_conn_ids: Sequence[str] = (),
        wait_for_completion: bool = True,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        durable: bool = True,
        on_finish: OnFinish | str = OnFinish.DELETE,
        on_worker_shutdown: OnWorkerShutdown | str = OnWorkerShutdown.DEFER,
        result_path: str | os.PathLike[str] | None = None,
        skip_on_exit_code: int | Sequence[int] = (),
        fail_on_exit_code: int | Sequence[int] = (),
        log_max_mb: float = 64,
        logging_interval: float | timedelta | None = None,
        **kwargs: Any,  # noqa: ANN401 - BaseOperator's own arguments
    ) -> None:
        if type(self).app_def is TorchXDockerOperator.app_def:
            exactly_one(app=app, component=component)
        check_conflicts(
            wait_for_completion=wait_for_completion,
            durable=durable,
            on_worker_shutdown=on_worker_shutdown,
            result_path=result_path,
            skip_on_exit_code=skip_on_exit_code,
            fail_on_exit_code=fail_on_exit_code,
        )
        if isinstance(result_path, os.PathLike):
            result_path = os.fspath(result_path)
        check_result_path(result_path, is_rendered=False)
        super().__init__(**kwargs)
        self.app = app if app is None else app_template(app)
        self.component = component
        self.component_args = component_args
        self.image = image
        self.env = env
        self.env_conn_ids = env_conn_ids
        self.options = options
        self.checkpoint = None if checkpoint is None else os.fspath(checkpoint)
        self.checkpoint_policy = checkpoint_policy
        self.workspace = workspace
        self.torchx_conn_id = torchx_conn_id
        self.docker_conn_ids = docker_conn_ids
        self.result_path = result_path
        self.private_env = private_env
        self.wait_for_completion = wait_for_completion
        self.deferrable = deferrable
        self.durable = durable
        self.on_finish = OnFinish.parse(on_finish)
        self.on_worker_shutdown = OnWorkerShutdown.parse(on_worker_shutdown)
        self.skip_on_exit_code = exit_codes("skip_on_exit_code", skip_on_exit_code)
        self.fail_on_exit_code = exit_codes("fail_on_exit_code", fail_on_exit_code)
        self.log_max_mb = positive("log_max_mb", log_max_mb)
        self.logging_interval = (
            None if logging_interval is None else positive("logging_interval", logging_interval)
        )

    @property
    def hook(self) -> TorchXDockerHook:
        """The hook that connects to the daemon."""
        from airflow_torchx.hooks import TorchXDockerHook

        return TorchXDockerHook(self.torchx_conn_id, ids_of(self.docker_conn_ids))

    @without_traceback
    def execute(self, context: Context) -> Any:  # noqa: ANN401 - any JSON
        """Launch the app or reattach to it, and wait for it."""
        return self._execute(context)

    def execute_complete(self, context: Context, event: Mapping[str, Any], **stored: Any) -> Any:  # noqa: ANN401 - any JSON
        """Continue after the trigger fired: with the app, or with the launch once it has GPUs.

        ``stored`` is the `Deferral` that this task, perhaps of another release, stored.
        """
        from airflow_torchx.core.state.trigger_event import OF_GPUS
        from airflow_torchx.core.task.record import Deferral

        deferral = Deferral.parse(stored)
        # It waited for GPUs, also if another release has stored for how many, or `dag.test()` has
        # dropped what was stored.
        if "gpu_demand" in stored or event.get("reason") in OF_GPUS:
            return self._execute(context, event, deferral.gpu_demand)
        with self._task_of(context, is_resumed=True) as (task, _, _):
            return task.resume(event, deferral)

    def _execute(
        self,
        context: Context,
        event: Mapping[str, Any] | None = None,
        demand: GpuDemand | None = None,
    ) -> Any:  # noqa: ANN401 - any JSON
        self._bind(context)
        with self._task_of(context, is_resumed=event is not None) as (task, scheduler, secrets):
            if event is not None:
                task.gpu_wait.resume(event, demand)
            # Do not hold the request in a name: it has the list of the workspace's files.
            return task.run(self._request(scheduler, secrets))

    def _request(self, scheduler: DockerScheduler, secrets: Mapping[str, str]) -> LaunchRequest:
        from airflow_torchx.task.app import checked_with
        from airflow_torchx.task.final_failure import checked_arguments
        from airflow_torchx.task.plan import requested

        with checked_arguments():
            check_result_path(self.result_path)
            root, options = self._source_root(), self._run_options()
            app = checked_with(self.app_def, lambda: scheduler.options(options))
            return requested(scheduler, app, options, secrets, root, self._is_killed)

    @without_traceback
    def resume_execution(
        self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context
    ) -> Any:  # noqa: ANN401 - any JSON
        """Stop the app if its trigger timed out, or was lost and no try is left."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except (TaskDeferralTimeout, TaskDeferralError):
            with self._task_of(context, is_resumed=True):
                raise

    def on_kill(self) -> None:
        """Ask the task to stop; it then stops, keeps or hands over its app.

        Runs inside a signal handler: it takes no lock and makes no request, because the interrupted
        thread may hold any lock.
        """
        self._killed_at = time.monotonic()

    def dry_run(self) -> None:
        """Print the plan of a launch as YAML, with secrets masked; create nothing."""
        with self.hook.planner() as scheduler:
            app = self.app_def()
            env, waits = self.private_env or {}, self.wait_for_completion
            context = scheduler.new_context(
                f"{app.name}-dry-run", private_env=env, is_waited_for=waits, uploads=waits
            )
            options, root = self._run_options(), self._source_root()
            info = scheduler.submit_dryrun(app, options, context=context, source_root=root)
        print(info)  # noqa: T201 - a dry run prints

    def _run_options(self) -> Mapping[str, Any] | None:
        own = {"checkpoint": self.checkpoint, "checkpoint_policy": self.checkpoint_policy}
        return with_own_options(self.options, own)

    def _bind(self, context: Context) -> None:
        """Take values from the context before the app is described; a subclass may need some."""

    def app_def(self) -> AppDef:
        """Return the app that the arguments describe."""
        from airflow_torchx.task.app import app_of, with_overrides

        args, root, has_image = self.component_args, self._source_root(), bool(self.image)
        app = app_of(self.task_id, self.app, self.component, args, root, has_image=has_image)
        return with_overrides(app, image=self.image, env=self.env or {}, workspace=self.workspace)

    @contextmanager
    def _task_of(
        self, context: Context, *, is_resumed: bool = False
    ) -> Iterator[tuple[AppTask, DockerScheduler, Mapping[str, str]]]:
        """Connect to the daemon; stop apps that no try may use if the task fails before its app."""
        from airflow_torchx.task.context import TaskContext, known_secrets
        from airflow_torchx.task.options import TaskOptions
        from airflow_torchx.task.runner import AppTask

        self._killed_at = None
        task = TaskContext(context, is_resumed=is_resumed)
        self._pushed = task.pushed
        secrets: dict[str, str] = {}
        with self._connect(task) as scheduler:
            options = TaskOptions(
                torchx_conn_id=self.hook.torchx_conn_id,
                docker_conn_ids=tuple(self.hook.docker_conn_ids),
                wait_for_completion=self.wait_for_completion,
                deferrable=self.deferrable,
                durable=self.durable,
                on_finish=self.on_finish,
                on_worker_shutdown=self.on_worker_shutdown,
                result_path=self.result_path,
                skip_on_exit_code=self.skip_on_exit_code,
                fail_on_exit_code=self.fail_on_exit_code,
                log_max_bytes=int(self.log_max_mb * 1e6),
                logging_interval_s=self.logging_interval,
                execution_timeout=self.execution_timeout,
                secrets=partial(known_secrets, scheduler, self._run_options, secrets),
            )
            app_task = AppTask(task, scheduler, options, lambda: self._killed_at)
            with app_task.shutdown.guard_earlier():
                secrets |= self._secrets(context)
                yield app_task, scheduler, secrets

    def _connect(self, task: TaskContext) -> DockerScheduler:
        """Connect to the daemon, and wait through an outage if an app may be there."""
        from airflow_torchx.runtime.outage import patiently
        from airflow_torchx.task.keeping import is_kept
        from airflow_torchx.task.leftovers import warn_leftovers

        if not task.may_have_app:
            return self.hook.get_conn()
        try:
            return patiently(self.hook.get_conn, self._is_killed)
        except BaseException as error:
            if not is_kept(task, error, is_durable=self.durable, killed_at=self._killed_at)[0]:
                warn_leftovers(task.attempt, error, self.hook.docker_cli())
            raise

    def _is_killed(self) -> bool:
        return self._killed_at is not None

    def _source_root(self) -> SourceRoot | None:
        """Return the folder of the DAG file; its path may change with each bundle version."""
        from airflow_torchx.task.app import source_root

        if not self.has_dag():  # type: ignore[no-untyped-call]
            return None
        return source_root(self.dag.fileloc, self.dag.relative_fileloc)

    def _secrets(self, context: Context) -> dict[str, str]:
        """Return the secret environment, and mask its values in logs from now on."""
        from jinja2 import TemplateError

        from airflow_torchx.core.plan import option_values
        from airflow_torchx.errors import InvalidAppError, Problem
        from airflow_torchx.task.context import secret_env

        private, rendered, name = self.private_env or {}, {}, ""
        secret_env({name: str(value) for name, value in private.items()}, ())
        try:
            for name, value in private.items():
                rendered[name] = self.render_text(value, context)
            checked = option_values.env(rendered)
        except (TemplateError, ValueError) as error:
            fix = str(error)
            if isinstance(error, TemplateError):
                # Its text has parts of the template, which no mask knows.
                shown = option_values.shown_env_name(name)
                fix = f"correct the template of {shown!r} ({type(error).__name__})"
            problem = Problem("private_env", "it is not accepted", fix)
            raise InvalidAppError([problem], subject=f"task {self.task_id!r}") from None
        return secret_env(checked, ids_of(self.env_conn_ids))
