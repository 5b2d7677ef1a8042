"""What a sensor takes, before any daemon is asked."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk import DAG, BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from airflow_torchx.core.state.app_ref import AppRef
from airflow_torchx.errors import AirflowTorchXError, ConditionError, InvalidAppError
from airflow_torchx.sensors import (
    AppGoneError,
    AppStateUnknownError,
    StateUnreachableError,
    TorchXDockerSensor,
)
from airflow_torchx.task.poke import unreachable_error

if TYPE_CHECKING:
    from pathlib import Path


def sensor(**arguments: Any) -> TorchXDockerSensor:  # noqa: ANN401 - the sensor's arguments
    """Return a sensor that waits for an app, whatever else it is given."""
    if not {"app_handle", "app_id"} & arguments.keys():
        arguments["app_id"] = "train-x1"
    return TorchXDockerSensor(task_id="wait", **arguments)


@pytest.mark.parametrize(
    ("arguments", "given"),
    [({"app_id": None}, "neither"), ({"app_id": "a", "app_handle": "b"}, "both")],
)
def test_needs_one_app(arguments: dict[str, Any], given: str) -> None:
    """A sensor takes either a handle or an id."""
    with pytest.raises(ValueError, match=f"^give exactly one of app_handle= and .*, got {given}$"):
        sensor(**arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        {"target_states": {"RUNING"}},
        {"target_states": ["SUCCEEDED", "FAILED"]},
        {"failed_states": ["SUCCEEDED"]},
        {"min_replicas": 0},
    ],
)
def test_what_makes_no_sense_fails_in_the_dag_file(arguments: dict[str, Any]) -> None:
    """Wrong arguments fail the DAG file if they are known there."""
    with pytest.raises(ConditionError):
        sensor(**arguments)


def test_a_template_may_become_anything() -> None:
    """A template is checked after it is rendered, not before."""
    assert "{{ params.state }}" == sensor(target_states="{{ params.state }}").target_states


def test_another_tasks_result_is_not_looked_at() -> None:
    """The result of another task is checked when that task has run, and orders the two tasks."""
    with DAG("dag", schedule=None):
        launch = BaseOperator(task_id="launch")
        waiting = sensor(app_handle=launch.output, min_replicas=launch.output)

    assert {"launch"} == waiting.upstream_task_ids


def test_string_arguments_are_templates() -> None:
    """All arguments but the switches are templates."""
    assert {
        "app_handle",
        "app_id",
        "target_states",
        "failed_states",
        "role",
        "min_replicas",
        "torchx_conn_id",
    } == set(TorchXDockerSensor.template_fields)


def test_start_from_trigger_hands_templates_over() -> None:
    """The triggerer renders those that have the same name here and there."""
    with DAG("dag", schedule=None):
        launch = BaseOperator(task_id="launch")
        waiting = sensor(
            app_handle=launch.output,
            role="{{ params.role }}",
            failed_states="FAILED",
            timeout=60,
            start_from_trigger=True,
        )
    started = waiting.start_trigger_args

    assert started is not None
    assert "airflow_torchx.triggers.TorchXDockerTrigger" == started.trigger_cls
    assert "execute_complete" == started.next_method
    assert started.timeout is not None
    assert 60 == started.timeout.total_seconds()
    assert {
        "app_id": "{{ ti.xcom_pull(task_ids='launch', key='return_value', map_indexes=-1) }}",
        "torchx_conn_id": None,
        "target_states": ["SUCCEEDED"],
        "failed_states": ["FAILED"],
        "role": "{{ params.role }}",
        "min_replicas": None,
        "wait_for_launch": False,
        "format_version": 1,
    } == started.trigger_kwargs


def test_start_from_trigger_renders_no_states() -> None:
    """A template in the states is refused, because the triggerer would not render it."""
    with pytest.raises(ValueError, match="target_states"):
        sensor(target_states=["{{ params.state }}"], start_from_trigger=True)


def test_start_from_trigger_pulls_one_value() -> None:
    """The triggerer would never get the values of all map indices."""
    pull = "{{ ti.xcom_pull('launch'%s) }}"
    fine = pull % ", map_indexes=-1"
    waiting = sensor(app_id=fine, start_from_trigger=True)

    assert waiting.start_trigger_args is not None
    assert waiting.start_trigger_args.trigger_kwargs is not None
    assert fine == waiting.start_trigger_args.trigger_kwargs["app_id"]
    with pytest.raises(ValueError, match="cannot render app_handle="):
        sensor(app_handle=pull % "", start_from_trigger=True)


def test_one_sensor_does_not_start_another_from_the_trigger() -> None:
    """The trigger arguments of one sensor do not become those of another."""
    sensor(start_from_trigger=True)

    assert sensor().start_trigger_args is None
    assert not sensor().start_from_trigger


@pytest.mark.parametrize("kind", [StateUnreachableError, AppGoneError, AppStateUnknownError])
def test_errors(kind: type[AirflowTorchXError]) -> None:
    """The errors are of our tree and Airflow's, survive pickling, and only an outage is retried."""
    error = kind("what.", fix="Fix.")
    read = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own

    assert isinstance(error, AirflowException)
    assert (kind is not AppStateUnknownError) == isinstance(error, AirflowFailException)
    assert ("what.\nFix.", kind) == (str(read), type(read))


def test_the_fix_of_a_wrong_role() -> None:
    """A message with a fix of its own, as for a wrong role, replaces the general one."""
    ref = AppRef("a", None)

    assert "Its roles are a, b." == unreachable_error(ref, "no role 'c'.\nIts roles are a, b.").fix
    assert "docker logs" in unreachable_error(ref, "app 'a' is FAILED.").fix


def test_a_session_that_is_no_connection(airflow_home: Path) -> None:
    """A handle whose session is not a connection gives an error of ours with two ways out."""
    assert airflow_home.is_dir()

    with pytest.raises(InvalidAppError, match="there is no connection 'mine'; add one") as raised:
        sensor(app_handle="local_docker://mine/train-x1").poke({})

    assert "pass torchx_conn_id= or app_id=" in str(raised.value)
