"""The sensor without a daemon."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from structlog.testing import capture_logs

from airflow_torchx.airflow_compat import mask
from airflow_torchx.sensors import TorchXDockerSensor

if TYPE_CHECKING:
    import pytest


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
