"""Logs of all replicas in one task log, on the fake engine."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

# Its first import configures structlog: in a test, that would end `capture_logs`.
import airflow  # noqa: F401
import pytest
from structlog.testing import capture_logs

from airflow_torchx.concurrency.parallel import StopRequested
from airflow_torchx.core.engine import labels
from airflow_torchx.core.state.rule_matches import RuleMatches
from airflow_torchx.core.state.rule_search import RuleSearch
from airflow_torchx.errors import AppNotFoundError, EngineError
from airflow_torchx.runtime import attach, launching, lifecycle
from airflow_torchx.specs import AppState
from airflow_torchx.task.log import TaskLog, write_rest
from airflow_torchx.testing import FakeEngine, ManualClock, Program
from tests.unit.apps import app, planned

if TYPE_CHECKING:
    from collections.abc import Callable

FOREVER = Program(runs_for_s=None)
BEGIN_S: Final = datetime(2026, 11, 29, 9, 14, 2, 250_000, tzinfo=UTC).timestamp()


def never() -> bool:
    """Return False."""
    return False


def launched(program: Program, replicas: int = 2) -> FakeEngine:
    """Return an engine with a launched app of this program."""
    engine = FakeEngine(images=["busybox"], programs=program)
    launching.launch(engine, planned(app(replicas)))
    return engine


def written(events: list[dict[str, object]], replica: int) -> list[str]:
    """Return the lines of one replica without their prefix."""
    return [
        line.split(" ", 1)[1]
        for event in events
        if event.get("replica") == replica
        for line in str(event["event"]).splitlines()
    ]


def join_readers() -> None:
    """Wait until every reader of a log has ended."""
    for thread in threading.enumerate():
        if thread.name.startswith("app-1-"):
            thread.join(30)


def test_every_line_is_written_once_and_bursts_are_one_event() -> None:
    """Up to 200 lines of a replica become one event, even if other lines came between."""
    lines = [f"line {i}" for i in range(3_000)]
    engine = launched(Program(lines=lines))

    with capture_logs() as events, TaskLog(engine, attach.look(engine, "app-1")) as log:
        join_readers()
        log.finish(30, never)

    assert lines == written(events, 0)  # type: ignore[arg-type]
    assert lines == written(events, 1)  # type: ignore[arg-type]
    assert {"trainer"} == {event["role"] for event in events}
    assert len(events) <= 2 * 6_000 / 200


def test_queued_lines_are_written_after_the_readers_end() -> None:
    """Lines that are still queued when the readers end are written."""
    engine = launched(Program(lines=["hello"]))

    with capture_logs() as events, TaskLog(engine, attach.look(engine, "app-1")) as log:
        join_readers()
        log.finish(30, never)

    assert ["hello"] == written(events, 0) == written(events, 1)  # type: ignore[arg-type]


def test_a_container_cannot_fold_the_task_log() -> None:
    """Markers of Airflow's log groups are removed from a container's output."""
    engine = launched(Program(lines=["::group::mine", "in it", "::endgroup::"]), 1)

    with capture_logs() as events, TaskLog(engine, attach.look(engine, "app-1")) as log:
        log.finish(30, never)

    assert ["mine", "in it", ""] == written(events, 0)  # type: ignore[arg-type]


def engine_of(*lines: str, every_s: float = 0.0) -> tuple[FakeEngine, ManualClock]:
    """Return an engine, and its clock, with one replica that has written these lines and ended."""
    clock = ManualClock(BEGIN_S)
    program = Program(lines=lines, line_every_s=every_s)
    engine = FakeEngine(images=["busybox"], programs=program, clock=clock, sleep=clock.sleep)
    launching.launch(engine, planned(app(1)))
    clock.advance(100)
    return engine, clock


def follow(engine: FakeEngine) -> None:
    """Write the log of an app that has ended as a task does that follows it."""
    with TaskLog(engine, attach.look(engine, "app-1")) as log:
        log.finish(30, never)


def copy(engine: FakeEngine, max_bytes: int = 1_000_000) -> None:
    """Write the log of an app that has ended as a task does that resumes."""
    matches = RuleMatches(RuleSearch(()))
    write_rest(
        engine,
        attach.look(engine, "app-1"),
        {},
        max_bytes=max_bytes,
        should_stop=never,
        matches=matches,
    )


@pytest.mark.parametrize("write", [follow, copy])
def test_each_line_has_its_own_time(write: Callable[[FakeEngine], None]) -> None:
    """A line has the time at which its replica wrote it, as Airflow writes times."""
    engine, _ = engine_of("one", "two", "three", every_s=1.5)

    with capture_logs() as events:
        write(engine)

    assert [
        ("trainer/0 one", "2026-11-29T09:14:02.250000Z"),
        ("trainer/0 two", "2026-11-29T09:14:03.750000Z"),
        ("trainer/0 three", "2026-11-29T09:14:05.250000Z"),
    ] == [(event["event"], event["timestamp"]) for event in events]


def test_lines_of_one_second_are_one_event() -> None:
    """Airflow shows times to the second, so lines of one second need one time."""
    engine, _ = engine_of("a", "b", "c", "d", every_s=0.5)

    with capture_logs() as events:
        copy(engine)

    assert ["trainer/0 a\ntrainer/0 b", "trainer/0 c\ntrainer/0 d"] == [
        event["event"] for event in events
    ]


def test_levels_of_pytorch_are_levels_of_the_task_log() -> None:
    """A warning or an error of PyTorch is an event of its own, with that level."""
    warning = "[rank0]:[W1129 09:19:38.1 socket.cpp:697] [c10d] slow"
    error = "E1129 09:19:38.123000 71 torch/distributed/run.py:852] failed"
    engine, _ = engine_of("step 1", warning, warning, error, "step 2")

    with capture_logs() as events:
        copy(engine)

    assert [("info", 1), ("warning", 2), ("error", 1), ("info", 1)] == [
        (event["log_level"], len(event["event"].splitlines())) for event in events
    ]


def test_a_note_about_omitted_lines_stands_before_the_others() -> None:
    """The note has the time of the first line that is kept, because Airflow sorts by time."""
    engine, _ = engine_of("one", "two", "three", every_s=1.5)

    with capture_logs() as events:
        copy(engine, max_bytes=10)

    assert "(omitted 1 lines before this" in events[0]["event"]
    assert events[0]["timestamp"] == events[1]["timestamp"]


def test_an_unreadable_log_is_not_an_error() -> None:
    """An unreadable log leaves a note in the task log."""
    engine = launched(Program(), 1)
    engine.fail_next("logs", EngineError("driver 'none' does not support reading"))

    with capture_logs() as events, TaskLog(engine, attach.look(engine, "app-1")) as log:
        log.finish(30, never)

    assert "(cannot read its log: driver 'none'" in str(events[0]["event"])


def test_a_log_that_does_not_end_is_given_up() -> None:
    """A log that does not end in time is replaced by the command that shows it."""
    engine = launched(FOREVER, 1)

    with capture_logs() as events, TaskLog(engine, attach.look(engine, "app-1")) as log:
        log.finish(0.2, never)

    assert "docker logs app-1-trainer-0" in str(events[-1]["event"])


def test_finishing_can_be_stopped() -> None:
    """A killed task does not wait for the rest of its logs."""
    engine = launched(FOREVER, 1)

    with TaskLog(engine, attach.look(engine, "app-1")) as log, pytest.raises(StopRequested):
        log.finish(30, lambda: True)


def test_leaving_ends_every_reader() -> None:
    """No reader thread outlives the log."""
    engine = launched(FOREVER, 4)
    before = threading.active_count()

    with TaskLog(engine, attach.look(engine, "app-1")):
        pass
    deadline = time.monotonic() + 60
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.05)

    assert before >= threading.active_count()


def test_a_watch_ends_with_the_app() -> None:
    """A watch writes all logs and returns the times of the end."""
    engine = launched(Program(lines=["hello"], runs_for_s=0.3))

    with capture_logs() as events:
        ended = attach.watch(engine, attach.look(engine, "app-1"), {}, never, TaskLog)

    assert ended.state is AppState.SUCCEEDED
    assert all(r.duration_s is not None for role in ended.roles_statuses for r in role.replicas)
    assert ["hello"] == written(events, 1)  # type: ignore[arg-type]


def test_the_end_of_each_log_is_reported() -> None:
    """A watch asks the daemon when a log ends, and does not wait for its next look."""
    engine, ended = launched(Program()), threading.Semaphore(0)
    log = TaskLog(engine, attach.look(engine, "app-1"))
    log.on_end = ended.release

    with log:
        assert all(ended.acquire(timeout=60) for _ in range(2))


def test_a_watch_that_is_stopped_leaves_the_app_alone() -> None:
    """A stopped watch leaves the app running."""
    engine = launched(FOREVER)

    with pytest.raises(StopRequested):
        attach.watch(engine, attach.look(engine, "app-1"), {}, lambda: True, TaskLog)

    assert "stop" not in engine.calls


def test_an_end_is_final() -> None:
    """An app whose containers are removed after its end keeps the state of its end."""
    engine = launched(Program(), 1)
    ended = attach.look(engine, "app-1")
    lifecycle.delete(engine, "app-1")

    assert AppState.SUCCEEDED is attach.inspected(engine, ended).state


def test_an_app_that_is_removed_during_a_watch_is_an_error() -> None:
    """An app that is removed during a watch is an error."""
    engine = launched(FOREVER, 1)

    def remove() -> bool:
        for row in engine.rows({labels.APP_ID: "app-1"}):
            engine.remove(row.id)
        return False

    with pytest.raises(AppNotFoundError):
        attach.watch(engine, attach.look(engine, "app-1"), {}, remove, TaskLog)
