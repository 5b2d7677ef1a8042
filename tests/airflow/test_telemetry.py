"""Metrics and spans of tasks, as a StatsD daemon and a collector of traces get them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.airflow.apps import both_modes, shell
from tests.receivers import Statsd, sending_to, spans

if TYPE_CHECKING:
    from tests.airflow.one_task import OneTask

pytestmark = pytest.mark.docker


@both_modes
def test_the_metrics_of_a_dag(one_task: OneTask, monkeypatch: pytest.MonkeyPatch) -> None:
    """A StatsD daemon gets the launch and the end of an app beside the metrics of Airflow."""
    with Statsd() as statsd, sending_to(statsd.port, monkeypatch):
        one_task.run(app=shell("exit 3"))
        found = statsd.until("torchx.app.finished.FAILED")

    names = [name for name, *_ in found]
    assert ("torchx.app.launched", "1", "c") in found
    assert {"torchx.create.duration", "torchx.start.duration"} <= {*names}
    assert names.index("torchx.launch.duration") < names.index("torchx.app.finished.FAILED")


@both_modes
def test_the_spans_of_a_dag(one_task: OneTask) -> None:
    """Each phase is a span, and those of a launch are its children."""
    with spans() as found:
        one_task.run(app=shell("exit 0"))

        assert "torchx.launch" == found.tree["torchx.create"] == found.tree["torchx.start"]
        assert {"torchx.launch", "torchx.collect"} <= {*found.tree}
        assert "SUCCEEDED" == (found["torchx.collect"].attributes or {})["torchx.app.state"]
        assert ("worker",) == (found["torchx.launch"].attributes or {})["torchx.app.roles"]
