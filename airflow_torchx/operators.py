"""`TorchXDockerOperator`: one Airflow task runs one TorchX app on Docker."""

from __future__ import annotations

import posixpath
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Final

from airflow.sdk import BaseOperator

from airflow_torchx.core import labels
from airflow_torchx.core.identity import TaskAttempt
from airflow_torchx.core.workspace import Place, with_workspace
from airflow_torchx.errors import AirflowTorchXError, AppCancelledError
from airflow_torchx.hooks import TorchXDockerHook
from airflow_torchx.parallel import Stopped
from airflow_torchx.task_app import app_of, laid_over

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.sdk import Context

    from airflow_torchx.schedulers.docker_scheduler import AppDryRunInfo, DockerScheduler
    from airflow_torchx.specs import AppDef

#: XCom key of the app handle.
HANDLE_KEY: Final = "app_handle"
# Airflow kills a process 5 s after it asked its task to end, and then nobody removes anything.
_KILL_GRACE_S: Final = 3.0


class OnFinish(StrEnum):
    """What becomes of an app's containers when the task is over."""

    DELETE = "delete"
    KEEP = "keep"
    KEEP_FAILED = "keep_failed"


class TorchXDockerOperator(BaseOperator):
    """Runs a TorchX app on a Docker daemon, and succeeds if every replica does.

    All replicas are launched or none. Their logs are written live into the task log. When the task
    is killed, fails or runs out of time, the app is stopped. It holds its worker slot meanwhile.

    Args:
        app: what to run: an `AppDef`, or a mapping in the form of `specs.to_dict`.
        component: instead of ``app``, the name of a component, like ``dist.ddp``.
        component_args: its command line, as a list or as one text.
        image: image of every role, instead of its own.
        env: environment variables of every role, over its own.
        private_env: environment variables of every role whose values are secret: rendered, but
            never stored, logged or shown. They are visible to whoever may inspect the container.
        options: run options, see `core.options.Opts`.
        workspace: code laid over the image of every role that has no workspace of its own: a folder
            (relative to the DAG file's), a URL of Airflow's object storage, or a mapping of such
            sources to folders. The image is built if anything changed, and pushed if the options
            name an ``image_repo``.
        torchx_conn_id: connection to the daemon; None for the one that the docker command line
            would use.
        docker_conn_ids: connections of type ``docker``, one for each registry that needs a login.
        wait_for_completion: False ends the task as soon as the app runs; the app goes on and its
            containers stay.
        on_finish: ``delete`` removes the containers, ``keep`` leaves all, ``keep_failed`` leaves
            those of an app that did not succeed.
        result_path: file in the container of replica 0 of the first role; the JSON in it, 1 MiB at
            most, becomes the task's return value.

    Returns:
        The JSON at ``result_path``, else the app handle. The handle is always in XCom under
        ``app_handle``.

    Raises:
        InvalidAppError, ComponentError, WorkspaceError: before anything is created.
        ImageBuildError, ImagePushError: before a container is created.
        ImagePullError, LaunchError: nothing was left behind.
        AppFailedError: with all replicas, the first failure and its last lines.
        AppCancelledError: somebody else cancelled the app, or the task was killed.
    """

    template_fields: Sequence[str] = (
        "app",
        "component",
        "component_args",
        "image",
        "env",
        "options",
        "workspace",
        "torchx_conn_id",
        "docker_conn_ids",
        "result_path",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {
        "component_args": "json",
        "env": "json",
        "options": "json",
        "workspace": "json",
    }
    ui_color = "#fbe3dc"

    _killed = False

    def __init__(  # noqa: PLR0913 - Airflow's way to configure a task
        self,
        *,
        app: AppDef | Mapping[str, Any] | None = None,
        component: str | None = None,
        component_args: Sequence[str] | str = (),
        image: str | None = None,
        env: Mapping[str, str] | None = None,
        private_env: Mapping[str, str] | None = None,
        options: Mapping[str, Any] | None = None,
        workspace: str | Mapping[str, str] | None = None,
        torchx_conn_id: str | None = None,
        docker_conn_ids: Sequence[str] = (),
        wait_for_completion: bool = True,
        on_finish: OnFinish | str = OnFinish.DELETE,
        result_path: str | None = None,
        **kwargs: Any,  # noqa: ANN401 - BaseOperator's own arguments
    ) -> None:
        if on_finish not in list(OnFinish):
            choices = ", ".join(OnFinish)
            raise ValueError(f"on_finish={on_finish!r} does not exist; choose from {choices}")
        if result_path is not None and not wait_for_completion:
            raise ValueError(
                "result_path needs wait_for_completion=True: nobody waits for the file"
            )
        super().__init__(**kwargs)
        self.app = app
        self.component = component
        self.component_args = component_args
        self.image = image
        self.env = env
        self.options = options
        self.workspace = workspace
        self.torchx_conn_id = torchx_conn_id
        self.docker_conn_ids = docker_conn_ids
        self.result_path = result_path
        self.private_env = private_env
        self.wait_for_completion = wait_for_completion
        self.on_finish = OnFinish(on_finish)

    @property
    def hook(self) -> TorchXDockerHook:
        """The way to the daemon."""
        return TorchXDockerHook(self.torchx_conn_id, self.docker_conn_ids)

    def execute(self, context: Context) -> Any:  # noqa: ANN401 - any JSON
        """Launch the app and see it through."""
        self._killed = False
        with self.hook.get_conn() as scheduler:
            info = self._plan(context, scheduler)
            try:
                result = self._run(context, scheduler, info)
            except Stopped:
                self._abandon(scheduler, info)
                what = f"the task was killed: app {info.request.app_id!r} was stopped."
                raise AppCancelledError(what) from None
            except BaseException:
                self._abandon(scheduler, info)
                raise
            if self.wait_for_completion and self.on_finish is not OnFinish.KEEP:
                self._clean_up(scheduler, info)
            return result

    def on_kill(self) -> None:
        """Ask the task to stop its app.

        Runs inside a signal handler: it takes no lock and makes no call, because the thread it
        interrupts may hold any lock.
        """
        self._killed = True

    def dry_run(self) -> None:
        """Print what a launch would do, as YAML with secrets masked; creates nothing."""
        from airflow_torchx.schedulers.docker_scheduler import DockerScheduler

        with DockerScheduler(self.torchx_conn_id or "torchx") as scheduler:
            info = scheduler.submit_dryrun(
                self.app_def(), self.options, private_env=self.private_env, place=self._place()
            )
        print(info)  # noqa: T201 - a dry run prints

    def app_def(self) -> AppDef:
        """Return the app that the arguments mean.

        Raises:
            ComponentError: not exactly one of ``app`` and ``component`` is given, there is no such
                component, or it does not take these arguments.
            InvalidAppError: ``app`` is a mapping with wrong fields.
            WorkspaceError: ``workspace`` names no sources.
        """
        app = app_of(
            self.task_id, app=self.app, component=self.component, words=self.component_args
        )
        return with_workspace(laid_over(app, image=self.image, env=self.env or {}), self.workspace)

    def _place(self) -> Place | None:
        """Return the folder of the DAG file; its path may be another one after each commit."""
        if not self.has_dag():  # type: ignore[no-untyped-call]
            return None
        file = self.dag.fileloc
        return Place(posixpath.dirname(file), posixpath.dirname(self.dag.relative_fileloc or file))

    def _plan(self, context: Context, scheduler: DockerScheduler) -> AppDryRunInfo:
        ti = context["ti"]
        attempt = TaskAttempt(
            dag_id=ti.dag_id,
            run_id=ti.run_id,
            task_id=ti.task_id,
            map_index=-1 if ti.map_index is None else ti.map_index,
            epoch=ti.max_tries,
            try_number=ti.try_number,
        )
        info = scheduler.submit_dryrun(
            self._built(scheduler),
            self.options,
            app_id=attempt.app_id,
            private_env=self._secrets(context),
            labels=attempt.labels,
        )
        self.log.info("::group::Plan of app %s", info.request.app_id)
        self.log.info("%s", info)
        self.log.info("::endgroup::")
        for warning in info.request.warnings:
            self.log.warning("%s", warning)
        return info

    def _built(self, scheduler: DockerScheduler) -> AppDef:
        """Return the app with its workspaces as images."""
        app = self.app_def()
        if not any(role.workspace for role in app.roles):
            return app
        self.log.info("::group::Workspace image")
        try:
            return scheduler.build(
                app, self.options, place=self._place(), should_stop=lambda: self._killed
            )
        except Stopped:
            what = "the task was killed while its workspace image was built: nothing was launched."
            raise AppCancelledError(what) from None
        finally:
            self.log.info("::endgroup::")

    def _secrets(self, context: Context) -> dict[str, str]:
        from airflow.sdk.log import mask_secret

        secrets = {
            name: str(self.render_template(value, context))
            for name, value in (self.private_env or {}).items()
        }
        for value in secrets.values():
            mask_secret(value)
        return secrets

    def _run(self, context: Context, scheduler: DockerScheduler, info: AppDryRunInfo) -> Any:  # noqa: ANN401 - any JSON
        from airflow_torchx import task_run

        plan = info.request
        count = len(plan.containers)
        self.log.info("launching app %s: %d replica%s", plan.app_id, count, "s" * (count > 1))
        scheduler.schedule(info, should_stop=lambda: self._killed)
        self.log.info("app %s runs, its handle is %s", plan.app_id, plan.handle)
        context["ti"].xcom_push(HANDLE_KEY, plan.handle)
        if not self.wait_for_completion:
            return plan.handle
        app = task_run.watch(scheduler.engine, plan, should_stop=lambda: self._killed)
        result = task_run.outcome(scheduler.engine, plan, app, self.result_path)
        return plan.handle if self.result_path is None else result

    def _abandon(self, scheduler: DockerScheduler, info: AppDryRunInfo) -> None:
        """Stop what this task launched, whatever state that is in; never hides the first error."""
        grace = info.cfg.stop_grace_s
        if self._killed:
            grace = min(grace, _KILL_GRACE_S)
        try:
            scheduler.abandon(info, grace_s=grace, keep=self.on_finish is not OnFinish.DELETE)
        except AirflowTorchXError as why:
            self._tell_left(info, why)

    def _clean_up(self, scheduler: DockerScheduler, info: AppDryRunInfo) -> None:
        """Remove the containers of an app that succeeded; that they stay is no failure of it."""
        try:
            scheduler.delete(info.request.app_id)
        except AirflowTorchXError as why:
            self._tell_left(info, why)

    def _tell_left(self, info: AppDryRunInfo, why: AirflowTorchXError) -> None:
        app_id = info.request.app_id
        self.log.warning(
            "containers of app %s may be left: %s\nRemove them with:\n"
            "  docker rm -f $(docker ps -aq --filter label=%s=%s)",
            app_id,
            why,
            labels.APP_ID,
            app_id,
        )
