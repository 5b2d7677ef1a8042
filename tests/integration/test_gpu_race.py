"""Many processes launch apps on the GPUs of one daemon, and some are killed or stop for a while."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import pytest

from airflow_torchx.concurrency.parallel import map_concurrently
from airflow_torchx.core.engine import labels
from airflow_torchx.docker_engine import DockerEngine
from airflow_torchx.schedulers.docker_scheduler import DockerScheduler
from airflow_torchx.specs import AppState
from tests.integration import gpu_race
from tests.integration.gpu_idle import report
from tests.integration.gpu_journal import (
    outdated,
    overlaps,
    overtaken,
    read,
    uncommitted,
    wrong_uses,
)
from tests.integration.gpu_launches import TIMEOUT_S, Race

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from airflow_torchx.core.connection.endpoint import Endpoint
    from airflow_torchx.core.engine.containers import ContainerRow
    from tests.integration.gpu_journal import Entry

pytestmark = [pytest.mark.docker, pytest.mark.timeout(3600), pytest.mark.xdist_group("gpus")]


@dataclass(frozen=True)
class Ran:
    """A race that has ended.

    Args:
        entries: the journal.
        left: the containers on the daemon.
        errors: of processes that failed.
    """

    race: Race
    entries: Sequence[Entry]
    left: Sequence[ContainerRow]
    errors: str


@pytest.fixture(scope="module")
def ran(
    request: pytest.FixtureRequest, gpu_daemon: Endpoint, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Ran]:
    """Return a race of 300 launches in a campaign, else of 40, which respect others less long."""
    campaign = request.config.getoption("campaign")
    folder = tmp_path_factory.mktemp("race")
    race = Race(
        url=str(gpu_daemon.url),
        folder=str(folder),
        seed=campaign or secrets.token_hex(4),
        launches=300 if campaign else 40,
        faults=60 if campaign else 12,
        timeout_s=TIMEOUT_S if campaign else (0.5, 0.5, 1.5, 3),
        idle_s=5 if campaign else 1,
    )
    command = [sys.executable, "-m", gpu_race.__name__, json.dumps(asdict(race))]
    ended = subprocess.run(command, check=False, stderr=subprocess.PIPE, text=True)
    with DockerEngine.connect(gpu_daemon) as engine:
        scheduler = DockerScheduler("race", engine)
        for app in scheduler.list():
            if app.state is AppState.RUNNING:
                scheduler.wait(app.app_id)
        left = engine.rows({})
        yield Ran(race, read(folder), left, ended.stderr if ended.returncode else "")

        map_concurrently(lambda row: engine.remove(row.id), left)


def test_exclusive(ran: Ran, record_property: Callable[[str, object], None]) -> None:
    """A GPU is used by one replica at a time, whatever happens to the processes that launch."""
    record_property("outcome", "\n".join(report(ran.entries)))

    assert [] == overlaps(ran.entries), ran.race


def test_one_at_a_time(ran: Ran) -> None:
    """No app launches with GPUs that it chose before another one has claimed some."""
    assert [] == outdated(ran.entries), ran.race


def test_committed(ran: Ran) -> None:
    """No app starts after others have removed its claim."""
    assert [] == uncommitted(ran.entries), ran.race


def test_complete(ran: Ran) -> None:
    """Every process launches its app unless it is killed, and each app uses what it needs."""
    assert "" == ran.errors, ran.race
    assert [] == wrong_uses(ran.entries), ran.race


def test_oldest_first(ran: Ran) -> None:
    """No app takes GPUs while another one has waited longer."""
    assert [] == overtaken(ran.entries), ran.race


def test_nothing_is_left(ran: Ran) -> None:
    """An app that needs all GPUs removes all that killed processes have left in its way."""
    live = [row.name for row in ran.left if row.state != "exited"]

    assert [] == live, ran.race
    assert all(labels.APP_ID in row.labels for row in ran.left), ran.race
