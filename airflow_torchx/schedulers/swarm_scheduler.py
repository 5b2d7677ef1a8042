"""A scheduler on a Docker Swarm, with the verbs of the Docker scheduler."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_torchx.core.connection.endpoint import Endpoint
from airflow_torchx.core.connection.swarm import SWARM_NETWORK, Swarm
from airflow_torchx.core.engine.protocol import Engine
from airflow_torchx.core.plan.run_opts import runopts
from airflow_torchx.core.plan.swarm_problems import SWARM_OPTIONS
from airflow_torchx.runtime.engines import connect
from airflow_torchx.schedulers.docker_scheduler import DockerScheduler
from airflow_torchx.specs.handle import SWARM_SCHEDULER

if TYPE_CHECKING:
    from typing import Any

__all__ = ["SwarmScheduler", "create_scheduler"]


class SwarmScheduler(DockerScheduler):
    """Runs the replicas of an app on the nodes of a Docker Swarm, which chooses the node of each.

    It has the verbs of `DockerScheduler`. Replicas are services, so ``docker service ls`` lists
    them. Without an engine, it asks the daemon of the docker command line, which must be a manager.
    """

    backend = SWARM_SCHEDULER
    scheduler = SWARM_SCHEDULER

    def __init__(self, session_name: str, engine: Engine | None = None, **options: Any) -> None:  # noqa: ANN401 - those of the Docker scheduler
        defaults = {"network": SWARM_NETWORK, **(options.pop("defaults", None) or {})}
        super().__init__(session_name, engine, defaults=defaults, **options)

    def run_opts(self) -> runopts:
        """Return the run options that a swarm has."""
        return runopts(SWARM_OPTIONS)

    def _connected(self) -> Engine:
        return connect(self._endpoint or Endpoint(swarm=Swarm()))


def create_scheduler(session_name: str, **kwargs: object) -> SwarmScheduler:
    """Return a scheduler; of TorchX's ``kwargs``, only ``engine`` is used."""
    engine = kwargs.get("engine")
    return SwarmScheduler(session_name, engine if isinstance(engine, Engine) else None)
