"""The log of one replica on the fake engine."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from airflow_torchx.errors import (
    AppNotFoundError,
    EngineNotFoundError,
    EngineUnreachableError,
    InvalidAppError,
)
from airflow_torchx.runtime import launching
from airflow_torchx.runtime.replica_log import ReplicaLog, Span, Stream, find_container, lines
from airflow_torchx.specs import RetryPolicy
from airflow_torchx.testing import FakeEngine, ManualClock, Program
from tests.unit.apps import app, planned

if TYPE_CHECKING:
    from collections.abc import Callable


def launched(
    program: Program, clock: Callable[[], float] = time.time, **role: object
) -> tuple[FakeEngine, str]:
    """Return an engine with one replica of this program, and the replica's container."""
    engine = FakeEngine(images=["busybox"], programs=program, clock=clock)
    launching.launch(engine, planned(app(1, **role)))
    return engine, find_container(engine, "app-1", "trainer", 0)


def test_a_finished_log_is_read_whole() -> None:
    """A finished log has the lines of both streams in order, each with its newline."""
    engine, container = launched(Program(lines=["one", ("stderr", "two"), "three"]))

    assert ["one\n", "two\n", "three\n"] == list(lines(ReplicaLog(engine, container)))


def test_streams_can_be_told_apart() -> None:
    """A stream is selected by TorchX's names."""
    engine, container = launched(Program(lines=["out", ("stderr", "err")]))

    assert ["out\n"] == list(lines(ReplicaLog(engine, container, streams=Stream.STDOUT)))
    assert ["err\n"] == list(lines(ReplicaLog(engine, container, streams=Stream.STDERR)))


def test_a_regex_matches_lines_and_not_pieces_of_them() -> None:
    """A line over 16 KiB arrives in pieces and is matched as one line."""
    long = "x" * 20_000 + " needle"
    engine, container = launched(Program(lines=["hay", long]))

    assert [f"{long}\n"] == list(lines(ReplicaLog(engine, container), "^x.* needle$"))


def test_an_invalid_regex_is_an_error_at_once() -> None:
    """An invalid regex is an error before the log is opened."""
    engine = FakeEngine(images=["busybox"])

    with pytest.raises(InvalidAppError, match=r"'\(' is not a regular expression: missing \)"):
        lines(ReplicaLog(engine, "x"), "(")


def test_a_span_cuts_within_a_second() -> None:
    """A span is more precise than a second."""
    clock = ManualClock()
    engine, container = launched(Program(lines=["a", "b", "c"], line_every_s=0.1), clock)
    began = next(row.created_at for row in engine.rows({}))
    clock.advance(0.35)
    every = list(ReplicaLog(engine, container, follow=True))
    second = every[1].time_ns

    span = Span(since_ns=second, until_ns=second)

    assert ["b"] == [line.text for line in ReplicaLog(engine, container, span=span)]
    assert began.timestamp() < (second or 0) / 1e9


def test_a_naive_time_is_local_and_exact() -> None:
    """A naive time is local, as in TorchX, and keeps its microseconds."""
    moment = datetime(2026, 11, 24, 1, 2, 3, 456_789, tzinfo=UTC)
    naive = moment.astimezone().replace(tzinfo=None)

    assert Span.between(moment, None) == Span.between(naive, None)
    assert 456_789_000 == (Span.between(moment, None).since_ns or 0) % 1_000_000_000


def test_following_ends_with_the_replica() -> None:
    """A followed log ends with its replica and has its last lines."""
    written = [f"line {i}" for i in range(20)]
    engine, container = launched(Program(lines=written, line_every_s=0.02))

    assert written == [line.text for line in ReplicaLog(engine, container, follow=True)]


