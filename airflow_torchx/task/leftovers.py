"""Says how to remove what a task could not remove."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from airflow_torchx.airflow_compat import masked
from airflow_torchx.core.engine import labels

if TYPE_CHECKING:
    from airflow_torchx.core.engine.docker_cli import DockerCli
    from airflow_torchx.core.plan.identity import TaskAttempt

_log = structlog.get_logger("airflow_torchx.task")


def warn_leftovers(of: str | TaskAttempt, error: BaseException, docker: DockerCli) -> None:
    """Log the command that removes containers that may be left of an app, or of a task."""
    wanted = {labels.APP_ID: of} if isinstance(of, str) else of.task_labels
    _log.warning(
        "containers of %s may be left: %s\nRemove them with:\n  %s",
        f"app {of}" if isinstance(of, str) else f"task {of.task_id}",
        masked(str(error)),
        docker.remove_labeled(wanted),
    )
