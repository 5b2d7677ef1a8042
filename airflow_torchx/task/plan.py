"""What one attempt of a task launches: its workspaces as images, and every container decided."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from airflow_torchx.concurrency.parallel import StopRequested
from airflow_torchx.core.engine import labels
from airflow_torchx.core.plan.job_plan import Origin
from airflow_torchx.core.task.config_hash import config_hash
from airflow_torchx.errors import AppCancelledError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_torchx.core.workspace.recipe import SourceRoot
    from airflow_torchx.schedulers.docker_scheduler import AppDryRunInfo, DockerScheduler
    from airflow_torchx.specs import AppDef
    from airflow_torchx.task.context import TaskContext

_log = structlog.get_logger("airflow_torchx.task")


@dataclass(frozen=True)
class LaunchRequest:
    """What a task's arguments ask for.

    Args:
        app: the app.
        options: its run options.
        secrets: environment variables whose values are never shown.
        source_root: where relative sources of workspaces lie.
    """

    app: AppDef
    options: Mapping[str, object]
    secrets: Mapping[str, str] = field(repr=False)
    source_root: SourceRoot | None


def planned(
    task: TaskContext,
    scheduler: DockerScheduler,
    request: LaunchRequest,
    should_stop: Callable[[], bool],
) -> AppDryRunInfo:
    """Build what has to be built, and return and log the plan; creates no container of the app.

    Raises:
        AppCancelledError: ``should_stop`` returned True while an image was built.
        AirflowTorchXError: as `DockerScheduler.build` and `DockerScheduler.submit_dryrun` do.
    """
    app, attempt = _built(scheduler, request, should_stop), task.attempt
    digest = config_hash(app, scheduler.options(request.options), request.secrets)
    origin = Origin(
        app_id=attempt.app_id,
        private_env=request.secrets,
        labels={**attempt.labels, labels.CONFIG_HASH: digest},
        ambient_env=task.ambient_env(),
    )
    info = scheduler.submit_dryrun(app, request.options, origin=origin)
    _log.info("::group::Plan of app %s", info.request.app_id)
    _log.info("%s", info)
    _log.info("::endgroup::")
    for warning in info.request.warnings:
        _log.warning("%s", warning)
    return info


def _built(
    scheduler: DockerScheduler, request: LaunchRequest, should_stop: Callable[[], bool]
) -> AppDef:
    """Return the app with its workspaces as images."""
    if not any(role.workspace for role in request.app.roles):
        return request.app
    _log.info("::group::Workspace image")
    try:
        return scheduler.build(
            request.app, request.options, source_root=request.source_root, should_stop=should_stop
        )
    except StopRequested:
        what = "the task was killed while its workspace image was built: nothing was launched."
        raise AppCancelledError(what) from None
    finally:
        _log.info("::endgroup::")
