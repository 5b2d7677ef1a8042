"""What happened to an app, as text."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_torchx.core.state.report import (
    cause,
    failure_card,
    replica_name,
    replica_table,
    seconds,
    telling_lines,
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
    """Return the cells of a table's lines, its rule left out."""
    return [
        [cell.strip() for cell in line.split("   ") if cell.strip()]
        for line in table.splitlines()
        if "─" not in line
    ]


def test_a_failure_card() -> None:
    """The card tells who failed first and why, how everybody is, and the last lines."""
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


def test_one_line_is_one_line() -> None:
    """Numbers and nouns agree."""
    assert "\nlast 1 line of trainer/0:\n  died" in failure_card(app(replica()), ["died"])


def test_a_long_line_is_cut() -> None:
    """An error is to be read."""
    card = failure_card(app(replica(exit_code=1)), ["x" * 5_000_000])

    assert len(card) < 3_000
    assert "(4,998,000 more characters)" in card


def test_a_replica_that_wrote_nothing() -> None:
    """A card without lines says that there are none."""
    assert failure_card(app(replica(exit_code=1)), []).endswith("\n\ntrainer/0 wrote nothing.")


def test_a_cancelled_app_blames_nobody() -> None:
    """Without a failure, the card tells that the app was cancelled, and nobody's lines."""
    card = failure_card(app(replica(AppState.CANCELLED), state=AppState.CANCELLED), [])

    assert card.startswith("app 'train-x1' CANCELLED: it was cancelled\n\nreplica ")
    assert card.endswith("-")


def test_columns_with_nothing_to_tell_are_left_out() -> None:
    """A table of replicas that ended well has no signals, no memory and no notes."""
    table = replica_table(app(replica(AppState.SUCCEEDED, ran_s=1.5, exit_code=0)))

    assert [
        ["replica", "state", "exit code", "duration"],
        ["trainer/0", "SUCCEEDED", "0", "1.5 s"],
    ] == cells(table)


def test_what_is_not_known_is_a_dash() -> None:
    """A replica that runs has no exit code and no duration."""
    assert ["trainer/0", "RUNNING", "-", "-"] == cells(
        replica_table(app(replica(AppState.RUNNING)))
    )[1]


@pytest.mark.parametrize(("restarts", "note"), [(1, "restarted once"), (3, "restarted 3 times")])
def test_restarts_are_noted(restarts: int, note: str) -> None:
    """A replica that was started again says how often, even if it ended well."""
    table = replica_table(app(replica(AppState.SUCCEEDED, exit_code=0, num_restarts=restarts)))

    assert note == cells(table)[1][-1]


def test_only_the_first_failure_is_blamed() -> None:
    """Of two failures the earlier one is marked, and the Engine's words stand beside each."""
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


def test_names_are_shown_as_they_are() -> None:
    """Brackets and colons in a role's name are neither markup nor pictures."""
    assert ["[red]a:key:b/0"] == cells(replica_table(app(replica(role="[red]a:key:b"))))[1][:1]


def test_a_table_fits_the_log() -> None:
    """Long words are folded and nothing is cut off."""
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
            "exit code 137 (SIGKILL; if nobody killed it, perhaps out of memory)",
        ),
        ({"exit_code": 127, "error": "no such file"}, "exit code 127: no such file"),
        (
            {"exit_code": 137, "signal": "SIGKILL", "oom_killed": True},
            "killed, out of memory (exit code 137); raise resource.memMB",
        ),
        ({"error": "its container is gone"}, "its container is gone"),
        ({}, "it has no exit code"),
    ],
)
def test_causes(fields: dict[str, Any], expected: str) -> None:
    """The most telling fact is told: memory, then exit code and signal, then the Engine's words."""
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
    """Durations are in the two largest units that matter."""
    assert expected == seconds(duration_s)


def test_replicas_are_named_like_torchx_names_them() -> None:
    """Role, slash, index."""
    assert "trainer/3" == replica_name(replica(index=3))


def test_the_banner_of_torchrun_does_not_hide_the_cause() -> None:
    """Its traceback and banner are longer than what is shown; what its workers wrote counts."""
    worker = [f"[0]:epoch {i}" for i in range(30)]
    worker += ["[0]:Traceback (most recent call last):", "[0]:ValueError: loss is NaN"]
    banner = [
        "Traceback (most recent call last):",
        *("  somewhere in torchrun" for _ in range(20)),
        "torch.distributed.elastic.multiprocessing.errors.ChildFailedError: ",
        *("=====" for _ in range(20)),
    ]

    shown = telling_lines(worker + banner)

    assert 20 == len(shown)
    assert [
        "[0]:ValueError: loss is NaN",
        "(the traceback of torchrun itself is left out)",
    ] == shown[-2:]


def test_the_last_lines_of_other_programs_are_shown_as_they_are() -> None:
    """Also when they are few."""
    lines = [f"line {i}" for i in range(30)]

    assert lines[-20:] == telling_lines(lines)
    assert ["only"] == telling_lines(["only"])
