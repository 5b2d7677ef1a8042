"""A task that runs its app on a daemon in memory, under a supervisor of the tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from airflow_torchx.core.engine import labels
from airflow_torchx.core.engine.docker_cli import docker_cli
from airflow_torchx.operators import TorchXDockerOperator
from airflow_torchx.schedulers.docker_scheduler import DockerScheduler
from airflow_torchx.testing import FakeEngine, ManualClock, Program
from tests.airflow.apps import shell
from tests.airflow.supervisor import Supervisor
from tests.conftest import BUSYBOX

if TYPE_CHECKING:
    from airflow_torchx.core.engine.docker_cli import DockerCli
    from airflow_torchx.hooks import TorchXDockerHook
    from tests.airflow.supervisor import Ended

REPLICAS: Final = 2


class Hook:
    """Reaches a daemon in memory, unless a connection cannot be looked up."""

    torchx_conn_id = None
    docker_conn_ids = ()

    def __init__(self, engine: FakeEngine) -> None:
        self._engine = engine
        self.error: Exception | None = None

    def docker_cli(self) -> DockerCli:
        """Return the commands for a daemon."""
        return docker_cli(is_swarm=False)

    def get_conn(self) -> DockerScheduler:
        """Return a scheduler on the daemon."""
        if self.error is not None:
            raise self.error
        return DockerScheduler("torchx", self._engine)


class OnFakeDaemon(TorchXDockerOperator):
    """The operator on a daemon in memory."""

    fake_hook: Any = None

    @property
    def hook(self) -> TorchXDockerHook:
        """The way to the daemon."""
        hook: TorchXDockerHook = self.fake_hook
        return hook


class Stage:
    """A task, its supervisor, and a daemon in memory.

    Args:
        program: what the replicas do; by default they run for a minute and succeed.
        max_tries: number of the task's retries.
        arguments: of the operator.
    """

    def __init__(
        self,
        program: Program | None = None,
        *,
        max_tries: int = 1,
        **arguments: Any,  # noqa: ANN401 - the operator's arguments
    ) -> None:
        self.clock = ManualClock()
        lasts = 60.0 if arguments.get("deferrable") else 0.0
        program = program or Program(runs_for_s=lasts, files={"/result.json": b"[7]"})
        self.engine = FakeEngine(
            images=[BUSYBOX], programs=program, clock=self.clock, sleep=self.clock.sleep
        )
        self.hook = Hook(self.engine)
        self.task = OnFakeDaemon(
            task_id="gang",
            app=shell("true", replicas=REPLICAS),
            result_path="/result.json",
            **arguments,
        )
        self.task.fake_hook = self.hook
        self.supervisor = Supervisor(self.task, max_tries=max_tries)

    def run(self, try_number: int = 1) -> Ended:
        """Run an attempt to its end, through its deferral if it defers."""
        ended = self.supervisor.run(try_number)
        return self.resume(ended, try_number) if ended.report == "DeferTask" else ended

    def resume(self, deferred: Ended, try_number: int = 1) -> Ended:
        """Let the app end, and go on after a deferral."""
        self.clock.advance(100)
        return self.supervisor.run(try_number, deferred)

    @property
    def created(self) -> int:
        """How many containers were ever created."""
        return self.engine.calls.count("create")

    @property
    def apps(self) -> list[str]:
        """The ids of the apps on the daemon."""
        return sorted({row.labels[labels.APP_ID] for row in self.engine.rows({})})