def test_following_survives_a_restart_of_the_container() -> None:
    """A followed log continues after a restart without loss or repeats."""
    program = Program(lines=["a", "b"], line_every_s=0.05, exit_code=1, restart_delay_s=0.05)
    engine, container = launched(program, max_retries=2, retry_policy=RetryPolicy.REPLICA)

    assert ["a", "b"] * 3 == [line.text for line in ReplicaLog(engine, container, follow=True)]


def test_following_survives_a_daemon_that_is_away() -> None:
    """A followed log resumes where it was after an outage of the daemon."""
    written = [f"line {i}" for i in range(30)]
    engine, container = launched(Program(lines=written, line_every_s=0.02))
    seen: list[str] = []
    for line in ReplicaLog(engine, container, follow=True):
        seen.append(line.text)
        if len(seen) == 5:
            engine.down = True
            threading.Timer(0.1, setattr, (engine, "down", False)).start()

    assert written == seen


def test_a_log_that_breaks_off_is_an_error_when_it_is_not_followed() -> None:
    """A log that breaks off is an error if it is not followed."""
    engine, container = launched(Program(lines=["a"]))
    engine.down = True

    with pytest.raises(EngineUnreachableError):
        list(ReplicaLog(engine, container))


def test_following_ends_when_it_is_closed() -> None:
    """Another thread can close a followed log while the replica is silent."""
    engine, container = launched(Program(runs_for_s=None, lines=["hello"]))
    log = ReplicaLog(engine, container, follow=True)
    seen: list[str] = []

    for line in log:
        seen.append(line.text)
        threading.Timer(0.1, log.close).start()

    assert ["hello"] == seen


@pytest.mark.timeout(30)
def test_following_ends_when_it_is_closed_while_its_stream_opens() -> None:
    """A log that is closed before it has a stream does not wait for a silent replica."""
    engine, container = launched(Program(runs_for_s=None))
    log = ReplicaLog(engine, container, follow=True)
    engine.before = lambda verb, _: log.close() if verb == "logs" else None

    assert [] == list(log)


def test_following_until_a_day_that_never_comes() -> None:
    """A followed log accepts the last day of the calendar as its end."""
    engine, container = launched(Program(runs_for_s=None, lines=["hello"]))
    span = Span.between(None, datetime(9999, 12, 30, tzinfo=UTC))
    log = ReplicaLog(engine, container, span=span, follow=True)
    broken: list[object] = []
    seen: list[str] = []

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading, "excepthook", broken.append)
        for line in log:
            seen.append(line.text)
            log.close()

    assert ["hello"] == seen
    assert [] == broken


def test_following_ends_after_until() -> None:
    """A followed log with its end in the past ends while the replica runs."""
    engine, container = launched(Program(runs_for_s=None, lines=["hello"]))
    span = Span(until_ns=time.time_ns())

    list(ReplicaLog(engine, container, span=span, follow=True))

    assert ["running"] == [row.state for row in engine.rows({})]


def test_a_container_that_is_removed_ends_its_log_with_an_error() -> None:
    """A removed container ends its log with an error."""
    engine, container = launched(Program(runs_for_s=None, lines=["hello"]))
    log = ReplicaLog(engine, container, follow=True)
    threading.Timer(0.1, engine.remove, (container,)).start()

    with pytest.raises(EngineNotFoundError):
        list(log)


def test_the_tail_is_the_end() -> None:
    """A tail has the last messages."""
    engine, container = launched(Program(lines=["a", "b", "c"]))

    assert ["b", "c"] == [line.text for line in ReplicaLog(engine, container, tail=2)]


def test_a_missing_replica_is_an_error_that_lists_the_others() -> None:
    """The error for a missing replica or app lists the roles on the daemon."""
    engine, _ = launched(Program())

    with pytest.raises(AppNotFoundError, match=r"no replica trainer/7 .* its roles are trainer"):
        find_container(engine, "app-1", "trainer", 7)
    with pytest.raises(AppNotFoundError, match="on this daemon; it has no such app"):
        find_container(engine, "app-2", "trainer", 0)
