"""Reading how far the program of an app is."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pytest

from airflow_torchx.core.plan.progress import PROGRESS_PATH
from airflow_torchx.core.state.failure_rules import with_replicas
from airflow_torchx.core.state.usage import UsageHistory
from airflow_torchx.errors import EngineUnreachableError
from airflow_torchx.runtime import launching, lifecycle
from airflow_torchx.runtime.progress import ProgressMonitor, read_once
from airflow_torchx.runtime.usage import UsageMonitor
from airflow_torchx.specs import AppState
from airflow_torchx.testing import FakeEngine, ManualClock, Program
from tests.unit.apps import app, planned

if TYPE_CHECKING:
    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.specs import DescribeAppResponse

LINE = b'{"step": 3, "total": 9, "metrics": {"loss": 0.5}}\n'
LARGE = b"x" * 70_000 + b"\n" + LINE


def writer(content: bytes, **fields: Any) -> Program:  # noqa: ANN401 - of a program
    """Return a program that runs, and has written a file."""
    return Program(**{"runs_for_s": None, "files": {PROGRESS_PATH: content}, **fields})


class Scene:
    """An app on a fake daemon, and what reads its progress."""

    def __init__(self, programs: Any, **options: Any) -> None:  # noqa: ANN401 - see FakeEngine
        self.clock = ManualClock()
        self.engine = FakeEngine(
            images=["busybox"], programs=programs, clock=self.clock, sleep=self.clock.advance
        )
        launching.launch(self.engine, planned(app(2), **options))
        self.monitor = ProgressMonitor(None, self.clock, self.clock)

    def app(self) -> DescribeAppResponse:
        """Return the app as its daemon lists it."""
        found = lifecycle.observe(self.engine, "app-1", inspect_all=True)
        assert found is not None
        return found

    def read(self) -> float | None:
        """Read the progress, and return the step; None if it is unknown."""
        self.monitor.read(self.engine, self.app())
        progress = self.monitor.progress
        return None if progress is None else progress.report.step


def test_a_file() -> None:
    """The last line of the file of replica 0 counts, whatever the others write."""
    scene = Scene({"trainer/0": writer(LINE), "trainer/1": writer(b'{"step": 8}')})

    assert 3 == scene.read()
    assert 1 == scene.engine.calls.count("read_file")
    assert "execute" not in scene.engine.calls


def test_a_program_without_progress() -> None:
    """A program that writes no file, or garbage, has no progress."""
    assert Scene(Program(runs_for_s=None)).read() is None
    assert Scene(writer(b"\xff{}")).read() is None


def test_an_app_that_has_ended() -> None:
    """The last report is read from a container that has ended."""
    scene = Scene(writer(LINE, runs_for_s=5.0))
    scene.clock.advance(10)

    assert 3 == scene.read()


def test_a_large_file() -> None:
    """Of a large file, a command in the container reads the end."""
    scene = Scene(writer(LARGE, commands={"tail": (0, b"cut\n" + LINE)}))

    assert [3, 3] == [scene.read(), scene.read()]
    assert 1 == scene.engine.calls.count("read_file")
    assert 2 == scene.engine.calls.count("execute")


@pytest.mark.parametrize("tail", [(127, b"not found"), (None, b""), (1, b"")])
def test_a_container_without_tail(tail: tuple[int | None, bytes]) -> None:
    """Where a command fails or hangs, it is run once; the file is then read up to a limit."""
    scene = Scene(writer(LARGE, commands={"tail": tail}))

    assert [3, 3] == [scene.read(), scene.read()]
    assert 1 == scene.engine.calls.count("execute")


def test_a_line_that_may_be_cut() -> None:
    """The first line of the end of a large file may be a part of one, and does not count."""
    assert Scene(writer(LARGE, commands={"tail": (0, LINE)})).read() is None


def test_a_replica_that_has_not_started() -> None:
    """It is not asked for a file."""
    scene = Scene(writer(LINE))
    waiting = with_replicas(scene.app(), lambda one: replace(one, state=AppState.SUBMITTED))

    scene.monitor.read(scene.engine, waiting)

    assert "read_file" not in scene.engine.calls


def test_a_huge_file() -> None:
    """A file above the limit has no progress, and does no harm."""
    assert Scene(writer(b"x" * (5 << 20))).read() is None


def test_a_folder() -> None:
    """A folder has no progress; no command, which a pipe would block, reads it."""
    scene = Scene(writer(b"", files={f"{PROGRESS_PATH}/x": LINE}))

    assert scene.read() is None
    assert "execute" not in scene.engine.calls


def test_lines() -> None:
    """With a pattern, the log of replica 0 is read, and no file."""
    program = writer(LINE, lines=["step 1", "step 2", "saved"])
    scene = Scene({"trainer/0": program}, progress_pattern=r"step (?P<step>\d+)")

    assert 2 == scene.read()
    assert "read_file" not in scene.engine.calls


def test_a_daemon_that_is_away() -> None:
    """What is known stays while the daemon does not answer."""
    scene = Scene(writer(LINE))
    scene.read()
    seen = scene.app()

    def away(verb: str, _: str) -> None:
        if verb == "read_file":
            raise EngineUnreachableError("the daemon is away")

    scene.engine.before = away
    scene.monitor.read(scene.engine, seen)

    assert 2 == scene.engine.calls.count("read_file")
    assert scene.monitor.progress is not None


class Late:
    """A daemon whose answer about a file is older than that to a read which began later."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene

    def read_file(self, *_: object) -> bytes:
        """Return what the file was before."""
        assert 3 == self._scene.read()
        return b'{"step": 2}'


