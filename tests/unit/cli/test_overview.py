"""What ``list`` shows of apps beside their states, on the fake engine."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from airflow_torchx.cli.overview import overview
from airflow_torchx.core.plan.job_plan import LaunchContext, plan
from airflow_torchx.core.plan.options import Opts
from airflow_torchx.core.plan.progress import PROGRESS_PATH
from airflow_torchx.runtime import launching
from airflow_torchx.testing import FakeEngine, Program
from tests.unit.apps import app, planned

if TYPE_CHECKING:
    from airflow_torchx.specs import AppDef

NOW_S: Final = datetime(2026, 1, 31, tzinfo=UTC).timestamp()


def launch(engine: FakeEngine, of: AppDef, app_id: str) -> None:
    """Launch an app by an id."""
    context = LaunchContext(app_id=app_id, handle=f"h/{app_id}", launch_id=app_id, environ={})
    launching.launch(engine, plan(of, Opts.parse({}), context))


def test_notes() -> None:
    """A failed app has its exit code, signal and lack of memory; one that runs has its step."""
    programs = {
        "trainer/0": Program(),
        "trainer/1": Program(exit_code=137, oom_killed=True),
        "reader/0": Program(runs_for_s=None, files={PROGRESS_PATH: b'{"step": 7, "total": 9}'}),
    }
    engine = FakeEngine(images=["busybox"], programs=programs)
    busy_app = replace(app(1), roles=[replace(app(1).roles[0], name="reader")])
    launch(engine, app(2), "broken")
    launch(engine, app(1), "done")
    launch(engine, busy_app, "busy")
    engine.calls.clear()

    broken, busy, done = overview(engine, limit_s=60)

    assert "trainer/1: exit code 137 (SIGKILL), out of memory" == broken.note(NOW_S)
    assert {
        "replica": "trainer/1",
        "exit_code": 137,
        "signal": "SIGKILL",
        "out_of_memory": True,
        "error": None,
    } == broken.failure()
    assert ("step 7/9", None) == (busy.note(NOW_S), busy.failure())
    assert ("", None, None) == (done.note(NOW_S), done.failure(), done.progress)
    assert [1, 1, 2] == [engine.calls.count(one) for one in ("rows", "inspect", "read_file")]


def test_a_daemon_that_is_slow() -> None:
    """A file that cannot be read in time costs the step, not the list."""
    release = threading.Event()
    engine = FakeEngine(images=["busybox"], programs=Program(runs_for_s=None))
    launching.launch(engine, planned(app(1)))

    def hang(verb: str, _: str) -> None:
        if verb == "read_file":
            release.wait(60)

    engine.before = hang
    try:
        (found,) = overview(engine, limit_s=0.1)
    finally:
        release.set()

    assert ("RUNNING", "") == (found.app.state.name, found.note(NOW_S))


def test_many_failed_apps() -> None:
    """Only the newest 50 failed apps are looked at closely."""
    engine = FakeEngine(images=["busybox"], programs=Program(exit_code=3))
    for number in range(52):
        launch(engine, app(1), f"app-{number:02}")
    engine.calls.clear()

    found = overview(engine)

    assert 50 == sum(one.failed is not None for one in found)
    assert 50 == engine.calls.count("inspect")
