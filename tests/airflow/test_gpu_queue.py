"""Tasks that wait for GPUs in a whole Airflow, while processes are killed and users act."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airflow_torchx.docker_engine import DockerEngine
from tests.airflow.gpu_run import GPU_CASES, GPUS, Blow, GpuCase, GpuScene, Waited
from tests.integration.second_daemon import running_with_gpus

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tests.airflow.killable import KillableAirflow

pytestmark = [pytest.mark.docker, pytest.mark.timeout(900), pytest.mark.xdist_group("kills")]


def of(*blows: Blow) -> pytest.MarkDecorator:
    """Return what has a test see the cases of these blows."""
    cases = [case for case in GPU_CASES if case.blow in blows]
    return pytest.mark.parametrize("case", cases, ids=str)


@dataclass(frozen=True)
class Played:
    """What is left to see of each case, and what must never be."""

    outcomes: Mapping[GpuCase, Waited]
    wrong: Sequence[str]


@pytest.fixture(scope="module")
def played(request: pytest.FixtureRequest, killable_airflow: KillableAirflow) -> Played:
    """Play the cases of all tests that are to run."""
    items = (one for one in request.session.items if isinstance(one, pytest.Function))
    found = {one.callspec.params.get("case") for one in items if hasattr(one, "callspec")}
    with (
        running_with_gpus(GPUS) as daemon,
        DockerEngine.connect(daemon.endpoint) as engine,
        tempfile.TemporaryDirectory(prefix="torchx-gpus-") as folder,
    ):
        stack = killable_airflow.started()
        conn = {"conn_type": "torchx_docker", "host": daemon.endpoint.url}
        stack.post("connections", {"connection_id": "gpu_host", **conn})
        scene = GpuScene(stack, engine, Path(folder))
        outcomes = scene.play([case for case in GPU_CASES if case in found])
        return Played(outcomes, scene.wrong())


@pytest.fixture
def seen(
    case: GpuCase,
    played: Played,
    killable: KillableAirflow,
    record_property: Callable[[str, object], None],
) -> Waited:
    """Return how the case of a test came out."""
    assert killable
    outcome = played.outcomes[case]
    record_property("outcome", str(outcome))
    return outcome


def check(seen: Waited, tries: tuple[str, ...], starts: int, *places: str) -> None:
    """Assert that a case came out so."""
    assert Waited(tries, starts, places) == seen, seen.record


@of(Blow.TASK, Blow.WORKER)
def test_killed_in_its_worker(seen: Waited) -> None:
    """The retry waits in the same place of the queue, and launches the app once."""
    check(seen, ("failed", "success"), 1, "kept")


@of(Blow.SHUTDOWN)
def test_worker_shutdown(seen: Waited) -> None:
    """The task waits on in the triggerer, in the same place, and launches its app once."""
    check(seen, ("success",), 1, "kept")


@of(Blow.TRIGGERER)
def test_triggerer_killed(seen: Waited) -> None:
    """The next triggerer waits in the same place, and the task launches its app once."""
    check(seen, ("success",), 1, "kept")


@of(Blow.CLEAR)
def test_cleared(seen: Waited) -> None:
    """The next attempt queues up again, and launches the app once."""
    check(seen, (*seen.tries[:-1], "success"), 1, "new")


@of(Blow.FAIL, Blow.SUCCEED)
def test_marked(case: GpuCase, seen: Waited) -> None:
    """A task that a user marks leaves the queue, and launches nothing."""
    state = "failed" if case.blow is Blow.FAIL else "success"

    check(seen, (state,), 0)


@of(Blow.LATE)
def test_out_of_time(seen: Waited) -> None:
    """A task leaves the queue when its execution_timeout is over, and the error says so."""
    check(seen, ("failed",), 0)
    assert "no app was launched: the task has not ended within execution_timeout" in seen.record


@of(Blow.BUSY)
def test_the_wait_timeout(seen: Waited) -> None:
    """A task leaves the queue when gpu_wait_timeout_s is over, and names the holder of the GPUs."""
    check(seen, ("failed",), 0)
    assert "GpuWaitTimeoutError" in seen.record
    assert "GPU-aaaa, GPU-bbbb are held by app holder-" in seen.record


def test_what_must_never_be(played: Played, killable: KillableAirflow) -> None:
    """No GPU has two apps, and nothing is left: no ticket, no claim, no container, no process."""
    assert killable
    assert [] == played.wrong
