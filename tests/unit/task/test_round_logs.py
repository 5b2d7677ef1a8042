"""The logs of an app that is restarted, live and after a deferral."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING

# Its first import configures structlog: in a test, that would end `capture_logs`.
import airflow  # noqa: F401
import pytest
from structlog.testing import capture_logs

from airflow_torchx.cli import log
from airflow_torchx.cli.log import LineFilter, parse_identifier
from airflow_torchx.core.engine import labels
from airflow_torchx.runtime import attach, launching, lifecycle, waiting
from airflow_torchx.runtime.gang_log import Detached
from airflow_torchx.runtime.replica_log import Span, Stream
from airflow_torchx.specs import AppState
from airflow_torchx.task.log import TaskLog, write_rest
from airflow_torchx.testing import FakeEngine, Program
from tests.unit.apps import app, planned

if TYPE_CHECKING:
    from collections.abc import MutableMapping, Sequence

    from airflow_torchx.core.engine.containers import ContainerSpec


def program(spec: ContainerSpec) -> Program:
    """Return a program that names its round; replica 1 fails in rounds 0 and 1."""
    number = spec.labels.get(labels.ROUND, "0")
    lines = [f"round {number} line {index}" for index in range(5)]
    fails = spec.replica == 1 and number != "2"
    return Program(lines=lines, line_every_s=0.02, runs_for_s=0.2, exit_code=int(fails))


@pytest.fixture
def engine() -> FakeEngine:
    """Return an engine with a launched app that is restarted twice."""
    engine = FakeEngine(images=["busybox"], programs=program)
    launching.launch(engine, planned(app(2, max_retries=3)))
    return engine


def lines_of(events: Sequence[MutableMapping[str, object]], replica: int) -> list[str]:
    """Return the lines of a replica with their prefix."""
    own = [str(event["event"]) for event in events if event.get("replica") == replica]
    return [line for text in own for line in text.splitlines()]


def expected(replica: int) -> list[str]:
    """Return the lines that a replica writes in three rounds; prefixes have one width later."""
    return [
        f"trainer/{replica}{f' r{number}' if number else ''} round {number} line {index}"
        for number in range(3)
        for index in range(5)
    ]


def single_spaced(lines: Sequence[str]) -> list[str]:
    """Return lines without the padding of their prefix."""
    return [" ".join(line.split()) for line in lines]


def test_the_logs_of_all_rounds_are_written_live(engine: FakeEngine) -> None:
    """Each line is written once, with its round, and those of a replica in order."""
    with capture_logs() as events:
        seen = attach.look(engine, "app-1")
        ended = attach.watch(engine, seen, {}, lambda: False, TaskLog)

    assert AppState.SUCCEEDED is ended.state
    for replica in range(2):
        assert expected(replica) == single_spaced(lines_of(events, replica))


def test_the_logs_of_all_rounds_are_written_after_a_deferral(engine: FakeEngine) -> None:
    """What was not written live is written afterwards, from the line where that ended."""
    calls = iter(range(10_000))
    with capture_logs() as events:
        seen = attach.look(engine, "app-1")
        cursors = {}
        try:
            attach.watch(engine, seen, {}, lambda: next(calls) > 6, TaskLog)
        except Detached as detached:
            cursors = dict(detached.cursors)
        ended = waiting.wait(engine, "app-1", timeout_s=60)
        cursors = dict(
            write_rest(engine, ended, cursors, max_bytes=10**6, should_stop=lambda: False)
        )
        # Nothing is left.
        write_rest(engine, ended, cursors, max_bytes=10**6, should_stop=lambda: False)

    assert AppState.SUCCEEDED is ended.state
    for replica in range(2):
        assert expected(replica) == single_spaced(lines_of(events, replica))
    names = [f"trainer/{replica}" for replica in range(2)]
    keys = [f"{name}{end}" for name in names for end in ("", "/r1", "/r2")]
    assert sorted(keys) == sorted(cursors)


def test_a_round_that_began_and_ended_between_two_looks_is_written(engine: FakeEngine) -> None:
    """The end of the app looks for all rounds, also for those that another client made."""
    waiting.wait(engine, "app-1", timeout_s=60)
    with capture_logs() as events, TaskLog(engine, attach.look(engine, "app-1")) as writer:
        writer.finish(30, lambda: False)

    assert expected(0) == single_spaced(lines_of(events, 0))


def test_rounds_of_which_containers_were_removed(engine: FakeEngine) -> None:
    """The logs of the rounds that are left are written."""
    waiting.wait(engine, "app-1", timeout_s=60)
    for row in engine.rows({}):
        if labels.ROUND not in row.labels:
            engine.remove(row.id)
    seen = lifecycle.observe(engine, "app-1")
    assert seen is not None
    with capture_logs() as events, contextlib.suppress(Detached):
        write_rest(engine, seen, {}, max_bytes=10**6, should_stop=lambda: False)

    assert expected(1)[5:] == single_spaced(lines_of(events, 1))


@pytest.mark.parametrize("is_last", [False, True])
def test_the_command_line_shows_all_rounds_or_the_last(
    engine: FakeEngine, capsys: pytest.CaptureFixture[str], *, is_last: bool
) -> None:
    """With ``--last-round``, the lines before the last restart are left out."""
    waiting.wait(engine, "app-1", timeout_s=60)
    app = log.chosen(attach.look(engine, "app-1"), parse_identifier("app-1"), last_round=is_last)

    log._read(engine, app, LineFilter(re.compile("line"), Span(), Stream.COMBINED))  # noqa: SLF001

    shown = single_spaced(capsys.readouterr().out.splitlines())
    assert expected(1)[10 if is_last else 0 :] == [line for line in shown if "trainer/1" in line]
