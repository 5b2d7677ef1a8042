"""What PyTorch 2.13 writes when a worker fails; the files in ``torchrun`` are of real runs."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_torchx.core.logs.lines import LogLine
from airflow_torchx.core.state.worker_failure import worker_failure

if TYPE_CHECKING:
    from airflow_torchx.specs import WorkerFailure

FOLDER = Path(__file__).parent / "torchrun"
_STAMP = re.compile(r"(\d{4}-\S+?)\.(\d{9})Z (.*)")


def lines_of(name: str) -> list[LogLine]:
    """Return the last lines of a log, with times if Docker was asked for them."""
    found = []
    for text in (FOLDER / f"{name}.log").read_text().splitlines():
        if match := _STAMP.match(text):
            second = datetime.fromisoformat(f"{match[1]}+00:00").timestamp()
            time_ns = int(second) * 10**9 + int(match[2])
            found.append(LogLine("stderr", match[3], time_ns))
        else:
            found.append(LogLine("stderr", text))
    return found[-200:]


def file_of(name: str) -> str:
    """Return the error file of a run; empty if it left none."""
    path = FOLDER / f"{name}.json"
    return path.read_text() if path.exists() else ""


def found(name: str) -> WorkerFailure:
    """Return what is known of a run, of both texts."""
    failure = worker_failure(file_of(name), lines_of(name), None)
    assert failure is not None
    return failure


def at(text: str) -> datetime:
    """Return a time in the evening of the runs."""
    return datetime.fromisoformat(f"2026-11-29T23:{text}+00:00")


@pytest.mark.parametrize(
    ("name", "rank", "code", "signal", "message", "failed_at"),
    [
        ("exit-85", 1, 85, None, "", at("29:59.944564")),
        ("killed", 1, 137, "SIGKILL", "", None),
        ("segfault", 1, 139, "SIGSEGV", "", at("29:29")),
        ("raised", 1, 1, None, "ValueError: loss is NaN", at("29:29")),
        ("two-workers", 1, 85, None, "", at("29:07")),
        ("recorded", 1, 1, None, "ValueError: loss is NaN", at("29:59.385156")),
        ("recorded-two-workers", 1, 1, None, "ValueError: loss is NaN", at("29:50")),
        ("lost-peer", 0, 1, None, "Connection closed by peer", at("29:59.539994")),
        ("reset-by-peer", 0, 1, None, "Connection reset by peer", None),
        ("recorded-lost-peer", 0, 1, None, "Connection closed by peer", None),
    ],
)
def test_a_failed_worker(
    name: str,
    rank: int,
    code: int,
    signal: str | None,
    message: str,
    failed_at: datetime | None,
) -> None:
    """Rank, exit code, signal, error and time are those of the worker that failed first."""
    failure = found(name)

    assert (rank, code, signal) == (failure.rank, failure.exit_code, failure.signal)
    assert message in failure.message
    assert bool(message) == bool(failure.message)
    assert failure.failed_at is not None
    if failed_at is not None:
        assert failed_at == failure.failed_at


@pytest.mark.parametrize("name", ["recorded", "recorded-two-workers"])
@pytest.mark.parametrize("with_file", [True, False])
def test_a_traceback(name: str, *, with_file: bool) -> None:
    """The traceback is read from the file, else from torchrun's block."""
    failure = worker_failure(file_of(name) if with_file else "", lines_of(name), None)

    assert failure is not None
    assert failure.traceback.startswith("Traceback (most recent call last):\n  File ")
    assert failure.traceback.endswith("\nValueError: loss is NaN")
    assert "ValueError: loss is NaN" == failure.message


def test_a_traceback_that_only_the_log_has() -> None:
    """Without @record, the traceback is what the worker printed."""
    failure = found("raised")

    assert failure.traceback.startswith("Traceback (most recent call last):\n  File ")
    assert failure.traceback.endswith("\nValueError: loss is NaN")
    assert "[1]" not in failure.traceback


@pytest.mark.parametrize("name", ["recorded", "raised"])
def test_what_a_worker_prints_elsewhere_is_not_in_its_error(name: str) -> None:
    """Lines of stdout between and after those of a traceback do not get into its error."""
    expected = worker_failure("", lines_of(name), None)
    lines = [
        one
        for line in lines_of(name)
        for one in (line, line._replace(stream="stdout", text="[1]:bye"))
    ]
    later = [line._replace(stream="stdout", text="  step 2") for line in lines_of(name)]

    assert expected == worker_failure("", [*lines, *later], None)


@pytest.mark.parametrize("text", ["step 2", "  step 2"])
def test_lines_after_the_frame_of_the_block(text: str) -> None:
    """Lines after torchrun's block are not in it, also where both streams are one."""
    expected = worker_failure("", lines_of("recorded"), None)
    later = [line._replace(text=text) for line in lines_of("recorded")[:3]]

    assert expected == worker_failure("", [*lines_of("recorded"), *later], None)


def test_a_block_without_its_end() -> None:
    """Of a block that breaks off, the rank and the code count; its traceback may be another's."""
    whole = lines_of("recorded")
    ends = [index for index, line in enumerate(whole) if line.text and not line.text.strip("=")]
    failure = worker_failure("", [*whole[: ends[-1]], LogLine("stderr", "  step 2")], None)

    assert failure is not None
    assert (1, 1) == (failure.rank, failure.exit_code)
    assert "step" not in failure.message + failure.traceback


def test_lines_between_those_of_a_block() -> None:
    """A line that is not indented is not in a traceback that torchrun has indented."""
    whole = lines_of("recorded")
    starts = [index for index, line in enumerate(whole) if "traceback :" in line.text]
    whole[starts[-1] + 1 : starts[-1] + 1] = [LogLine("stderr", "step 2")]

    assert worker_failure("", lines_of("recorded"), None) == worker_failure("", whole, None)


