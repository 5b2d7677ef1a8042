"""When the trigger of a task that defers may fire."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import pytest

from airflow_torchx.sensors import TorchXDockerSensor
from airflow_torchx.task.trigger_hold import not_before
from tests.airflow.fake_daemon import Stage
from tests.airflow.supervisor import Answer, Point, Supervisor

if TYPE_CHECKING:
    from airflow_torchx.docker_engine import DockerEngine
    from tests.airflow.supervisor import Ended

#: Airflow's default of ``[workers] min_heartbeat_interval``, and a loop of the scheduler.
HOLD_S: Final = 5 + 4
#: How long the process of an operator stays after its deferral.
STAYS_S: Final = 2


def assert_held(ended: Ended, began_s: float, hold_s: float) -> None:
    """Assert that a process deferred, with a trigger that fires some seconds later."""
    assert "DeferTask" == ended.report
    fires_s = ended.message.trigger_kwargs["not_before"]
    assert began_s + hold_s <= fires_s <= time.time() + hold_s


def test_the_operator_holds_the_event() -> None:
    """Its trigger fires when the scheduler knows that the process that deferred has ended."""
    began_s = time.time()

    assert_held(Stage(deferrable=True).supervisor.run(), began_s, STAYS_S + HOLD_S)


@pytest.mark.docker
def test_the_sensor_holds_the_event(docker_engine: DockerEngine, app_id: str) -> None:
    """A deferrable sensor meets the same race."""
    assert docker_engine
    began_s = time.time()
    sensor = TorchXDockerSensor(
        task_id="gang", app_id=app_id, wait_for_launch=True, deferrable=True
    )

    assert_held(Supervisor(sensor).run(), began_s, HOLD_S)


def test_without_a_scheduler() -> None:
    """Under ``dag.test()`` no scheduler waits for the end of a process."""
    assert not_before() is None


@pytest.mark.parametrize(
    ("state", "left"), [("success", 0), ("failed", 0), (None, 0), ("queued", 2), ("deferred", 2)]
)
def test_a_task_that_a_user_ends_before_a_triggerer_has_it(state: str | None, left: int) -> None:
    """The process that deferred looks again while it stays, and removes the app of such a task."""
    stage = Stage(deferrable=True)
    stage.supervisor.state_after_report = "deferred"
    stage.supervisor.state_in_the_end = state

    ended = stage.supervisor.run()

    assert "DeferTask" == ended.report
    assert left == len(stage.engine.rows({}))


@pytest.mark.parametrize(
    ("answer", "state", "left"),
    [
        (Answer.CONFLICT, "success", 0),
        (Answer.CONFLICT, None, 0),
        (None, "deferred", 2),
        (Answer.SERVER_ERROR, "running", 2),
    ],
    ids=["marked", "cleared", "deferred", "not-reported"],
)
def test_a_deferral_that_airflow_refuses(
    answer: Answer | None, state: str | None, left: int
) -> None:
    """A task that a user ends after its last look, and before it has deferred, removes its app."""
    stage = Stage(deferrable=True)
    stage.supervisor.state_after_report = state
    if answer is not None:
        stage.supervisor.fail(Point("DeferTask"), answer)

    ended = stage.supervisor.run()

    assert "DeferTask" == ended.report
    assert left == len(stage.engine.rows({}))
