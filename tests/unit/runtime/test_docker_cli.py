"""Commands of `docker` that messages advise: containers on a daemon, services on a swarm."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from airflow_torchx.core.engine.docker_cli import docker_cli
from airflow_torchx.errors import AppNotFoundError, EngineError, LaunchError
from airflow_torchx.runtime import attach
from airflow_torchx.runtime.placing import docker_cli as commands_for
from airflow_torchx.runtime.replica_log import find_container
from airflow_torchx.task.leftovers import warn_leftovers
from airflow_torchx.task.log import TaskLog
from airflow_torchx.testing import FakeEngine
from tests.unit.test_fake_swarm import gang, launch, made

APP_LABEL = "torchx.pytorch.org/app-id"


def test_an_app_that_is_not_on_a_swarm() -> None:
    """Errors about apps and replicas name the swarm."""
    engine, scheduler = made()
    launch(scheduler, "app", gang(1))

    with pytest.raises(AppNotFoundError, match="no app 'other' on this swarm"):
        attach.look(engine, "other")
    with pytest.raises(AppNotFoundError, match="'app' on this swarm; its roles are trainer"):
        find_container(engine, "app", "worker", 0)


def test_a_log_on_a_swarm_that_does_not_end_in_time() -> None:
    """The warning names the command for the log of a service."""
    engine, scheduler = made()
    launch(scheduler, "app", gang(1))
    engine.sleep(1)

    with capture_logs() as events, TaskLog(engine, attach.look(engine, "app")) as log:
        log.finish(0.2, lambda: False)

    assert "run: docker service logs app-trainer-0" in str(events[-1]["event"])


@pytest.mark.parametrize(
    ("is_swarm", "command"),
    [
        (False, f"docker rm -f $(docker ps -aq --filter label={APP_LABEL}=app-1)"),
        (True, f"docker service rm $(docker service ls -q --filter label={APP_LABEL}=app-1)"),
    ],
)
def test_what_an_app_may_leave(command: str, *, is_swarm: bool) -> None:
    """The warning has the command that removes what is left."""
    with capture_logs() as events:
        warn_leftovers("app-1", EngineError("busy"), docker_cli(is_swarm=is_swarm))

    assert str(events[0]["event"]).endswith(command)


def test_the_name_of_an_engine() -> None:
    """A message calls a swarm one, and anything else a daemon."""
    swarm, _ = made()

    assert ("this swarm", "this daemon") == (
        commands_for(swarm).engine,
        commands_for(FakeEngine()).engine,
    )


def test_what_a_launch_may_leave() -> None:
    """The error of a launch has the command of its engine."""
    swarm, _ = made()
    left = ["x-trainer-0"]

    on_swarm = LaunchError("x", "trainer/0", "busy", left=left, remove=commands_for(swarm).remove)
    on_daemon = LaunchError(
        "x", "trainer/0", "busy", left=left, remove=commands_for(FakeEngine()).remove
    )

    assert "Run `docker service rm x-trainer-0`." in on_swarm.fix
    assert "Run `docker rm -f x-trainer-0`." in on_daemon.fix
