"""Lists the schedulers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_torchx.specs.handle import SCHEDULER, SWARM_SCHEDULER

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_torchx.schedulers.docker_scheduler import DockerScheduler


def get_scheduler_factories(
    *, skip_defaults: bool = False
) -> dict[str, Callable[..., DockerScheduler]]:
    """Return a function for each scheduler, by its name, that makes one of a session's name.

    With ``skip_defaults`` there is none, because schedulers cannot be added.
    """
    return {} if skip_defaults else {SCHEDULER: _docker, SWARM_SCHEDULER: _swarm}


def get_default_scheduler_name() -> str:
    """Return the name of the scheduler of one daemon."""
    return SCHEDULER


def _docker(session_name: str, **kwargs: Any) -> DockerScheduler:  # noqa: ANN401 - TorchX's
    """Return a Docker scheduler; the import waits for it, since it takes a tenth of a second."""
    from airflow_torchx.schedulers.docker_scheduler import create_scheduler

    return create_scheduler(session_name, **kwargs)


def _swarm(session_name: str, **kwargs: Any) -> DockerScheduler:  # noqa: ANN401 - TorchX's
    """Return a scheduler of a swarm."""
    from airflow_torchx.schedulers.swarm_scheduler import create_scheduler

    return create_scheduler(session_name, **kwargs)
