"""Tests which scheduler a command line is about."""

from __future__ import annotations

import pytest

from airflow_torchx.cli.daemon import connect, scheduler_of, scheduler_on, typed
from airflow_torchx.core.connection.endpoint import Endpoint
from airflow_torchx.errors import ConditionError, EngineUnreachableError, UsageError
from airflow_torchx.testing import FakeEngine


@pytest.mark.parametrize(
    ("scheduler", "app", "expected"),
    [
        (None, "trainer-x1", "local_docker"),
        ("docker", "trainer-x1", "local_docker"),
        ("docker_swarm", "trainer-x1", "docker_swarm"),
        (None, "docker_swarm://gpu_cluster/trainer-x1", "docker_swarm"),
        ("docker_swarm", "docker_swarm://torchx/trainer-x1", "docker_swarm"),
        (None, "docker:///trainer-x1", "local_docker"),
        ("docker", "local_docker://torchx/trainer-x1", "local_docker"),
        ("docker_swarm", "", "docker_swarm"),
    ],
)
def test_scheduler(scheduler: str | None, app: str, expected: str) -> None:
    """A handle names its scheduler, and -s that of an id."""
    assert expected == scheduler_of(scheduler, app)


@pytest.mark.parametrize(
    ("scheduler", "app"),
    [("docker", "docker_swarm://torchx/a-1"), ("docker_swarm", "local_docker://torchx/a-1")],
)
def test_a_handle_of_another_scheduler(scheduler: str, app: str) -> None:
    """A handle that contradicts -s is an error, which names both schedulers."""
    of_app = app.partition(":")[0]

    with pytest.raises(UsageError, match=f"'{app}' is an app of {of_app}, not of {scheduler}"):
        scheduler_of(scheduler, app)


def test_an_unknown_scheduler() -> None:
    """The error about a handle of another scheduler shows the handles of both."""
    with pytest.raises(ConditionError, match=r"'local_docker://.*'docker_swarm://"):
        connect(None, "slurm://torchx/a-1")


def test_an_app_on_one_daemon_is_named_by_its_id() -> None:
    """The apps of an engine without nodes are those of one daemon."""
    engine = FakeEngine()

    assert ("a-1", "local_docker") == (typed(engine, "a-1"), scheduler_on(engine))


def test_the_daemon_of_the_docker_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both schedulers ask the daemon in DOCKER_HOST."""
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent")
    assert Endpoint().swarm is None

    for scheduler in ("docker", "docker_swarm"):
        with pytest.raises(EngineUnreachableError, match="unix:///nonexistent"):
            connect(scheduler)
