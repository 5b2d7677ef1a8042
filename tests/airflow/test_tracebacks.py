"""What Airflow's log shows of an error besides its message."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from structlog import tracebacks

import airflow_torchx
from airflow_torchx.sensors import StateUnreachableError, TorchXDockerSensor
from airflow_torchx.testing import Program
from tests.airflow.fake_daemon import Stage

if TYPE_CHECKING:
    from structlog.tracebacks import Stack

PACKAGE: Final = str(Path(airflow_torchx.__file__).parent)


def stacks(error: BaseException | None) -> list[Stack]:
    """Return the error and its causes with their frames, as Airflow logs them."""
    assert error is not None
    return tracebacks.extract(type(error), error, error.__traceback__).stacks


def own_frames(stack: Stack) -> list[str]:
    """Return the functions of this package in a traceback."""
    return [frame.name for frame in stack.frames if frame.filename.startswith(PACKAGE)]


@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"options": {"pull_policy": "always"}}, "cannot pull image"),
        ({"options": {"network": ["n"]}}, "options.network"),
        ({"fail_on_exit_code": 3}, "worker/0 failed first: exit code 3"),
        ({}, "worker/0 failed first: exit code 3"),
    ],
    ids=["pull", "option", "no-retry", "failed"],
)
def test_an_error_has_one_traceback(
    arguments: dict[str, Any], told: str, *, deferrable: bool
) -> None:
    """The log has one error without causes and with no frame of this package but the last."""
    stage = Stage(Program(exit_code=3, runs_for_s=60), deferrable=deferrable, **arguments)

    ended = stage.run()

    (stack,) = stacks(ended.error)
    assert told in stack.exc_value
    assert ["called"] == own_frames(stack)


def test_the_error_of_a_sensor_has_one_traceback() -> None:
    """The error of a deferred sensor has no frame of this package but the last."""
    sensor = TorchXDockerSensor(task_id="wait", app_id="a")

    with pytest.raises(StateUnreachableError) as caught:
        sensor.execute_complete({}, {"reason": "failed", "message": "no"})

    (stack,) = stacks(caught.value)
    assert ["called"] == own_frames(stack)
