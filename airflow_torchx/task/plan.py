"""Prepares the launch of one task."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import structlog

from airflow_torchx.airflow_compat import masked
from airflow_torchx.concurrency.parallel import StopRequested
from airflow_torchx.core.engine import labels
from airflow_torchx.core.plan.conflicts import secret_rules
from airflow_torchx.core.task.config_hash import config_hash
from airflow_torchx.errors import AppCancelledError, InvalidOptionsError
from airflow_torchx.task.final_failure import without_retry

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_torchx.core.workspace.recipe import SourceRoot
    from airflow_torchx.schedulers.docker_scheduler import DockerScheduler
    from airflow_torchx.schedulers.dry_run import AppDryRunInfo, CheckedApp
    from airflow_torchx.specs import AppDef
    from airflow_torchx.task.context import TaskContext
    from airflow_torchx.task.options import TaskOptions

_log = structlog.get_logger("airflow_torchx.task")


@dataclass(frozen=True)
class LaunchRequest:
    """The app that a task asks for, checked without the daemon.

    Args:
        checked: the app with its options and the content of its workspaces.
        secrets: environment variables whose values are never shown.
    """

    checked: CheckedApp
    secrets: Mapping[str, str] = field(repr=False)

    @cached_property
    def config_hash(self) -> str:
        """The hash by which a later try recognizes the app.

        It covers the content of workspaces, not their images. So a later try can reattach to a
        running app although a registry is down or a tag has moved.
        """
        return config_hash(self.checked.by_content, self.checked.opts, self.secrets)


def requested(
    scheduler: DockerScheduler,
    app: AppDef,
    options: Mapping[str, object] | None,
    secrets: Mapping[str, str],
    source_root: SourceRoot | None,
    should_stop: Callable[[], bool],
) -> LaunchRequest:
    """Parse the run options of an app and read its workspaces.

    Raises:
        AppCancelledError: ``should_stop`` returned True.
        InvalidOptionsError: a failure rule has a secret.
        AirflowTorchXError: as `DockerScheduler.check` does.
    """
    try:
        checked = scheduler.check(app, options, source_root=source_root, should_stop=should_stop)
    except StopRequested:
        what = f"the task was killed while it read the workspace of app {app.name!r}."
        raise AppCancelledError(what, fix="This try launched nothing; clear the task.") from None
    # Also what Airflow has masked in this process, like a password of a connection in a template.
    if found := secret_rules(checked.opts, lambda text: masked(text) != text):
        raise InvalidOptionsError(found)
    return LaunchRequest(checked, secrets)


def prepared(
    task: TaskContext, scheduler: DockerScheduler, request: LaunchRequest, options: TaskOptions
) -> AppDryRunInfo:
    """Plan a launch and log the plan; pull, build and create nothing.

    Raises:
        AirflowTorchXError: as `DockerScheduler.prepare` does.
    """
    attempt = task.attempt
    context = scheduler.new_context(
        attempt.app_id,
        private_env=request.secrets,
        labels={
            **attempt.labels,
            labels.CONFIG_HASH: request.config_hash,
            labels.ON_FINISH: options.lifetime,
        },
        ambient_env=task.ambient_env(),
        is_waited_for=options.wait_for_completion,
        uploads=options.wait_for_completion,
        final_exit_codes=options.final_exit_codes,
    )
    try:
        info = scheduler.prepare(request.checked, context=context)
    except InvalidOptionsError as error:
        raise without_retry(error) from error
    _log.info("::group::Plan of app %s", info.request.app_id)
    _log.info("%s", masked(str(info)))
    _log.info("::endgroup::")
    for warning in info.request.warnings:
        _log.warning("%s", masked(warning))
    return info
