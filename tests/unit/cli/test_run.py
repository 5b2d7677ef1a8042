"""Tests the command run on the fake engine."""

from __future__ import annotations

from argparse import Namespace

import pytest

from airflow_torchx.cli import run
from airflow_torchx.core.plan.options import Opts
from airflow_torchx.errors import EngineError
from airflow_torchx.schedulers.docker_scheduler import DockerScheduler
from airflow_torchx.testing import FakeEngine
from tests.unit.apps import app


@pytest.mark.parametrize(
    ("failures", "message"), [(0, "Nothing was left"), (9, "Run `docker rm -f app-")]
)
def test_interrupted_twice(failures: int, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """After a second signal during a launch, the command prints what is left on the daemon."""
    engine = FakeEngine(images=["busybox"])
    engine.fail_next("start", KeyboardInterrupt())
    engine.fail_next("remove", EngineError("busy"), times=failures)

    code = run._run(DockerScheduler("t", engine), app(), Opts(), Namespace())  # noqa: SLF001

    assert 130 == code
    assert message in capsys.readouterr().err
