"""Tests of reports of an app's state."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_torchx.core.engine.start_advice import start_advice
from airflow_torchx.core.state.report import (
    age_text,
    cause,
    duration_text,
    failure_card,
    relevant_lines,
    replica_name,
    replica_table,
)
from airflow_torchx.specs import AppState, DescribeAppResponse, ReplicaStatus, RoleStatus

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def replica(
    state: AppState = AppState.FAILED,
    *,
    role: str = "trainer",
    index: int = 0,
    ran_s: float | None = None,
    **fields: object,
) -> ReplicaStatus:
    """Return a replica that ran for some seconds from noon on."""
    given: dict[str, Any] = fields
    if ran_s is not None:
        given |= {"started_at": NOON, "finished_at": NOON + timedelta(seconds=ran_s)}
    return ReplicaStatus(index, state, role, f"x1-{role}-{index}", **given)


def app(*replicas: ReplicaStatus, state: AppState = AppState.FAILED) -> DescribeAppResponse:
    """Return an app of these replicas."""
    return DescribeAppResponse("train-x1", state, roles_statuses=[RoleStatus("r", replicas)])


def cells(table: str) -> list[list[str]]:
    """Return the cells of a table's lines, without its rule."""
    return [
        [cell.strip() for cell in line.split("   ") if cell.strip()]
        for line in table.splitlines()
        if "─" not in line
    ]


def test_a_failure_card() -> None:
    """The card has the first failure with its cause, the table of replicas and the last lines."""
    card = failure_card(
        app(
            replica(AppState.CANCELLED, index=0, ran_s=200, exit_code=143, signal="SIGTERM"),
            replica(index=1, ran_s=4.2, exit_code=137, signal="SIGKILL", oom_killed=True),
        ),
        ["step 1", "  step 2"],
    )

    assert (
        "app 'train-x1' FAILED: trainer/1 failed first: "
        "killed, out of memory (exit code 137); raise resource.memMB\n"
        "\n"
        "replica     state       exit code   signal    out of memory   duration     note\n"
        "───────────────────────────────────────────────────────────────────────────────────────\n"
        "trainer/0   CANCELLED   143         SIGTERM   no              3 min 20 s\n"
        "trainer/1   FAILED      137         SIGKILL   yes             4.2 s        failed first\n"
        "\n"
        "last 2 lines of trainer/1:\n"
        "  step 1\n"
        "    step 2"
    ) == card


def test_the_title_of_one_line() -> None:
    """The title of one line is singular."""
    assert "\nlast 1 line of trainer/0:\n  died" in failure_card(app(replica()), ["died"])


def test_a_long_line_is_cut() -> None:
    """A long line is cut."""
    card = failure_card(app(replica(exit_code=1)), ["x" * 5_000_000])

    assert len(card) < 3_000
    assert "(4,998,000 more characters)" in card


def test_a_replica_that_wrote_nothing() -> None:
    """A card without log lines says that the replica wrote nothing."""
    assert failure_card(app(replica(exit_code=1)), []).endswith("\n\ntrainer/0 wrote nothing.")


def test_the_card_of_a_cancelled_app() -> None:
    """The card of a cancelled app has the reason and the last lines of the first replica."""
    replicas = [replica(AppState.CANCELLED, index=index, exit_code=143) for index in range(2)]
    cancelled = app(*replicas, state=AppState.CANCELLED)

    card = failure_card(cancelled, ["saved"], "the task was asked to end")

    assert card.startswith("app 'train-x1' CANCELLED: the task was asked to end\n\nreplica ")
    assert card.endswith("\n\nlast 1 line of trainer/0:\n  saved")
    assert failure_card(cancelled, []).startswith("app 'train-x1' CANCELLED\n\n")


@pytest.mark.parametrize(
    ("exit_code", "line", "advice"),
    [
        (1, "exec ./a.sh: no such file or directory", "./a.sh or the program that its first line"),
        (255, "exec /a.py: exec format error", "/a.py is not a program for this host. A script n"),
        (127, "bash: line 1: torchrun: command not found", "The image has no torchrun, which the"),
        (127, "sh: torchrun: not found", "The image has no torchrun, which the components dist."),
        (127, "sh: ./a.sh: not found", "./a.sh or the program that its first line (#!) names is"),
        (127, "bash: a.sh: cannot execute: required file not found", "a.sh or the program that i"),
        (126, "sh: 1: ./a.sh: Permission denied", "./a.sh is not executable. Run `chmod +x` on i"),
        (127, r"/usr/bin/env: 'python3\r': No such file or directory", "A script has CRLF line e"),
        (2, r"a.sh: line 1: cd: $'/\r': No such file or directory", "A script has CRLF line ends"),
        (2, "a.sh: 1: set: Illegal option -", "A script has CRLF line ends. Convert them to LF"),
        (127, ": command not found", "A script has CRLF line ends. Convert them to LF, as dos2"),
        (2, ": numeric argument required", "A script has CRLF line ends"),
        (2, "a.sh: 1: exit: Illegal number: 1", "A script has CRLF line ends"),
        (2, r"python3: can't open file '/app/t.py\r': [Errno 2]", "A script has CRLF line ends"),
        (2, 'a.sh: 5: Syntax error: end of file unexpected (expecting "then")', "A script has"),
        (2, "a.sh: line 5: syntax error: unexpected end of file", "A script has a syntax error"),
    ],
)
def test_a_program_that_did_not_start(exit_code: int, line: str, advice: str) -> None:
    """The card says why a program did not start, also if its last line says something else."""
    card = failure_card(app(replica(exit_code=exit_code)), [line, "see above"])

    assert card.splitlines()[1].startswith(advice)


