"""What a task refuses before it looks at a daemon."""

from __future__ import annotations

import pytest

from airflow_torchx.airflow_compat import mask
from airflow_torchx.errors import InvalidOptionsError
from airflow_torchx.schedulers.docker_scheduler import DockerScheduler
from airflow_torchx.specs import AppDef, Role
from airflow_torchx.task.plan import requested
from airflow_torchx.testing import FakeEngine


@pytest.mark.parametrize("rule", ["login:fail:no user rosebud-7", "rosebud-7:fail:no user"])
def test_a_failure_rule_with_a_secret_of_a_connection(rule: str) -> None:
    """A rule with a text that Airflow masks is refused, because every client reads its label."""
    mask(["rosebud-7"])
    scheduler = DockerScheduler("torchx", FakeEngine())
    app = AppDef("app", [Role("main", "base", entrypoint="run")])

    with pytest.raises(InvalidOptionsError, match=r"options.failure_rules\[0\]") as caught:
        requested(scheduler, app, {"failure_rules": [rule]}, {}, None, lambda: False)

    assert "rosebud" not in str(caught.value)