def test_an_answer_that_comes_late() -> None:
    """A report of a slow read does not replace that of a read which began later."""
    scene = Scene(writer(LINE))

    scene.monitor.read(cast("Engine", Late(scene)), scene.app())

    assert scene.monitor.progress is not None
    assert 3 == scene.monitor.progress.report.step


def test_a_line_a_minute() -> None:
    """The log has a line when the step has changed, at most one a minute, and one at the end."""
    program = Program(
        lines=[f"step {step}" for step in range(1, 6)], line_every_s=20.0, runs_for_s=None
    )
    scene = Scene({"trainer/0": program, "trainer/1": program}, progress_pattern=r"(?P<step>\d+)")
    written = []
    for _ in range(8):
        scene.read()
        written.append(scene.monitor.line())
        scene.clock.advance(20)

    assert ["step 1", "", "", "step 4", "", "", "step 5", ""] == written


def test_a_line_at_the_end() -> None:
    """The end of an app does not wait for the minute, and repeats nothing."""
    program = Program(lines=["step 1", "step 2"], line_every_s=20.0, runs_for_s=None)
    scene = Scene({"trainer/0": program, "trainer/1": program}, progress_pattern=r"(?P<step>\d+)")
    scene.read()
    assert "step 1" == scene.monitor.line()
    scene.clock.advance(20)
    scene.read()

    assert "" == scene.monitor.line()
    assert ["step 2", ""] == [scene.monitor.line(at_end=True) for _ in range(2)]


def test_progress_crosses_a_deferral() -> None:
    """The history of an app has its progress, which the next process goes on from."""
    scene = Scene(writer(LINE))
    monitor = UsageMonitor(clock=scene.clock, now=scene.clock)
    monitor.progress.read(scene.engine, scene.app())

    stored = json.loads(json.dumps(monitor.to_json(16_384)))
    resumed = UsageMonitor(UsageHistory.parse(stored))

    assert monitor.progress.progress == resumed.progress.progress
    assert 3 == stored["progress"]["step"]
    assert stored == resumed.to_json(16_384)


def once(scene: Scene) -> str:
    """Return the line of a client that reads once, a minute after the start."""
    seen = scene.app()
    started = next(iter(seen.roles_statuses[0].replicas)).started_at
    assert started is not None
    now_s = started.timestamp() + 60
    progress = read_once(scene.engine, seen, lambda: now_s)
    return progress.text(now_s) if progress else ""


def test_a_large_file_that_is_read_once() -> None:
    """Of a large file, commands in the container read the end and the first report."""
    head = b'garbage\n{"step": 1}\n{"step"'
    commands = {"tail": (0, LARGE[-20_000:]), "head": (0, head)}
    scene = Scene(writer(LARGE, commands=commands))

    assert "step 3/9, loss 0.5, about 3 min left" == once(scene)


def test_a_file_that_is_read_once_without_an_estimate() -> None:
    """Without an earlier report, or once the app has ended, the time that is left is unknown."""
    assert "step 3/9, loss 0.5" == once(Scene(writer(LINE)))
    assert "step 3/9, loss 0.5" == once(Scene(writer(LARGE, commands={"tail": (0, LINE + LINE)})))
    assert "" == once(Scene(Program(runs_for_s=None)))
    ended = Scene(writer(b'{"step": 1}\n' + LINE, runs_for_s=5.0))
    ended.clock.advance(10)
    assert "step 3/9, loss 0.5" == once(ended)


def test_a_log_that_is_read_once() -> None:
    """An app with a pattern for its log has its step, and no estimate."""
    program = Program(runs_for_s=None, lines=["step 1 of 9", "step 4 of 9"])
    pattern = r"step (?P<step>\d+) of (?P<total>\d+)"

    assert "step 4/9" == once(Scene(program, progress_pattern=pattern))