@pytest.mark.parametrize(
    ("exit_code", "line"),
    [
        (1, "sh: ./a.sh: not found"),
        (1, "open /data/x: Permission denied"),
        (1, r"ValueError: invalid literal for int() with base 10: '3\r'"),
        (1, "SyntaxError: unexpected character after line continuation character"),
        (1, "sh: syntax error: unexpected end of file"),
        (139, "exec ./a.sh: no such file or directory"),
        (None, 'exec: "bash": executable file not found'),
    ],
)
def test_a_program_that_failed(exit_code: int | None, line: str) -> None:
    """The card gives no advice about the start of a program that failed by itself."""
    assert "" == failure_card(app(replica(exit_code=exit_code)), [line]).splitlines()[1]


@pytest.mark.parametrize("text", ["/", "x", "a:", "env: ", "python", "syntax error: "])
@pytest.mark.parametrize("exit_code", [1, 2, 126, 127])
def test_a_line_of_a_megabyte(exit_code: int, text: str) -> None:
    """A line of a megabyte is searched in a moment; a nested repetition would take years."""
    assert start_advice(text * (1_000_000 // len(text)), exit_code) is None


def test_empty_columns_are_omitted() -> None:
    """Empty columns are omitted."""
    table = replica_table(app(replica(AppState.SUCCEEDED, ran_s=1.5, exit_code=0)))

    assert [
        ["replica", "state", "exit code", "duration"],
        ["trainer/0", "SUCCEEDED", "0", "1.5 s"],
    ] == cells(table)


def test_unknown_values_are_dashes() -> None:
    """A running replica has no exit code, and no duration without its start or the time."""
    started = replica(AppState.RUNNING, started_at=NOON)

    for table in (replica_table(app(replica(AppState.RUNNING)), NOON), replica_table(app(started))):
        assert ["trainer/0", "RUNNING", "-", "-"] == cells(table)[1]


@pytest.mark.parametrize(
    ("state", "ended_s", "expected"),
    [
        (AppState.RUNNING, None, "1 min 30 s"),  # it runs
        (AppState.PENDING, None, "1 min 30 s"),  # it is paused
        (AppState.RUNNING, -5, "1 min 30 s"),  # its run before a restart ended earlier
        (AppState.FAILED, 4, "4.0 s"),
    ],
)
def test_duration_until_now(state: AppState, ended_s: float | None, expected: str) -> None:
    """The duration of a replica that has not ended is the time since its start."""
    end = None if ended_s is None else NOON + timedelta(seconds=ended_s)
    one = replica(state, started_at=NOON, finished_at=end)

    table = replica_table(app(one), NOON + timedelta(seconds=90))

    assert expected == cells(table)[1][3]


@pytest.mark.parametrize(("restarts", "note"), [(1, "restarted once"), (3, "restarted 3 times")])
def test_the_number_of_restarts_is_noted(restarts: int, note: str) -> None:
    """The note of a restarted replica has the number of restarts, even if it succeeded."""
    table = replica_table(app(replica(AppState.SUCCEEDED, exit_code=0, num_restarts=restarts)))

    assert note == cells(table)[1][-1]


def test_only_the_first_failure_is_marked() -> None:
    """The first failure alone is marked, and each replica has the Engine's message."""
    table = replica_table(
        app(
            replica(ran_s=9, exit_code=1),
            replica(index=1, ran_s=8, exit_code=127, error="no such file"),
            replica(index=2, error="its container is gone from the daemon"),
        )
    )

    assert [
        ["trainer/0", "FAILED", "1", "9.0 s"],
        ["trainer/1", "FAILED", "127", "8.0 s", "failed first, no such file"],
        ["trainer/2", "FAILED", "-", "-", "its container is gone from the daemon"],
    ] == cells(table)[1:]


def test_names_are_not_interpreted() -> None:
    """Brackets and colons in a role's name are neither markup nor emoji."""
    assert ["[red]a:key:b/0"] == cells(replica_table(app(replica(role="[red]a:key:b"))))[1][:1]


def test_a_table_fits_the_log() -> None:
    """Long words are folded, not cut."""
    words = "OCI runtime create failed: " + "q" * 300
    table = replica_table(app(replica(error=words)))

    assert max(map(len, table.splitlines())) <= 120
    assert 300 == table.count("q")
    assert "\x1b" not in table


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"exit_code": 1}, "exit code 1"),
        ({"exit_code": 139, "signal": "SIGSEGV"}, "exit code 139 (SIGSEGV)"),
        (
            {"exit_code": 137, "signal": "SIGKILL"},
            "exit code 137 (SIGKILL, possibly out of memory)",
        ),
        ({"exit_code": 127, "error": "no such file"}, "exit code 127: no such file"),
        (
            {"exit_code": 137, "signal": "SIGKILL", "oom_killed": True},
            "killed, out of memory (exit code 137); raise resource.memMB",
        ),
        ({"error": "its container is gone"}, "its container is gone"),
        ({}, "no exit code"),
    ],
)
def test_causes(fields: dict[str, Any], expected: str) -> None:
    """The cause is running out of memory, else exit code and signal, else the Engine's message."""
    assert expected == cause(replica(**fields))


