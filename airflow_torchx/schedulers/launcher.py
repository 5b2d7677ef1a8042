"""Checks, plans, builds and launches apps on one Docker daemon."""

from __future__ import annotations

import os
import secrets
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_torchx.concurrency.parallel import StopRequested
from airflow_torchx.core.plan.conflicts import secret_rules, upload_problem
from airflow_torchx.core.plan.identity import random_app_id
from airflow_torchx.core.plan.job_plan import LaunchContext, plan
from airflow_torchx.core.plan.options import Opts
from airflow_torchx.core.plan.plan_text import env_secrets
from airflow_torchx.core.plan.preflight import checked_options, daemon_problems, daemon_warnings
from airflow_torchx.core.plan.redact import redact
from airflow_torchx.core.workspace.recipe import with_workspace
from airflow_torchx.errors import (
    EngineUnreachableError,
    InvalidAppError,
    InvalidOptionsError,
    LaunchInterruptedError,
)
from airflow_torchx.runtime import launching, placing, reaper
from airflow_torchx.runtime.daemon_facts import collect
from airflow_torchx.runtime.gpu_allocator import GpuAllocator
from airflow_torchx.schedulers.dry_run import AppDryRunInfo, CheckedApp
from airflow_torchx.specs import as_app, make_app_handle
from airflow_torchx.specs.handle import SCHEDULER
from airflow_torchx.workspace.docker_workspace import DockerWorkspaceMixin, with_images
from airflow_torchx.workspace.reading import key_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import PurePath

    from airflow_torchx.core.connection.endpoint import Endpoint
    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.core.plan.preflight import DaemonFacts
    from airflow_torchx.core.workspace.recipe import SourceRoot
    from airflow_torchx.runtime.gpu_allocator import Waiting
    from airflow_torchx.specs import AnyApp, AppDef, DescribeAppResponse
    from airflow_torchx.workspace.reading import Filesystem


