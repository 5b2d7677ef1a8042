"""The sensor without a daemon."""

from __future__ import annotations

import json

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from structlog.testing import capture_logs

from airflow_torchx.airflow_compat import mask
from airflow_torchx.errors import ConditionError
from airflow_torchx.sensors import TorchXDockerSensor


class Impatient(TorchXDockerSensor):
    """Asks the daemon once."""

    outage_s = 0


def test_what_the_daemon_says_is_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret in the message of an error is not in the log of a sensor that reached its target."""
    value = {"conn_type": "torchx_docker", "host": "unix:///mum-is-the-word"}
    monkeypatch.setenv("AIRFLOW_CONN_D", json.dumps(value))
    mask(["mum-is-the-word"])
    sensor = Impatient(task_id="wait", app_id="a", torchx_conn_id="d")

    with capture_logs() as logs:
        returned = sensor.execute_complete({}, {"reason": "reached", "state": "SUCCEEDED"})

    assert "SUCCEEDED" == returned["state"]
    assert "unix:///***" in str(logs)
    assert "mum-is-the-word" not in str(logs)


@pytest.mark.parametrize("soft_fail", [False, True])
def test_a_handle_that_is_not_one_fails_without_a_retry(*, soft_fail: bool) -> None:
    """A wrong handle stays wrong; soft_fail, which is for apps, does not hide it."""
    sensor = Impatient(task_id="wait", app_handle="slurm://x/y", soft_fail=soft_fail)

    with pytest.raises(ConditionError) as caught:
        sensor.execute({})

    assert isinstance(caught.value, AirflowFailException)


def test_a_handle_that_is_not_one_with_never_fail() -> None:
    """never_fail skips the task after any error."""
    with pytest.raises(AirflowSkipException):
        Impatient(task_id="wait", app_handle="slurm://x/y", never_fail=True).execute({})