def test_a_caught_exception_is_not_the_reason() -> None:
    """A traceback that a worker printed before it ended with a code of its own is left out."""
    caught = lines_of("raised")[:9]
    failure = worker_failure("", [*caught, *lines_of("two-workers")], None)

    assert failure is not None
    assert (85, "") == (failure.exit_code, failure.message)


def test_the_error_of_the_agent_itself() -> None:
    """Torchrun's own error, before it has workers, is a message without a rank."""
    failure = worker_failure(file_of("rendezvous"), [], None)

    assert failure is not None
    assert (None, None) == (failure.rank, failure.exit_code)
    assert failure.message.startswith("DistNetworkError: The client socket has timed out")


def test_a_file_of_an_earlier_run_does_not_count() -> None:
    """Docker restarts a container with its files, so a file older than the start is ignored."""
    timestamp = 1_795_994_999
    started = datetime.fromtimestamp(timestamp + 0.9, UTC)
    later = datetime.fromtimestamp(timestamp + 1, UTC)

    assert worker_failure(file_of("recorded"), [], started) is not None
    assert worker_failure(file_of("recorded"), [], later) is None


def test_an_agent_that_was_stopped_has_not_failed() -> None:
    """Torchrun records the signal by which it was stopped; that is not a reason."""
    error = {"message": "SignalException: Process 1 got signal: 15", "extraInfo": {"timestamp": 9}}

    assert worker_failure(json.dumps({"message": error}), [], None) is None


def test_a_signal_in_the_file() -> None:
    """A negative code in the file is the signal that killed the worker."""
    error = {"message": "m", "extraInfo": {"timestamp": "9"}, "errorCode": -6}
    failure = worker_failure(json.dumps({"message": error}), [], None)

    assert failure is not None
    assert (134, "SIGABRT", "m") == (failure.exit_code, failure.signal, failure.message)


def test_a_program_that_writes_the_file_itself() -> None:
    """TorchX's documented form has the message as a text."""
    failure = worker_failure('{"message": "no data", "timestamp": 9}', [], None)

    assert failure is not None
    assert "no data" == failure.message


def test_torchrun_without_its_block() -> None:
    """Of an agent that ended before it printed its block, what it logged first is read."""
    lines = [line for line in lines_of("exit-85") if "failed (exitcode" in line.text]
    failure = worker_failure("", lines, None)

    assert failure is not None
    assert (None, 85) == (failure.rank, failure.exit_code)
    assert at("29:59") == (failure.failed_at or at("00:00")).replace(microsecond=0)


def test_the_time_zone_of_a_container() -> None:
    """Torchrun prints local time; the time of the log shows in which zone."""
    lines = [
        line._replace(text=line.text.replace("2026-11-29_23:29:59", "2026-11-30_05:14:59"))
        for line in lines_of("exit-85")
    ]
    failure = worker_failure("", lines, None)

    assert failure is not None
    assert at("29:59") == (failure.failed_at or at("00:00")).replace(microsecond=0)


@pytest.mark.parametrize("lines", [[], ["step 1"], ["Root Cause (first observed failure):"]])
def test_a_log_without_torchrun(lines: list[str]) -> None:
    """A log without torchrun's block says nothing about a worker."""
    assert worker_failure("", [LogLine("stdout", one) for one in lines], None) is None


def test_control_characters_are_replaced() -> None:
    """A message cannot move the cursor of a terminal, and is cut."""
    text = f"\x1b[31mred\x1b[0m\x07\ud800{'x' * 5_000}"
    error = {"message": text, "extraInfo": {"timestamp": "9", "py_callstack": f"a\n{'y' * 9_000}"}}
    failure = worker_failure(json.dumps({"message": error}), [], None)

    assert failure is not None
    assert failure.message.startswith("red??xxx")
    assert len(failure.message) <= 2_000
    assert len(failure.traceback) <= 8_001


LEAF = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
JSON = st.recursive(
    LEAF,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["message", "extraInfo", "timestamp", "py_callstack", "errorCode", "x"]
            ),
            inner,
        )
    ),
    max_leaves=12,
)


@given(JSON)
def test_any_json_is_read_without_an_error(data: object) -> None:
    """A file of any JSON gives a failure of the right types, or none."""
    failure = worker_failure(json.dumps(data), [], None)

    assert failure is None or isinstance(failure.message + failure.traceback, str)
    assert failure is None or failure.exit_code is None or 0 <= failure.exit_code <= 255


@given(st.text(max_size=200))
def test_any_text_is_read_without_an_error(text: str) -> None:
    """A file of any text is not a failure, and neither is a log of one."""
    block = [LogLine("stdout", "Root Cause (first observed failure):", 1)]

    worker_failure(text, [*block, *(LogLine("stdout", one, 1) for one in text.split("\n"))], None)


@given(st.lists(st.sampled_from(["rank", "time", "exitcode", "traceback", "===", "[1]:"])), LEAF)
def test_any_block_is_read_without_an_error(fields: list[str], value: object) -> None:
    """A block with fields of any form gives a failure or none."""
    texts = ["Root Cause (first observed failure):", *(f"  {one} : {value}" for one in fields)]

    worker_failure("", [LogLine("stdout", one, 5) for one in texts], None)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"message": ' * 50_000, "1" * 10_000, "NaN"])
def test_hostile_json(text: str) -> None:
    """Deep nesting and huge numbers are not a failure."""
    assert worker_failure(text, [], None) is None
