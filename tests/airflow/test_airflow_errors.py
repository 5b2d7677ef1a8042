"""An error of Airflow is not an error of the app, whichever request of the task it meets."""

from __future__ import annotations

from typing import Any, Final

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowNotFoundException
from structlog.testing import capture_logs

from airflow_torchx.core.task.record import LAUNCHING as LAUNCHING_PHASE
from airflow_torchx.core.task.record import SUCCEEDED
from airflow_torchx.task.context import (
    APP_ID_KEY,
    CONTAINERS_KEY,
    HANDLE_KEY,
    IMAGES_KEY,
    REPLICAS_KEY,
)
from airflow_torchx.testing import Program
from tests.airflow.fake_daemon import REPLICAS, Stage
from tests.airflow.supervisor import DELETED, Answer, Point

#: Requests of a process that launches its app, in their order.
LAUNCHING: Final = (
    Point("SetRenderedFields"),
    Point("GetTaskStateStore"),
    Point("SetTaskStateStore", phase=LAUNCHING_PHASE),
    Point("SetXCom", key=HANDLE_KEY),
    Point("SetXCom", key=APP_ID_KEY),
    Point("SetXCom", key=CONTAINERS_KEY),
    Point("SetXCom", key=IMAGES_KEY),
)
#: Requests of a process that defers.
DEFERRING: Final = (Point("GetTaskStates"), Point("DeferTask"))
#: Requests of a process that collects the result.
COLLECTING: Final = (
    Point("SetTaskStateStore", phase=SUCCEEDED),
    Point("SetXCom", key=REPLICAS_KEY),
    Point("SetXCom", key="return_value"),
    Point("SucceedTask"),
)
LOST: Final = (Answer.NOT_FOUND, Answer.CONFLICT)


def assert_retry_succeeds(stage: Stage) -> None:
    """Assert that the next attempt ends well, and that no replica ran twice."""
    stage.clock.advance(100)
    stage.supervisor.state = "running"

    ended = stage.run(2)

    assert ended.error is None
    assert "SucceedTask" == ended.report
    assert REPLICAS == stage.created
    assert [7] == stage.supervisor.xcoms["return_value"]
    assert {HANDLE_KEY, APP_ID_KEY} <= stage.supervisor.xcoms.keys()
    assert [] == stage.apps


@pytest.mark.parametrize("answer", Answer, ids=lambda answer: answer.name.lower())
@pytest.mark.parametrize("point", [*LAUNCHING, *COLLECTING], ids=str)
def test_a_task_that_waits(point: Point, answer: Answer) -> None:
    """The next attempt ends well without a second run of the app."""
    stage = Stage()
    stage.supervisor.fail(point, answer)
    if answer in LOST:
        stage.supervisor.state = "up_for_retry"

    stage.run()

    assert_retry_succeeds(stage)


@pytest.mark.parametrize("answer", Answer, ids=lambda answer: answer.name.lower())
@pytest.mark.parametrize("point", [*LAUNCHING, *DEFERRING], ids=str)
def test_a_task_that_defers(point: Point, answer: Answer) -> None:
    """The next attempt reattaches to the app, whether or not Airflow took the deferral."""
    stage = Stage(deferrable=True)
    stage.supervisor.fail(point, answer)
    if answer in LOST and point not in DEFERRING:
        stage.supervisor.state = "up_for_retry"

    stage.supervisor.run()

    assert_retry_succeeds(stage)


@pytest.mark.parametrize("answer", Answer, ids=lambda answer: answer.name.lower())
@pytest.mark.parametrize("point", [Point("SetRenderedFields"), *COLLECTING], ids=str)
def test_a_task_that_resumes(point: Point, answer: Answer) -> None:
    """An app that has succeeded is collected by the next attempt."""
    stage = Stage(deferrable=True)
    deferred = stage.supervisor.run()
    stage.supervisor.fail(point, answer)
    if answer in LOST:
        stage.supervisor.state = "up_for_retry"

    stage.resume(deferred)

    assert_retry_succeeds(stage)


@pytest.mark.parametrize("state", ["failed", "success", "restarting", None, DELETED])
@pytest.mark.parametrize("point", [LAUNCHING[-1], COLLECTING[0]], ids=str)
def test_a_task_that_a_user_ended(point: Point, state: str | None) -> None:
    """The app is stopped and removed."""
    stage = Stage()
    stage.supervisor.fail(point, Answer.CONFLICT)
    stage.supervisor.state = state

    stage.run()

    assert REPLICAS == stage.created
    assert [] == stage.apps


@pytest.mark.parametrize(
    ("max_tries", "arguments"), [(0, {}), (1, {"durable": False})], ids=["last", "not durable"]
)
def test_no_attempt_that_could_reattach(max_tries: int, arguments: dict[str, Any]) -> None:
    """Nothing is left behind if no attempt follows that would reattach to the app."""
    stage = Stage(max_tries=max_tries, **arguments)
    stage.supervisor.fail(Point("SetXCom", key=IMAGES_KEY), Answer.SERVER_ERROR)

    stage.run()

    assert REPLICAS == stage.created
    assert [] == stage.apps


def test_an_attempt_that_airflow_does_not_know_any_more() -> None:
    """Another attempt follows then, even if no retry was left."""
    stage = Stage(max_tries=0)
    stage.supervisor.fail(Point("SetXCom", key=IMAGES_KEY), Answer.NOT_FOUND)

    stage.run()

    assert 1 == len(stage.apps)


def test_a_retry_pushes_what_the_attempt_before_could_not() -> None:
    """A recorded success keeps its containers until its XComs are pushed."""
    stage = Stage()
    stage.supervisor.fail(Point("SetXCom", key=REPLICAS_KEY), Answer.SERVER_ERROR)

    stage.run()
    assert 1 == len(stage.apps)
    stage.supervisor.xcoms.clear()
    assert_retry_succeeds(stage)

    assert REPLICAS == len(stage.supervisor.xcoms[REPLICAS_KEY])
    assert REPLICAS == len(stage.supervisor.xcoms[CONTAINERS_KEY])


def test_a_deferral_that_comes_too_late() -> None:
    """A task that Airflow gave to another attempt does not defer, and keeps its app."""
    stage = Stage(deferrable=True)
    stage.supervisor.state = "up_for_retry"

    ended = stage.supervisor.run()

    assert "WorkerShutdownError" == type(ended.error).__name__
    assert_retry_succeeds(stage)


def test_an_error_of_the_app_is_not_hidden() -> None:
    """An exit code that allows no retry allows none, even if Airflow fails meanwhile."""
    stage = Stage(Program(exit_code=42), fail_on_exit_code=42)
    stage.supervisor.fail(Point("SetXCom", key=REPLICAS_KEY), Answer.SERVER_ERROR)

    ended = stage.run()

    assert isinstance(ended.error, AirflowFailException)
    assert "failed" == ended.message.state


@pytest.mark.parametrize("max_tries", [0, 1])
def test_a_connection_that_cannot_be_looked_up(max_tries: int) -> None:
    """The log says how to remove an app that the last attempt cannot reach any more."""
    stage = Stage(deferrable=True, max_tries=max_tries)
    deferred = stage.supervisor.run()
    stage.hook.error = AirflowNotFoundException("no connection")

    with capture_logs() as logs:
        stage.resume(deferred)

    assert 1 == len(stage.apps)
    told = [log for log in logs if "docker rm -f" in log["event"]]
    assert (1 - max_tries) == len(told)
