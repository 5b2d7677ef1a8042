"""A Docker scheduler with the names and signatures of TorchX's.

https://pytorch.org/torchx/latest/schedulers/docker.html describes the original.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from airflow_torchx.core.engine import labels
from airflow_torchx.core.engine.protocol import Engine
from airflow_torchx.core.plan.options import DEFAULT_NETWORK, Opts
from airflow_torchx.core.plan.run_opts import runopts
from airflow_torchx.core.state.app_ref import app_ref
from airflow_torchx.errors import AppNotFoundError
from airflow_torchx.runtime import lifecycle, waiting
from airflow_torchx.runtime.replica_log import ReplicaLog, Span, Stream, find_container, lines
from airflow_torchx.schedulers.docker_daemon import ensure_network, has_docker, why_no_docker
from airflow_torchx.schedulers.dry_run import AppDryRunInfo
from airflow_torchx.schedulers.launcher import DockerLauncher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import datetime
    from pathlib import PurePath

    from airflow_torchx.core.plan.job_plan import LaunchContext
    from airflow_torchx.core.workspace.recipe import SourceRoot
    from airflow_torchx.specs import AnyApp, AppDef, DescribeAppResponse, ListAppResponse

__all__ = [
    "LABEL_APP_ID",
    "LABEL_REPLICA_ID",
    "LABEL_ROLE_NAME",
    "LABEL_VERSION",
    "NETWORK",
    "AppDryRunInfo",
    "DockerScheduler",
    "Opts",
    "Stream",
    "create_scheduler",
    "ensure_network",
    "has_docker",
    "why_no_docker",
]

LABEL_VERSION: Final = labels.VERSION
LABEL_APP_ID: Final = labels.APP_ID
LABEL_ROLE_NAME: Final = labels.ROLE_NAME
LABEL_REPLICA_ID: Final = labels.REPLICA_ID
NETWORK: Final = DEFAULT_NETWORK


class DockerScheduler(DockerLauncher):
    """Runs apps as labeled containers on one Docker daemon.

    Example::

        from airflow_torchx.schedulers.docker_scheduler import create_scheduler
        from airflow_torchx.specs import AppDef, Role

        app = AppDef("hello", [Role("sh", "busybox", entrypoint="echo", args=["hello"])])
        with create_scheduler("mine") as scheduler:
            app_id = scheduler.submit(app, {})
            print(scheduler.wait(app_id).state)
            scheduler.delete(app_id)

    Every method that takes an app id also takes a handle, and raises `ConditionError` for one of
    another scheduler. All methods are thread-safe. As a context manager it closes its connections
    at the end; it does not stop apps.

    Args:
        session_name: appears in app handles, ``local_docker://<session>/<app id>``.
        engine: the daemon; None for the one that the docker command line would use, connected to
            on first use.
        filesystem: opens the storage of a workspace's URL; None for fsspec.
        terminal: show builds on the terminal instead of in the log; None to detect one.
        defaults: run options for all apps; ``cfg`` wins.
        gpu_ids: GPUs to use, in place of all that the daemon reports.
        endpoint: the daemon to connect to on first use, without an ``engine``.
    """

    backend: str = "docker"

    def run_opts(self) -> runopts:
        """Return all run options."""
        return runopts()

    def submit_dryrun(
        self,
        app: AnyApp,
        cfg: Mapping[str, object] | Opts | None = None,
        *,
        context: LaunchContext | None = None,
        source_root: SourceRoot | None = None,
    ) -> AppDryRunInfo:
        """Return the plan of a launch, as `prepare` does, even if no daemon answers.

        Raises:
            InvalidAppError: with all problems of the app and its options.
            WorkspaceError: a workspace cannot be read, is empty, or is too large.
        """
        checked = self.check(app, cfg, source_root=source_root)
        return self._planned(checked, context, self._facts_if_any(checked.app, checked.opts))

    def build(
        self,
        app: AnyApp,
        cfg: Mapping[str, object] | Opts | None = None,
        *,
        source_root: SourceRoot | None = None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> AppDef:
        """Build the workspaces of an app, push them to ``image_repo``, and return the new app.

        The arguments are those of `check`.

        Raises:
            InvalidAppError: the daemon cannot run the app; nothing was built.
            WorkspaceError: a workspace cannot be read, is empty, or is too large.
            ImageBuildError: a step of a workspace's Dockerfile failed.
            ImagePullError: a base image cannot be pulled.
            ImagePushError: a workspace image cannot be pushed.
            StopRequested: ``should_stop`` returned True.
        """
        info = self.prepare(app, cfg, source_root=source_root, should_stop=should_stop)
        return self.build_images(info, should_stop=should_stop).app

    def schedule(
        self, dryrun_info: AppDryRunInfo, *, should_stop: Callable[[], bool] = lambda: False
    ) -> str:
        """Launch a prepared app: all replicas or none. Every call draws a new launch id.

        Args:
            dryrun_info: from `prepare` or `submit_dryrun`.
            should_stop: called several times a second; True undoes the launch.

        Returns:
            The app id.

        Raises:
            InvalidAppError: the daemon cannot run the app.
            AppExistsError: an app with this id exists on the daemon.
            ImagePullError: an image cannot be pulled.
            LaunchError: a replica did not start.
            GpuWaitTimeoutError: not enough GPUs became free within ``gpu_wait_timeout_s``.
            LaunchInterruptedError: ``should_stop`` returned True.
            AppCancelledError: another client cancelled the app before its launch was over.
        """
        return self.launch(dryrun_info.renewed(), should_stop=should_stop).app_id

    def submit(
        self,
        app: AnyApp,
        cfg: Mapping[str, object] | Opts | None = None,
        workspace: str | PurePath | Mapping[str, str] | None = None,
    ) -> str:
        """Prepare and launch an app, and return its id.

        The arguments are those of `check`.

        Raises:
            AirflowTorchXError: as `prepare` and `schedule` do.
        """
        return self.schedule(self.prepare(app, cfg, workspace=workspace))

    def describe(self, app_id: str, *, inspect_all: bool = False) -> DescribeAppResponse | None:
        """Return the state of an app and of each replica; None if the daemon has no such app.

        Args:
            app_id: the app.
            inspect_all: also return when each replica started and ended, with one more request
                per replica; otherwise only failed replicas cost a request.
        """
        return lifecycle.observe(self.engine, app_ref(app_id).app_id, inspect_all=inspect_all)

    def describe_native(self, app_id: str) -> AppDryRunInfo | None:  # noqa: ARG002 - TorchX's
        """Return None: the launch request of an app is not read back, as in TorchX."""
        return None

    def list(self, cfg: Mapping[str, object] | None = None) -> list[ListAppResponse]:  # noqa: ARG002 - TorchX's signature
        """Return all apps on the daemon, also those of TorchX; ``cfg`` is ignored."""
        return lifecycle.apps(self.engine)

    def exists(self, app_id: str) -> bool:
        """Return whether the daemon has a container of the app."""
        return lifecycle.exists(self.engine, app_ref(app_id).app_id)

    def wait(self, app_id: str, timeout_s: float | None = None) -> DescribeAppResponse:
        """Wait until every replica has ended, and describe the app.

        Meanwhile it acts on the failure policy, and restarts the app or a role after a failure.

        Args:
            app_id: the app.
            timeout_s: longest wait in seconds; None for no limit.

        Raises:
            AppNotFoundError: the daemon has no such app, or it was removed.
            WaitTimeoutError: the app has not ended in time; it keeps running.
        """
        return waiting.wait(self.engine, app_ref(app_id).app_id, timeout_s)

    def cancel(self, app_id: str) -> None:
        """Stop all running replicas at the same time, with one grace period. Idempotent.

        An app that is not on the daemon is ignored, as in TorchX.
        """
        with contextlib.suppress(AppNotFoundError):
            lifecycle.cancel(self.engine, app_ref(app_id).app_id)

    def delete(self, app_id: str) -> None:
        """Stop the app if it is running, then remove its containers and anonymous volumes.

        An app that is not on the daemon is ignored, as in TorchX.
        """
        with contextlib.suppress(AppNotFoundError):
            lifecycle.delete(self.engine, app_ref(app_id).app_id)

    def log_iter(  # noqa: PLR0913, PLR0917 - TorchX's signature
        self,
        app_id: str,
        role_name: str,
        k: int = 0,
        regex: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        should_tail: bool = False,
        streams: Stream | None = None,
    ) -> Iterator[str]:
        """Yield the lines of one replica's log, each with its newline.

        Args:
            app_id: the app.
            role_name: the role.
            k: index of the replica.
            regex: yield only lines that contain a match.
            since: yield only lines from this time on; a naive time is local.
            until: yield only lines up to this time; a naive time is local.
            should_tail: follow the log until the replica has ended, across restarts.
            streams: stdout, stderr or both.

        Raises:
            AppNotFoundError: the daemon has no such app, role or replica; raised by the call, not
                by the iterator.
            EngineUnreachableError: the connection broke while reading.
        """
        log = ReplicaLog(
            self.engine,
            find_container(self.engine, app_ref(app_id).app_id, role_name, k),
            span=Span.between(since, until),
            streams=streams or Stream.COMBINED,
            follow=should_tail,
        )
        return lines(log, regex)


def create_scheduler(session_name: str, **kwargs: object) -> DockerScheduler:
    """Return a scheduler; of TorchX's ``kwargs``, only ``engine`` is used."""
    engine = kwargs.get("engine")
    return DockerScheduler(session_name, engine if isinstance(engine, Engine) else None)