class DockerLauncher(DockerWorkspaceMixin):
    """Launches apps on one Docker daemon; see `DockerScheduler`."""

    #: The scheduler in the handles of its apps.
    scheduler: str = SCHEDULER

    def __init__(  # noqa: PLR0913 - the options of a scheduler
        self,
        session_name: str,
        engine: Engine | None = None,
        *,
        filesystem: Filesystem | None = None,
        terminal: bool | None = None,
        defaults: Mapping[str, object] | None = None,
        gpu_ids: Sequence[str] = (),
        endpoint: Endpoint | None = None,
    ) -> None:
        super().__init__(
            engine, filesystem=filesystem, terminal=terminal, defaults=defaults, endpoint=endpoint
        )
        self.session_name = session_name
        self._gpu_ids = gpu_ids

    def options(self, cfg: Mapping[str, object] | Opts | None = None) -> Opts:
        """Return parsed run options, with the defaults of this scheduler."""
        return Opts.parse(cfg, self._defaults)

    def new_context(  # noqa: PLR0913 - the fields of a LaunchContext
        self,
        app_id: str,
        *,
        private_env: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        ambient_env: Mapping[str, str] | None = None,
        is_waited_for: bool = True,
        final_exit_codes: Sequence[int] = (),
        uploads: bool = False,
    ) -> LaunchContext:
        """Return the context of a new launch, with a random launch id; see `LaunchContext`."""
        return LaunchContext(
            app_id=app_id,
            handle=make_app_handle(self.scheduler, self.session_name, app_id),
            launch_id=secrets.token_hex(8),
            environ=os.environ,
            private_env=private_env or {},
            labels=labels or {},
            ambient_env=ambient_env or {},
            is_waited_for=is_waited_for,
            final_exit_codes=final_exit_codes,
            uploads=uploads,
        )

    def check(
        self,
        app: AnyApp,
        cfg: Mapping[str, object] | Opts | None = None,
        workspace: str | PurePath | Mapping[str, str] | None = None,
        *,
        source_root: SourceRoot | None = None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> CheckedApp:
        """Parse an app's options and read its workspaces, without the daemon if they are valid.

        Args:
            app: the app, an `AppDef` of this package or of TorchX.
            cfg: run options.
            workspace: workspace of every role that has none of its own: a local folder, a URL, or a
                mapping of such sources to folders; None or an empty string for none.
            source_root: base of relative workspace sources; None for the current folder.
            should_stop: called several times a second.

        Raises:
            InvalidAppError: with all problems of the app and its options.
            WorkspaceError: a workspace cannot be read, is empty, or is too large.
            StopRequested: ``should_stop`` returned True.
        """
        app = with_workspace(as_app(app), workspace)
        opts = checked_options(
            app, cfg, self._defaults, look=lambda opts: self._facts_if_any(app, opts)
        )
        read = self._read_workspaces(app.roles, opts, source_root, should_stop)
        return CheckedApp(app=app, opts=opts, workspaces=read)

    def prepare(
        self,
        app: AnyApp | CheckedApp,
        cfg: Mapping[str, object] | Opts | None = None,
        context: LaunchContext | None = None,
        workspace: str | PurePath | Mapping[str, str] | None = None,
        *,
        source_root: SourceRoot | None = None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> AppDryRunInfo:
        """Plan a launch; create, pull and build nothing.

        It makes one request for facts about the daemon, and one for each image. ``app`` may be the
        result of `check`; then ``cfg`` and ``workspace`` are ignored. ``context`` has id, labels
        and environment of the launch; None for a random id. The others are those of `check`.

        Raises:
            InvalidAppError: with all problems, including those that only the daemon shows.
            EngineUnreachableError: the daemon does not answer.
            WorkspaceError: a workspace cannot be read, is empty, or is too large.
            StopRequested: ``should_stop`` returned True.
        """
        if not isinstance(app, CheckedApp):
            app = self.check(app, cfg, workspace, source_root=source_root, should_stop=should_stop)
        return self._planned(app, context, self._facts(app.app, app.opts))

    def build_images(
        self, info: AppDryRunInfo, *, should_stop: Callable[[], bool] = lambda: False
    ) -> AppDryRunInfo:
        """Build the missing images of a prepared launch, and return the launch with them.

        Raises:
            AirflowTorchXError: as `build` does.
            StopRequested: ``should_stop`` returned True.
        """
        if info.facts is None:
            info = self.prepare(info.checked, context=info.context)
        if not info.images or info.facts is None:
            return info
        made = self._ensure_images(info.images, info.cfg, info.facts.engine.id, should_stop)
        app = replace(info.app, roles=with_images(info.app.roles, made))
        return replace(info, request=info.request.with_images(app.roles), app=app, images={})

    def launch(
        self,
        info: AppDryRunInfo,
        *,
        waiting: Waiting = "here",
        should_stop: Callable[[], bool] = lambda: False,
        before_start: Callable[[str], object] | None = None,
        has_reaper: bool = False,
    ) -> DescribeAppResponse:
        """Launch as `schedule` does, and return the app as the daemon then lists it.

        ``before_start`` is called with the id of the first container before any one is started.
        A helper process undoes the launch if this process is killed, unless the caller
        ``has_reaper``, which does so.

        Raises:
            MustWait: not enough GPUs are free, and ``waiting`` lets another process wait for them.
            AirflowTorchXError: as `schedule` does.
        """
        request = info.request
        undo = reaper.undoing_launch(self.engine, request.app_id, request.launch_id)
        with nullcontext() if has_reaper else undo:
            return self._launch(info, waiting, should_stop, before_start)

    def _launch(
        self,
        info: AppDryRunInfo,
        waiting: Waiting,
        should_stop: Callable[[], bool],
        before_start: Callable[[str], object] | None,
    ) -> DescribeAppResponse:
        app_id = info.request.app_id
        try:
            built = self.build_images(info, should_stop=should_stop)
        except StopRequested as error:
            what = f"the launch of app {app_id!r} was stopped before a container was created."
            raise LaunchInterruptedError(what, fix=launching.NOTHING_LEFT) from error
        gpus = None
        # A swarm gives each GPU to one replica by itself.
        if built.facts is not None and not built.facts.engine.is_swarm:
            gpus = GpuAllocator(
                self.engine,
                built.facts.engine,
                reported=built.facts.reported_gpus,
                timeout_s=built.cfg.gpu_wait_timeout_s,
                waiting=waiting,
                should_stop=should_stop,
            )
        return launching.launch(
            self.engine,
            built.request,
            known=info.known_images,
            gpus=gpus,
            should_stop=should_stop,
            before_start=before_start,
        )

    def _planned(
        self, checked: CheckedApp, context: LaunchContext | None, facts: DaemonFacts | None
    ) -> AppDryRunInfo:
        app, opts = checked.app, checked.opts
        context = context or self.new_context(random_app_id(app.name, secrets.randbits(64)))
        if problem := upload_problem(opts, uploads=context.uploads):
            raise InvalidOptionsError([problem], subject=f"app {app.name!r}")
        warnings: list[str] = []
        if facts is None:
            unknown = "unknown workspace image: no daemon answers"
            names = {key: one.content.base for key, one in checked.workspaces.items()}
            images, notes = {}, dict.fromkeys(checked.workspaces, unknown)
        else:
            unplaced = placing.problems(self.engine, plan(app, opts, context))
            if problems := (*daemon_problems(app, opts, facts), *unplaced):
                raise InvalidAppError(problems, subject=f"app {app.name!r}")
            context = replace(context, proxy_env=self.engine.proxy_env)
            images = self._find_images(checked.workspaces, opts, facts.images)
            names = {key: image.name(opts.image_repo) for key, image in images.items()}
            notes = {key: image.note for key, image in images.items()}
            warnings.extend(daemon_warnings(app, facts))
        request = plan(replace(app, roles=with_images(app.roles, names)), opts, context)
        private = env_secrets(request)
        if found := secret_rules(opts, lambda text: redact(text, private) != text):
            raise InvalidOptionsError(found)
        workspaces = tuple(
            f"role {role.name}: {notes[key_of(role.image, role.workspace)]}"
            for role in app.roles
            if role.workspace
        )
        return AppDryRunInfo(
            replace(request, workspaces=workspaces, warnings=(*request.warnings, *warnings)),
            app,
            opts,
            checked=checked,
            context=context,
            facts=facts,
            images=images,
        )

    def _facts(self, app: AppDef, opts: Opts) -> DaemonFacts:
        return collect(self.engine, app, opts, self._gpu_ids)

    def _facts_if_any(self, app: AppDef, opts: Opts) -> DaemonFacts | None:
        try:
            return self._facts(app, opts)
        except EngineUnreachableError:
            return None