@pytest.mark.parametrize(
    ("duration_s", "expected"),
    [
        (None, "-"),
        (0, "0.0 s"),
        (0.44, "0.4 s"),
        (59.9, "59.9 s"),
        (59.96, "1 min 0 s"),
        (60, "1 min 0 s"),
        (200.4, "3 min 20 s"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h 0 min"),
        (7500, "2 h 5 min"),
        (360_000, "100 h 0 min"),
    ],
)
def test_durations(duration_s: float | None, expected: str) -> None:
    """Durations have the two largest units."""
    assert expected == duration_text(duration_s)


@pytest.mark.parametrize(
    ("age_s", "expected"),
    [
        (-5, "0 s"),
        (0.9, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (3599, "59 min"),
        (3600, "1 h"),
        (86_399, "23 h"),
        (864_000, "10 d"),
    ],
)
def test_ages(age_s: float, expected: str) -> None:
    """Ages have the largest unit; that of a daemon whose clock is ahead is 0 s."""
    assert expected == age_text(age_s)


def test_the_name_of_a_replica() -> None:
    """A replica's name has the form role/index."""
    assert "trainer/3" == replica_name(replica(index=3))


def test_the_banner_of_torchrun_does_not_hide_the_cause() -> None:
    """Torchrun's traceback and banner do not displace the lines of its workers."""
    worker = [f"[0]:epoch {i}" for i in range(30)]
    worker += ["[0]:Traceback (most recent call last):", "[0]:ValueError: loss is NaN"]
    banner = [
        "Traceback (most recent call last):",
        *("  somewhere in torchrun" for _ in range(20)),
        "torch.distributed.elastic.multiprocessing.errors.ChildFailedError: ",
        *("=====" for _ in range(20)),
    ]

    shown = relevant_lines(worker + banner)

    assert 20 == len(shown)
    assert [
        "[0]:ValueError: loss is NaN",
        "(torchrun's own traceback is omitted)",
    ] == shown[-2:]


def test_lines_of_workers_in_the_traceback_of_torchrun_are_shown() -> None:
    """A worker's buffered lines, which torchrun copies into its own traceback, are not lost."""
    lines = [
        "E1130 api.py:1002] failed (exitcode: 85) local_rank: 0 (pid: 8) of binary: python3",
        "Traceback (most recent call last):",
        '  File "/usr/local/bin/torchrun", line 8, in <module>',
        "[0]:epoch 3",
        "    sys.exit(main())",
        "torch.distributed.elastic.multiprocessing.errors.ChildFailedError: ",
        "Root Cause (first observed failure):",
        "[0]:",
        "  exitcode  : 85 (pid: 8)",
    ]

    assert [
        lines[0],
        "[0]:epoch 3",
        "(torchrun's own traceback is omitted)",
    ] == relevant_lines(lines)


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("\x1b[1;31mred\x1b[0m and \x1b[38;5;9mmore\x1b[m", "red and more"),
        ("\x1b[2K\x1b[1Gprogress\x1b[?25h", "progress"),
        ("\x1b]8;;http://docs\x1b\\link\x1b]8;;\x07", "link"),
        ("a\x1b", "a\x1b"),
        ("[31m is text", "[31m is text"),
    ],
)
def test_last_lines_have_no_colors(line: str, shown: str) -> None:
    """A card has no control sequences of terminals, which Airflow shows only in its log lines."""
    assert [shown] == relevant_lines([line])


@pytest.mark.parametrize("text", ["\x1b[", "\x1b[3", "\x1b]", "\x1b]8", "\x1b"])
def test_a_long_last_line_is_searched_fast(text: str) -> None:
    """Control sequences in a line of a megabyte are found in linear time."""
    (shown,) = relevant_lines([text * (1_000_000 // len(text))])

    assert 1_000_000 >= len(shown)


def test_last_lines_of_other_programs() -> None:
    """The last lines of other programs are returned unchanged."""
    lines = [f"line {i}" for i in range(30)]

    assert lines[-20:] == relevant_lines(lines)
    assert ["only"] == relevant_lines(["only"])
