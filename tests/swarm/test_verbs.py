"""Each verb of the Docker scheduler on a swarm, once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from airflow_torchx.errors import AppNotFoundError, ConditionError, WaitTimeoutError
from airflow_torchx.schedulers import get_scheduler_factories
from airflow_torchx.schedulers.docker_scheduler import Stream
from airflow_torchx.specs import AppDef, AppState, Role
from tests.conftest import BUSYBOX
from tests.swarm.hosts import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_torchx.schedulers.docker_scheduler import DockerScheduler
    from airflow_torchx.swarm_engine import SwarmEngine
    from tests.swarm.hosts import Hosts

pytestmark = [pytest.mark.docker, pytest.mark.timeout(180)]


@pytest.fixture
def scheduler(
    hosts: Hosts, swarm_engine: SwarmEngine, monkeypatch: pytest.MonkeyPatch
) -> Iterator[DockerScheduler]:
    """Return a scheduler from the registry, which asks the daemon of the docker command line."""
    assert swarm_engine.info().is_swarm
    monkeypatch.setenv("DOCKER_HOST", hosts[1].url)
    with get_scheduler_factories()["docker_swarm"]("mine") as found:
        yield found


def test_verbs(scheduler: DockerScheduler, app_id: str) -> None:
    """They do on a swarm what they do on one daemon, by an id and by a handle."""
    script = "echo out; echo err >&2; echo ready; exec sleep 600"
    app = AppDef(app_id, [Role("sh", BUSYBOX, entrypoint="sh", args=["-c", script])])
    cfg = {"stop_grace_s": 0}
    _check_plan(scheduler, app)
    app_id = scheduler.submit(app, cfg)
    handle = f"docker_swarm://mine/{app_id}"

    assert scheduler.exists(app_id)
    assert scheduler.exists(handle)
    assert not scheduler.exists(f"{app_id}-not")
    assert handle in [one.app_handle for one in scheduler.list()]
    with pytest.raises(WaitTimeoutError, match="it keeps running"):
        scheduler.wait(app_id, timeout_s=0.1)
    log = scheduler.log_iter(handle, "sh", should_tail=True, streams=Stream.STDOUT)
    assert ["out\n", "ready\n"] == [next(log), next(log)]
    # The log may be faster than the state.
    wait_until(lambda: _state(scheduler, handle) is AppState.RUNNING)
    described = scheduler.describe(handle, inspect_all=True)
    assert described is not None
    assert described.roles_statuses[0].replicas[0].started_at is not None
    assert scheduler.describe_native(app_id) is None
    scheduler.cancel(handle)
    assert AppState.CANCELLED is scheduler.wait(app_id).state
    assert [] == [*log]
    _check_selected_lines(scheduler, app_id)
    _check_removal(scheduler, app_id)


def _state(scheduler: DockerScheduler, app_id: str) -> AppState | None:
    found = scheduler.describe(app_id)
    return None if found is None else found.state


def _check_plan(scheduler: DockerScheduler, app: AppDef) -> None:
    assert "torchx-swarm" in str(scheduler.submit_dryrun(app, {}))
    assert app == scheduler.build(app, {})
    assert "privileged" not in dict(scheduler.run_opts())


def _check_selected_lines(scheduler: DockerScheduler, app_id: str) -> None:
    assert ["err\n"] == [*scheduler.log_iter(app_id, "sh", regex="e.r")]
    later = datetime.now(UTC) + timedelta(hours=1)
    assert [] == [*scheduler.log_iter(app_id, "sh", since=later)]
    assert 3 == len([*scheduler.log_iter(app_id, "sh", until=later)])
    with pytest.raises(AppNotFoundError, match="no replica"):
        scheduler.log_iter(app_id, "sh", 1)


def _check_removal(scheduler: DockerScheduler, app_id: str) -> None:
    """Each of these has no effect the second time."""
    scheduler.cancel(app_id)
    for _ in range(2):
        scheduler.delete(app_id)
    assert scheduler.describe(app_id) is None
    scheduler.cancel(app_id)
    with pytest.raises(ConditionError):
        scheduler.describe(f"slurm://mine/{app_id}")
