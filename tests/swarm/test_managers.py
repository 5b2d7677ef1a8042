"""A swarm of three managers that loses its leader, and then the majority of them."""

from __future__ import annotations

import logging
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import pytest

from airflow_torchx.core.engine import labels
from airflow_torchx.errors import EngineUnreachableError, LaunchError
from airflow_torchx.schedulers.swarm_scheduler import SwarmScheduler
from airflow_torchx.specs import AppState
from airflow_torchx.swarm_engine import SwarmEngine
from tests.swarm.hosts import swarm, wait_until
from tests.swarm.test_lifecycle import OBEDIENT, _app, _launch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.swarm.hosts import Hosts

pytestmark = [
    pytest.mark.docker,
    pytest.mark.timeout(400),
    # It takes more than a minute.
    pytest.mark.campaign,
    pytest.mark.xdist_group("managers"),
]

#: It counts until a file is there.
COUNTS: Final = "i=0; until [ -e /tmp/end ]; do echo $i; i=$((i+1)); sleep 0.2; done"
WAITS: Final = "the Docker Engine does not answer, retrying: no manager of the swarm can be asked:"


@pytest.fixture
def managers() -> Iterator[Hosts]:
    """Return a swarm of three hosts, each of which is a manager; the first one leads."""
    with swarm(managers=3) as found:
        yield found


def _until_state(scheduler: SwarmScheduler, app_id: str, *states: AppState) -> None:
    """Wait until an app has a state; it may have no other one meanwhile, but an answer may fail."""

    def has_state() -> bool:
        with suppress(EngineUnreachableError):
            seen = scheduler.describe(app_id)
            assert seen is not None
            assert seen.state in {AppState.SUBMITTED, AppState.PENDING, *states}
            return seen.state in states
        return False

    wait_until(has_state)


class Watched:
    """An app whose logs are followed, and whose end another client waits for."""

    def __init__(self, scheduler: SwarmScheduler, waiting: SwarmScheduler, app_id: str) -> None:
        self._scheduler = scheduler
        self._app_id = app_id
        self._pool = ThreadPoolExecutor(4)
        self.lines: dict[int, list[str]] = {index: [] for index in range(3)}
        self._followed = [self._pool.submit(self._follow, index) for index in self.lines]
        self.ended = self._pool.submit(waiting.wait, app_id)

    def _follow(self, index: int) -> None:
        for line in self._scheduler.log_iter(self._app_id, "role0", index, should_tail=True):
            self.lines[index].append(line)

    def await_lines(self) -> None:
        """Wait until each replica has written more."""
        seen = {index: len(found) for index, found in self.lines.items()}
        wait_until(lambda: all(len(self.lines[index]) > seen[index] + 10 for index in seen))

    def end(self) -> None:
        """Let its program end; it has succeeded, and no line was lost or repeated."""
        for row in self._scheduler.engine.rows({labels.APP_ID: self._app_id}):
            touch = ["touch", "/tmp/end"]  # noqa: S108
            self._scheduler.engine.execute(row.id, touch, timeout_s=60, max_bytes=100)
        for one in self._followed:
            one.result()
        assert AppState.SUCCEEDED is self.ended.result().state
        for found in self.lines.values():
            assert [f"{number}\n" for number in range(len(found))] == found


@pytest.fixture
def schedulers(managers: Hosts) -> Iterator[list[SwarmScheduler]]:
    """Return two clients of the swarm, whose apps run on the last node."""
    endpoint = managers.endpoint(1, 2, 3, constraints=("node.hostname==box3",))
    with SwarmEngine.connect(endpoint) as engine, SwarmEngine.connect(endpoint) as other:
        yield [SwarmScheduler("gpu_cluster", one) for one in (engine, other)]


def _refused(scheduler: SwarmScheduler, *, launched: str, cancelled: str) -> str:
    """Assert that a launch and a cancel end with an error of ours; return that of the launch."""
    with ThreadPoolExecutor(2) as pool:
        attempts: list[Future[Any]] = [
            pool.submit(_launch, scheduler, launched, _app("true")),
            pool.submit(scheduler.cancel, cancelled),
        ]
    errors = [attempt.exception() for attempt in attempts]
    assert isinstance(errors[0], EngineUnreachableError | LaunchError)
    assert isinstance(errors[1], EngineUnreachableError)
    for error in errors:
        assert "no manager of the swarm can be asked" in str(error)
    return str(errors[0])


def test_the_leader_goes_down_and_then_the_majority(
    managers: Hosts,
    schedulers: list[SwarmScheduler],
    app_id: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An app on another node is never FAILED; waits for it and its logs go on, exactly.

    A launch and a cancel without a majority end with an error, and nothing of the launch starts.
    """
    caplog.set_level(logging.WARNING, "airflow_torchx")
    app, other = f"{app_id}-a", f"{app_id}-b"
    mine = schedulers[0]
    for name, command in ((app, COUNTS), (other, OBEDIENT)):
        _launch(mine, name, _app(command))
        _until_state(mine, name, AppState.RUNNING)
    watched = Watched(mine, schedulers[1], app)
    watched.await_lines()

    managers[1].kill()

    _until_state(mine, app, AppState.RUNNING)
    assert mine.engine.info().url in {managers[2].url, managers[3].url}
    watched.await_lines()

    managers[2].kill()
    refusal = _refused(mine, launched=f"{app_id}-c", cancelled=other)
    wait_until(lambda: any(WAITS in one.getMessage() for one in caplog.records))
    assert not watched.ended.done()

    managers[2].start()

    _until_state(mine, app, AppState.RUNNING)
    # A manager may do later what it has not answered; the error names what may be left.
    _until_state(mine, other, AppState.RUNNING, AppState.CANCELLED)
    for row in mine.engine.rows({labels.APP_ID: f"{app_id}-c"}):
        assert ("created", True) == (row.state, row.name in refusal)
    watched.await_lines()
    watched.end()
    said = [one.getMessage() for one in caplog.records if WAITS in one.getMessage()]
    # One line of each of the four that go on.
    assert len(said) <= 4
    mine.cancel(other)
