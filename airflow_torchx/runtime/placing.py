"""Places an app on the nodes of a swarm, all of it or nothing."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

from airflow_torchx.concurrency.parallel import StopRequested
from airflow_torchx.core.engine.docker_cli import docker_cli as commands
from airflow_torchx.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from airflow_torchx.core.engine.containers import ContainerSpec
    from airflow_torchx.core.engine.docker_cli import DockerCli
    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.core.plan.job_plan import JobPlan
    from airflow_torchx.core.swarm.gpus import SwarmGpus

# Between two attempts of a launch that no process waits for later.
_LOOK_S: Final = 1.0


@runtime_checkable
class Places(Protocol):
    """An engine that has several nodes."""

    def place(self, app_id: str) -> str:
        """Start all replicas of an app if they fit, and return why they wait."""

    def never_fits(self, specs: Sequence[ContainerSpec]) -> str:
        """Return why these replicas do not fit even if nothing runs; empty if they may."""


@runtime_checkable
class ListsGpus(Protocol):
    """An engine whose nodes have GPUs as generic resources."""

    def gpus(self) -> SwarmGpus:
        """Return the GPUs of all nodes, and what holds them."""

    @property
    def gpu_resource(self) -> str:
        """The name of the generic resource."""


def has_nodes(engine: Engine) -> bool:
    """Return whether an engine places replicas on several nodes."""
    return isinstance(engine, Places)


def docker_cli(engine: Engine) -> DockerCli:
    """Return the commands of `docker` that a message about an engine advises."""
    return commands(is_swarm=has_nodes(engine))


def problems(engine: Engine, plan: JobPlan) -> Iterator[Problem]:
    """Yield a problem if the nodes of a swarm have no room for an app even if nothing runs."""
    if isinstance(engine, Places) and (why := engine.never_fits(plan.containers)):
        fix = (
            "ask for less, add nodes to the swarm, or if there are constraints, give nodes the "
            "labels: `docker node update --label-add`"
        )
        yield Problem("roles", f"they never fit on this swarm: {why}", fix)


def start(engine: Engine, plan: JobPlan, should_stop: Callable[[], bool]) -> None:
    """Start all replicas of a launch if they fit.

    Else the process that waits for the app starts them; if none does, this call waits for room.

    Raises:
        StopRequested: ``should_stop`` returned True.
    """
    while place(engine, plan.app_id) and not plan.is_waited_for:
        if should_stop():
            raise StopRequested
        time.sleep(_LOOK_S)


def place(engine: Engine, app_id: str) -> str:
    """Start all replicas of an app if they fit; return why they wait, empty if they do not."""
    return engine.place(app_id) if isinstance(engine, Places) else ""


def gpus_of(engine: Engine) -> tuple[SwarmGpus, str] | None:
    """Return the GPUs of a swarm, and the name of the resource; None for one daemon."""
    return (engine.gpus(), engine.gpu_resource) if isinstance(engine, ListsGpus) else None
